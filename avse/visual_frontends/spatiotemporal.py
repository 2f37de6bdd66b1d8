"""What the convolutional visual front-ends share: stacks of frames in front, residual convolutions in time behind."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.streaming import running_sum, with_past
from avse.contracts.visual_frontend import VisualFrontend

_FIELD = 64  # side of the square in the middle of the crop that is used, in pixels
_TEMPORAL_LAYERS = 2


class SpatioTemporal(VisualFrontend):
    """A network in space over stacks of frames, then two residual convolutions over 3 frames.

    A 3-D convolution over `context` frames is a 2-D convolution over stacked frames: the same sum, and several times
    faster on a CPU. A subclass builds its network from `context` channels of `size` x `size` pixels and gives it to
    `add_layers`. Only valid frames are computed.

    Arguments
    ---------
    output_dim : int
        Features per frame.
    context : int
        Frames that the first layer sees (odd, centred; past frames only if causal).
    centred : bool
        Subtract the features' mean over the clip's valid frames (those so far, if causal): what remains describes
        motion rather than the speaker's face.
    size : int
        The middle 64 x 64 pixels of the crop are reduced to `size` x `size` pixels first.
    causal : bool
        True: no frame looks ahead.
    """

    def __init__(
        self, output_dim: int = 128, context: int = 5, centred: bool = True, size: int = 32, causal: bool = False
    ) -> None:
        super().__init__()
        if context % 2 == 0:
            raise ValueError(f"context must be odd, got {context}.")
        self.output_dim, self.context = output_dim, context
        self.causal = self.streams = causal
        self.size, self.centred = size, centred

    def add_layers(self, space: nn.Module, dim: int) -> None:
        """Build all layers.

        Arguments
        ---------
        space : module
            From (frames, context, size, size) to (frames, ...), `dim` values for each frame.
        dim : int
        """
        output_dim = self.output_dim
        self.space = space
        self.project = nn.Linear(dim, output_dim)
        self.norm = nn.LayerNorm(output_dim)
        self.time = nn.ModuleList(nn.Conv1d(output_dim, output_dim, 3) for _ in range(_TEMPORAL_LAYERS))
        self.time_norms = nn.ModuleList(nn.LayerNorm(output_dim) for _ in range(_TEMPORAL_LAYERS))

    def forward(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        # Cut before the crops are scaled: scaling all of a crop takes longer than the first layer.
        margin = (mouth.shape[-1] - _FIELD) // 2
        return super().forward(mouth[..., margin : margin + _FIELD, margin : margin + _FIELD], valid)

    def features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        small = F.adaptive_avg_pool2d(mouth, self.size)
        if self.causal:
            padded = with_past(self, "crops", small, self.context - 1)
        else:
            padded = F.pad(small, (0, 0, 0, 0, self.context // 2, self.context // 2))
        stacks = padded.unfold(1, self.context, 1).permute(0, 1, 4, 2, 3)
        if torch.compiler.is_exporting():  # a graph's shapes do not depend on its values
            maps = self.space(stacks.flatten(0, 1)).unflatten(0, valid.shape)
            hidden = torch.where(valid[..., None], self.norm(self.project(maps.flatten(2))), mouth.new_zeros(()))
        else:
            hidden = mouth.new_zeros(*valid.shape, self.output_dim)
            hidden[valid] = self.norm(self.project(self.space(stacks[valid]).flatten(1))).to(hidden.dtype)
        if self.centred:
            hidden = torch.where(valid[..., None], hidden - self._mean(hidden, valid), hidden.new_zeros(()))
        for number, (convolution, norm) in enumerate(zip(self.time, self.time_norms)):
            active = F.silu(hidden)
            around = with_past(self, f"time {number}", active, 2) if self.causal else F.pad(active, (0, 0, 1, 1))
            hidden = hidden + norm(convolution(around.transpose(1, 2)).transpose(1, 2))
            hidden = torch.where(valid[..., None], hidden, hidden.new_zeros(()))
        return hidden

    def _mean(self, hidden: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Mean over valid frames of `hidden`, which is zero in the others."""
        count = valid[..., None].to(hidden.dtype)
        if self.causal:
            return running_sum(self, "sum", hidden) / running_sum(self, "count", count).clamp(min=1)
        return hidden.sum(dim=1, keepdim=True) / count.sum(dim=1, keepdim=True).clamp(min=1)

"""Visual front-end `conv3d`: a spatio-temporal convolution, then convolutions in space and in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register

_FIELD = 64  # side of the square in the middle of the crop that is used, in pixels
_TEMPORAL_LAYERS = 2


@register("visual_frontend", "conv3d")
class Conv3d(VisualFrontend):
    """Spatio-temporal convolutional network over mouth crops.

    The first layer is a 3-D convolution over `context` frames, computed as a 2-D convolution over stacked frames,
    which is the same sum and several times faster on a CPU. Further layers halve height and width; two residual
    convolutions over 3 frames follow. Only valid frames are computed.

    Arguments
    ---------
    output_dim : int
        Features per frame.
    channels : sequence of int
        Channels of the layers in space, each of stride 2.
    context : int
        Frames that the first layer sees (odd, centred; past frames only if causal).
    centred : bool
        Subtract the features' mean over the clip's valid frames (those so far, if causal): what remains describes
        motion rather than the speaker's face.
    size : int
        The middle 64 x 64 pixels of the crop are reduced to `size` x `size` pixels first.
    causal : bool
        True: no frame looks ahead.

    Example
    -------
    >>> mouth = torch.zeros(1, 3, 88, 88, dtype=torch.uint8)
    >>> Conv3d(output_dim=16, channels=(4, 8))(mouth, torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 16])
    """

    paper = "Stafylakis and Tzimiropoulos, Combining residual networks with LSTMs for lipreading, 2017"

    def __init__(
        self,
        output_dim: int = 128,
        channels: Sequence[int] = (16, 32, 64, 96),
        context: int = 5,
        centred: bool = True,
        size: int = 32,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if context % 2 == 0:
            raise ValueError(f"context must be odd, got {context}.")
        self.output_dim, self.context, self.causal = output_dim, context, causal
        self.size, self.centred = size, centred
        layers: list[nn.Module] = []
        width, side = context, size
        for index, out in enumerate(channels):
            kernel = 5 if index == 0 else 3
            layers += [
                nn.Conv2d(width, out, kernel, stride=2, padding=kernel // 2),
                nn.GroupNorm(1, out),
                nn.SiLU(inplace=True),
            ]
            width, side = out, -(-side // 2)
        self.space = nn.Sequential(*layers)
        self.project = nn.Linear(width * side * side, output_dim)
        self.norm = nn.LayerNorm(output_dim)
        self.time = nn.ModuleList(nn.Conv1d(output_dim, output_dim, 3) for _ in range(_TEMPORAL_LAYERS))
        self.time_norms = nn.ModuleList(nn.LayerNorm(output_dim) for _ in range(_TEMPORAL_LAYERS))

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"output_dim": 6, "channels": (4, 6), "size": 12}

    def features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        margin = (mouth.shape[-1] - _FIELD) // 2
        middle = mouth[..., margin : margin + _FIELD, margin : margin + _FIELD]
        small = F.adaptive_avg_pool2d(middle, self.size)
        before = self.context - 1 if self.causal else self.context // 2
        padded = F.pad(small, (0, 0, 0, 0, before, self.context - 1 - before))
        stacks = padded.unfold(1, self.context, 1).permute(0, 1, 4, 2, 3)
        maps = self.space(stacks[valid])
        hidden = mouth.new_zeros(*valid.shape, self.output_dim)
        hidden[valid] = self.norm(self.project(maps.flatten(1))).to(hidden.dtype)
        if self.centred:
            hidden = torch.where(valid[..., None], hidden - self._mean(hidden, valid), hidden.new_zeros(()))
        ahead = 0 if self.causal else 1
        for convolution, norm in zip(self.time, self.time_norms):
            shifted = F.pad(F.silu(hidden).transpose(1, 2), (2 - ahead, ahead))
            hidden = hidden + norm(convolution(shifted).transpose(1, 2))
            hidden = torch.where(valid[..., None], hidden, hidden.new_zeros(()))
        return hidden

    def _mean(self, hidden: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Mean over valid frames of `hidden`, which is zero in the others."""
        count = valid[..., None].to(hidden.dtype)
        if self.causal:
            return hidden.cumsum(dim=1) / count.cumsum(dim=1).clamp(min=1)
        return hidden.sum(dim=1, keepdim=True) / count.sum(dim=1, keepdim=True).clamp(min=1)

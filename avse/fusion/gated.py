"""Fusion `gated`: a gate per feature decides how much of the video enters."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.fusion import Fusion
from avse.plugins import register


@register("fusion", "gated")
class Gated(Fusion):
    """`audio + g * W_v video`, with a gate `g` per frame and feature that sees both streams.

    Arguments
    ---------
    bias : float
        Initial bias of the gate; negative: nearly closed at first.

    Example
    -------
    >>> fused, _ = Gated(8, 6)(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape
    torch.Size([2, 5, 8])
    """

    paper = "Arevalo et al., Gated multimodal units for information fusion, 2017"
    causal = streams = True

    def __init__(self, audio_dim: int, video_dim: int, bias: float = -1.0) -> None:
        super().__init__(audio_dim, video_dim)
        self.norm = nn.LayerNorm(audio_dim)
        self.value = nn.Linear(video_dim, audio_dim)
        self.gate = nn.Linear(audio_dim + video_dim, audio_dim)
        nn.init.constant_(self.gate.bias, bias)

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.value(video), audio.new_ones(audio.shape[:2])

    def feature_weight(self, audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
        """The gate, shape (batch, frames, audio_dim); see `Fusion.feature_weight`."""
        return torch.sigmoid(self.gate(torch.cat([self.norm(audio), video], dim=2)))

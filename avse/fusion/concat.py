"""Fusion `concat`: both streams, concatenated, through two layers."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.fusion import Fusion
from avse.plugins import register


@register("fusion", "concat")
class Concat(Fusion):
    """`audio + W2 act(W1 [audio; video])`: concatenation, the field's most common fusion, in residual form.

    Example
    -------
    >>> fused, _ = Concat(8, 6)(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape
    torch.Size([2, 5, 8])
    """

    paper = "Michelsanti et al., An overview of deep-learning-based audio-visual speech enhancement, 2021"
    causal = streams = True

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.norm = nn.LayerNorm(audio_dim)
        self.mix = nn.Sequential(
            nn.Linear(audio_dim + video_dim, audio_dim), nn.SiLU(), nn.Linear(audio_dim, audio_dim)
        )

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mix(torch.cat([self.norm(audio), video], dim=2)), audio.new_ones(audio.shape[:2])

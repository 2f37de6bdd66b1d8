"""Fusion `film`: the video scales and shifts the audio's features."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.fusion import Fusion
from avse.plugins import register


@register("fusion", "film")
class FiLM(Fusion):
    """Feature-wise linear modulation: `audio + gamma(video) * norm(audio) + beta(video)`.

    Example
    -------
    >>> fused, _ = FiLM(8, 6)(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape
    torch.Size([2, 5, 8])
    """

    paper = "Perez et al., FiLM: visual reasoning with a general conditioning layer, 2018"
    causal = streams = True

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.norm = nn.LayerNorm(audio_dim)
        self.modulation = nn.Sequential(nn.Linear(video_dim, audio_dim), nn.SiLU(), nn.Linear(audio_dim, 2 * audio_dim))

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale, shift = self.modulation(video).chunk(2, dim=2)
        return scale * self.norm(audio) + shift, audio.new_ones(audio.shape[:2])

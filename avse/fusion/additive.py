"""Fusion `additive`: the video projected and added, as in the audio-visual VAE."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.fusion import Fusion
from avse.plugins import register


@register("fusion", "additive")
class Additive(Fusion):
    """`audio + W tanh(W_a audio + W_v video + b)`.

    Example
    -------
    >>> fused, _ = Additive(8, 6)(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape
    torch.Size([2, 5, 8])
    """

    paper = "Sadeghi et al., Audio-visual speech enhancement using conditional variational auto-encoders, 2020"
    causal = streams = True

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.norm = nn.LayerNorm(audio_dim)
        self.from_audio = nn.Linear(audio_dim, audio_dim)
        self.from_video = nn.Linear(video_dim, audio_dim, bias=False)
        self.out = nn.Linear(audio_dim, audio_dim)

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        joint = torch.tanh(self.from_audio(self.norm(audio)) + self.from_video(video))
        return self.out(joint), audio.new_ones(audio.shape[:2])

"""Fusion `cross_attention`: each frame of the audio attends to the video around it."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.fusion import Fusion
from avse.nnet.attention import LocalCrossAttention
from avse.plugins import register


@register("fusion", "cross_attention")
class CrossAttention(Fusion):
    """`audio + softmax(Q K^T) V` with queries from the audio and keys and values from the video around it.

    Arguments
    ---------
    heads : int
        Divides `audio_dim`.
    context : int
        Frames on each side that a frame sees.
    causal : bool
        True: only past frames.

    Example
    -------
    >>> fusion = CrossAttention(8, 6, heads=2)
    >>> fused, _ = fusion(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape
    torch.Size([2, 5, 8])
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"
    complexity = "quadratic"  # each frame is compared with every other, and those beyond `context` masked

    def __init__(self, audio_dim: int, video_dim: int, heads: int = 4, context: int = 10, causal: bool = False) -> None:
        super().__init__(audio_dim, video_dim)
        self.causal = self.streams = causal
        self.norm = nn.LayerNorm(audio_dim)
        self.attention = LocalCrossAttention(audio_dim, video_dim, heads, context, causal)
        self.joint = nn.Sequential(nn.Linear(2 * audio_dim, audio_dim), nn.SiLU(), nn.Linear(audio_dim, audio_dim))

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query = self.norm(audio)
        attended = self.attention(query, video, valid)
        return self.joint(torch.cat([query, attended], dim=2)), audio.new_ones(audio.shape[:2])

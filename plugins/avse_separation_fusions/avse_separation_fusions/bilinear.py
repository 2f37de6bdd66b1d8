"""Fusion `bilinear`: every product of a feature of the audio and one of the video, at the price of two layers."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.fusion import Fusion
from avse.plugins import register

_EPSILON = 1e-6


@register("fusion", "bilinear")
class Bilinear(Fusion):
    """Multimodal factorised bilinear pooling: z[i] = a^T M_i v with matrices M_i of low rank, frame by frame.

    With audio a (batch, frames, audio_dim) and video v (batch, frames, video_dim), for each frame:

        z[i]   = sum_k (U LN(a))[i, k] * (V LN(v))[i, k]         M_i = sum_k u_ik v_ik^T, of rank `rank`
        p      = sign(z) * (sqrt(|z| + eps) - sqrt(eps))         power normalisation, with a finite slope at zero
        p      = sqrt(dim) * p / (|p| + eps)                     length normalisation
        fused  = a + r * (W p + c),   r = sigmoid(w . p + b)

    A product is large only where both factors are, and its sign shows whether they agree; sums and concatenations need
    a further layer for that. The paper has no r and no normalisations of a and v (it
    gets features of one scale), and drops some products out while it trains.

    Arguments
    ---------
    audio_dim, video_dim : int
        Features of either stream.
    dim : int
        Bilinear forms z[i].
    rank : int
        Products that are summed in each.

    Shapes as in `Fusion.forward`: (batch, frames, audio_dim) and (batch, frames, video_dim) to (batch, frames,
    audio_dim), and reliability (batch, frames).

    Example
    -------
    >>> fused, r = Bilinear(8, 6)(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape, bool(((r > 0) & (r < 1)).all())
    (torch.Size([2, 5, 8]), True)
    """

    paper = "Yu et al., Multi-modal factorized bilinear pooling with co-attention learning, 2017"
    causal = True

    def __init__(self, audio_dim: int, video_dim: int, dim: int = 32, rank: int = 4) -> None:
        super().__init__(audio_dim, video_dim)
        if dim < 1 or rank < 1:
            raise ValueError(f"dim and rank must be at least 1, got {dim} and {rank}.")
        self.dim, self.rank = dim, rank
        self.from_audio = nn.Sequential(nn.LayerNorm(audio_dim), nn.Linear(audio_dim, dim * rank, bias=False))
        self.from_video = nn.Sequential(nn.LayerNorm(video_dim), nn.Linear(video_dim, dim * rank, bias=False))
        self.out = nn.Linear(dim, audio_dim)
        self.trust = nn.Linear(dim, 1)
        nn.init.constant_(self.trust.bias, 1.0)

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Fusion.delta`."""
        products = self.from_audio(audio) * self.from_video(video)
        pooled = products.unflatten(2, (self.dim, self.rank)).sum(dim=3)
        power = pooled.sign() * ((pooled.abs() + _EPSILON).sqrt() - _EPSILON**0.5)
        power = self.dim**0.5 * power / (power.norm(dim=2, keepdim=True) + _EPSILON)
        return self.out(power), torch.sigmoid(self.trust(power)[..., 0])

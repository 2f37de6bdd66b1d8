"""Prior `transformer_vae`: latent variables that attend to those before them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.prior import Context, Gaussian
from avse.nnet.attention import LocalCrossAttention
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior


@register("prior", "transformer_vae")
class TransformerVAE(VariationalPrior):
    """p(z_n | z_<n, v_<=n) and p(s_n | z_<=n, v) by causal self-attention, q(z_n | s, v) by attention to both sides.

    Neither prior nor decoder looks ahead in z.

    Arguments
    ---------
    blocks : int
        Blocks of attention in encoder, decoder and prior each.
    heads : int
        Attention heads; divides `hidden_dim`.
    context : int
        Frames on a side that a frame attends to.
    common :
        Further arguments: see `VariationalPrior`. In the prior video is added to the features.

    Example
    -------
    >>> prior = TransformerVAE(latent_dim=4, hidden_dim=8, heads=2)
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> latent = prior.encode(torch.rand(1, 6, 513), context).sample()
    >>> prior.prior(latent, context).mean.shape, prior.decode(latent, context).shape
    (torch.Size([1, 6, 4]), torch.Size([1, 6, 513]))
    """

    paper = (
        "after Jiang et al., Transformer VAE: a hierarchical model for structure-aware and interpretable music "
        "representation learning, 2020"
    )
    complexity = "quadratic"  # each frame is compared with every other, and those beyond `context` masked

    def __init__(self, latent_dim: int = 16, blocks: int = 1, heads: int = 4, context: int = 50, **common: Any) -> None:
        super().__init__(latent_dim=latent_dim, **common)
        hidden_dim = self.hidden_dim
        self.encoder = _Stack(hidden_dim, blocks, heads, context, causal=False)
        self.decoder = _Stack(hidden_dim, blocks, heads, context, causal=True)
        self.from_last = nn.Linear(latent_dim, hidden_dim)
        self.from_video: nn.Linear | None = None
        if self.video_input.sees:
            self.from_video = nn.Linear(self.video_input.video_dim, hidden_dim, bias=False)
        self.dynamics = _Stack(hidden_dim, blocks, heads, context, causal=True)
        self.transition = nn.Linear(hidden_dim, 2 * latent_dim)

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**super().example_arguments(), "heads": 2, "context": 6}

    def encode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.encode_stream`."""
        return self.encoder(hidden, context.mask)

    def decode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.decode_stream`."""
        return self.decoder(hidden, context.mask)

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        """p(z_n | z_<n, v_<=n); the first frame follows a zero. See `LatentPrior.prior`."""
        hidden = torch.tanh(self.from_last(F.pad(latent[:, :-1], (0, 0, 1, 0))))
        if self.from_video is not None and context.video is not None:
            hidden = torch.where(context.valid[..., None], hidden + self.from_video(context.video), hidden)
        return self.gaussian(self.transition(self.dynamics(hidden, context.mask)))


class _Stack(nn.Module):
    """Blocks of local self-attention and a feed-forward layer, each residual, and a bounded layer at their end."""

    def __init__(self, dim: int, blocks: int, heads: int, context: int, causal: bool) -> None:
        super().__init__()
        self.attention = nn.ModuleList(LocalCrossAttention(dim, dim, heads, context, causal) for _ in range(blocks))
        self.attention_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(blocks))
        self.feed_forward = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
            for _ in range(blocks)
        )
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Tanh())

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for norm, attention, feed_forward in zip(self.attention_norm, self.attention, self.feed_forward):
            normed = norm(hidden)
            hidden = hidden + attention(normed, normed, mask)
            hidden = hidden + feed_forward(hidden)
        return self.out(hidden)

"""Prior `transformer_vae`: latent variables that attend to those before them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from avse.contracts.prior import Context, Gaussian
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.attention import LocalCrossAttention
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior


@register("prior", "transformer_vae")
class TransformerVAE(VariationalPrior):
    """p(z_n | z_<n, v_<=n) and p(s_n | z_<=n, v) by causal self-attention, q(z_n | s, v) by attention to both sides.

    What generates never looks ahead in z: the prior of a step is learned from the latent variables before it.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters encoder and decoder (one copy each), before their attention. Its `audio_dim` must be
        `hidden_dim`, its `video_dim` the front-end's `output_dim`. In the prior video is added.
    latent_dim : int
        Features of z per step.
    hidden_dim : int
        Features per step of all streams.
    blocks : int
        Blocks of attention in encoder, decoder and prior each.
    heads : int
        Attention heads; divides `hidden_dim`.
    context : int
        Steps on a side that a step attends to.
    prior_weight : float
        Weight of the reconstruction from p(z | v) beside the evidence bound, where there is video; here z_n is drawn
        given z_<n of the posterior.
    free_bits : float
        Divergence in nats up to which a latent unit is not pressed towards the prior.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    floor_db : float
        Level of the noise floor below which speech is not modelled, relative to full scale.
    noisy_encoder_layers : int
        Blocks of a second encoder that knows z of speech in noise; see `VariationalPrior`. 0: none.

    Shapes as in `LatentPrior`: power (batch, frames, bins), latent (batch, frames, latent_dim).

    Example
    -------
    >>> prior = TransformerVAE(latent_dim=4, hidden_dim=8, heads=2)
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> latent = prior.encode(torch.rand(1, 6, 513), context).sample()
    >>> prior.prior(latent, context).mean.shape, prior.decode(latent, context).shape
    (torch.Size([1, 6, 4]), torch.Size([1, 6, 513]))
    """

    paper = "Jiang et al., Transformer VAE: a hierarchical model for structure-aware representation learning, 2020"
    complexity = "quadratic"  # each step is compared with every other, and those beyond `context` masked

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        latent_dim: int = 16,
        hidden_dim: int = 128,
        blocks: int = 1,
        heads: int = 4,
        context: int = 50,
        prior_weight: float = 0.01,
        free_bits: float = 0.1,
        fft_size: int = 1024,
        hop: int = 320,
        floor_db: float = -70.0,
        noisy_encoder_layers: int = 0,
    ) -> None:
        super().__init__(
            latent_dim,
            hidden_dim,
            visual_frontend,
            fusion,
            prior_weight,
            free_bits,
            fft_size,
            hop,
            floor_db,
            noisy_encoder_layers,
        )
        self.encoder = _Stack(hidden_dim, blocks, heads, context, causal=False)
        self.decoder = _Stack(hidden_dim, blocks, heads, context, causal=True)
        self.from_last = nn.Linear(latent_dim, hidden_dim)
        self.from_video = nn.Linear(fusion.video_dim, hidden_dim, bias=False) if fusion is not None else None
        self.dynamics = _Stack(hidden_dim, blocks, heads, context, causal=True)
        self.transition = nn.Linear(hidden_dim, 2 * latent_dim)

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=8, video_dim=6)
        sizes = {"latent_dim": 4, "hidden_dim": 8, "heads": 2, "context": 6, "fft_size": 640}
        return {"visual_frontend": frontend, "fusion": fusion, **sizes}

    def encode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.encode_stream`."""
        return self.encoder(hidden, context.mask)

    def decode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.decode_stream`."""
        return self.decoder(hidden, context.mask)

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        """p(z_n | z_<n, v_<=n); the first step follows a zero. See `LatentPrior.prior`."""
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
            seen = norm(hidden)
            hidden = hidden + attention(seen, seen, mask)
            hidden = hidden + feed_forward(hidden)
        return self.out(hidden)

"""Priors `vae` and `av_vae`: variational auto-encoders that treat each frame by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from avse.contracts.prior import Context, Gaussian
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior


class FrameVAE(VariationalPrior):
    """Two hidden layers on either side, and a prior that depends at most on the video of its own frame.

    Arguments: see `VariationalPrior`.
    """

    dynamical = False

    def __init__(self, *args: Any, **common: Any) -> None:
        super().__init__(*args, **common)
        dim = self.hidden_dim
        self.encoder = nn.Linear(dim, dim)
        self.decoder = nn.Linear(dim, dim)
        self.from_video: nn.Sequential | None = None
        if self.video_input.sees:
            self.from_video = nn.Sequential(
                nn.Linear(self.video_input.video_dim, dim), nn.Tanh(), nn.Linear(dim, 2 * self.latent_dim)
            )

    def encode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.encode_stream`."""
        return torch.tanh(self.encoder(hidden))

    def decode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.decode_stream`."""
        return torch.tanh(self.decoder(hidden))

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        """Standard normal, moved by the video where a mouth is seen; see `LatentPrior.prior`."""
        if self.from_video is None or context.video is None:
            return Gaussian(torch.zeros_like(latent), torch.zeros_like(latent))
        moved = self.gaussian(self.from_video(context.video))
        valid, zero = context.valid[..., None], latent.new_zeros(())
        return Gaussian(torch.where(valid, moved.mean, zero), torch.where(valid, moved.log_variance, zero))


@register("prior", "vae")
class VAE(FrameVAE):
    """p(s | z) with z standard normal, each frame by itself, from the audio alone.

    The layers are as small as published ones, since inference decodes hundreds of times. The window of 64 ms is the
    published one; the hop of 20 ms gives two frames per video frame, a fifth fewer than the published 16 ms.

    Arguments
    ---------
    common :
        Arguments: see `VariationalPrior`.

    Example
    -------
    >>> prior = VAE(latent_dim=4, hidden_dim=8)
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> posterior = prior.encode(torch.rand(1, 6, 513), context)
    >>> prior.decode(posterior.sample(), context).shape
    torch.Size([1, 6, 513])
    """

    paper = "Leglaive, Girin and Horaud, A variance modeling framework based on variational autoencoders, 2018"
    not_inherited = ("visual_frontend", "fusion", "prior_weight")

    def __init__(self, **common: Any) -> None:
        super().__init__(None, None, **common)

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"latent_dim": 4, "hidden_dim": 8, "fft_size": 640}


@register("prior", "av_vae")
class AVVAE(FrameVAE):
    """p(s | z, v) with z ~ p(z | v), each frame by itself: the conditional VAE of audio-visual speech.

    Video enters encoder, decoder and the prior network; where no mouth is seen the prior is standard normal and all
    else as in `vae`. The published fusion is `concat`.

    Arguments: see `VariationalPrior`.

    Example
    -------
    >>> from avse.fusion.concat import Concat
    >>> from avse.visual_frontends.pixel_mlp import PixelMLP
    >>> prior = AVVAE(PixelMLP(output_dim=6), Concat, latent_dim=4, hidden_dim=8)
    >>> valid = torch.ones(1, 6).bool()
    >>> prior.prior(torch.zeros(1, 6, 4), Context(valid, valid, torch.randn(1, 6, 6))).sample().shape
    torch.Size([1, 6, 4])
    """

    paper = "Sadeghi et al., Audio-visual speech enhancement using conditional variational auto-encoders, 2020"

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**super().example_arguments(), "prior_weight": 0.1}

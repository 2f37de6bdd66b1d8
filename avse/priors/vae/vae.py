"""Priors `vae` and `av_vae`: variational auto-encoders that look at each step by itself."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.fusion import Fusion
from avse.contracts.prior import Context, Gaussian
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior


class FrameVAE(VariationalPrior):
    """One hidden layer more on either side, and a prior that knows at most the video of its own step.

    Arguments are those of `VariationalPrior`.
    """

    dynamical = False

    def __init__(self, latent_dim: int, hidden_dim: int, **others) -> None:
        super().__init__(latent_dim, hidden_dim, **others)
        self.encoder = nn.Linear(hidden_dim, hidden_dim)
        self.decoder = nn.Linear(hidden_dim, hidden_dim)
        self.from_video = None
        if self.visual_frontend is not None:
            self.from_video = nn.Sequential(
                nn.Linear(self.visual_frontend.output_dim, hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, 2 * latent_dim)
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
        seen, zero = context.valid[..., None], latent.new_zeros(())
        return Gaussian(torch.where(seen, moved.mean, zero), torch.where(seen, moved.log_variance, zero))


@register("prior", "vae")
class VAE(FrameVAE):
    """p(s | z) with z standard normal, each step by itself, from the sound alone.

    Two layers of `hidden_dim` on either side, as small as published ones, since inference decodes hundreds of times.
    The window of 64 ms is the published one; the hop of 20 ms gives two steps per video frame, and a fifth fewer than
    the published 16 ms.

    Arguments
    ---------
    latent_dim : int
        Features of z per step.
    hidden_dim : int
        Width of the hidden layers.
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
    >>> prior = VAE(latent_dim=4, hidden_dim=8)
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> posterior = prior.encode(torch.rand(1, 6, 513), context)
    >>> prior.decode(posterior.sample(), context).shape
    torch.Size([1, 6, 513])
    """

    paper = "Leglaive, Girin and Horaud, A variance modeling framework based on variational autoencoders, 2018"

    def __init__(
        self,
        latent_dim: int = 32,
        hidden_dim: int = 128,
        free_bits: float = 0.1,
        fft_size: int = 1024,
        hop: int = 320,
        floor_db: float = -70.0,
        noisy_encoder_layers: int = 0,
    ) -> None:
        super().__init__(
            latent_dim,
            hidden_dim,
            free_bits=free_bits,
            fft_size=fft_size,
            hop=hop,
            floor_db=floor_db,
            noisy_encoder_layers=noisy_encoder_layers,
        )

    @classmethod
    def example_arguments(cls) -> dict:
        return {"latent_dim": 4, "hidden_dim": 8, "fft_size": 640}


@register("prior", "av_vae")
class AVVAE(FrameVAE):
    """p(s | z, v) with z ~ p(z | v), each step by itself: the conditional VAE of audio-visual speech.

    Video enters encoder, decoder and the prior network; where no mouth is seen the prior is standard normal and all
    else as in `vae`. Trained on `(1 - w) [IS(z_q) + KL(q || p)] + w IS(z_p)`, `z_q` drawn from the posterior and `z_p`
    from p(z | v).

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters encoder and decoder (one copy each); `concat` is the published one. Its `audio_dim` must be
        `hidden_dim`, its `video_dim` the front-end's `output_dim`.
    latent_dim : int
        Features of z per step.
    hidden_dim : int
        Width of the hidden layers.
    prior_weight : float
        `w`, the weight of the reconstruction from p(z | v).
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
    >>> from avse.fusion.concat import Concat
    >>> from avse.visual_frontends.pixel_mlp import PixelMLP
    >>> prior = AVVAE(PixelMLP(output_dim=6), Concat(8, 6), latent_dim=4, hidden_dim=8)
    >>> seen = torch.ones(1, 6).bool()
    >>> latent = prior.prior(torch.zeros(1, 6, 4), Context(seen, seen, torch.randn(1, 6, 6))).sample()
    >>> latent.shape
    torch.Size([1, 6, 4])
    """

    paper = "Sadeghi et al., Audio-visual speech enhancement using conditional variational auto-encoders, 2020"

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        latent_dim: int = 32,
        hidden_dim: int = 128,
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
            visual_frontend=visual_frontend,
            fusion=fusion,
            prior_weight=prior_weight,
            free_bits=free_bits,
            fft_size=fft_size,
            hop=hop,
            floor_db=floor_db,
            noisy_encoder_layers=noisy_encoder_layers,
        )

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=8, video_dim=6)
        sizes = {"latent_dim": 4, "hidden_dim": 8, "fft_size": 640}
        return {"visual_frontend": frontend, "fusion": fusion, "prior_weight": 0.1, **sizes}

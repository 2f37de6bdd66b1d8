"""Prior `recurrent_vae`: the dynamical family, whose latent variables depend on each other over time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from avse.contracts.prior import Context, Gaussian
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior

DIRECTIONS = ("none", "forward", "both")


@register("prior", "recurrent_vae")
class RecurrentVAE(VariationalPrior):
    """Dynamical VAE: p(z_n | z_{n-1}, v_n), p(s_n | z) by a recurrent network, q(z_n | s, v) by one in both directions.

    With `decoder: none` the decoder looks at its own step alone (deep Kalman filter); with `both` it looks at all steps
    (recurrent VAE). The transition is gated: `mean = (1 - g) * W z_{n-1} + g * proposal`. Networks are LSTMs, and the
    transition is no recurrence once z is given, so that no method loops over steps in Python.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters encoder and decoder (one copy each), before their recurrence. Its `audio_dim` must be
        `hidden_dim`, its `video_dim` the front-end's `output_dim`. In the transition video is added.
    latent_dim : int
        Features of z per step.
    hidden_dim : int
        Width of the hidden layers; even.
    decoder : str
        Which steps of z the decoder looks at: `none` but its own, `forward` (the past), or `both`.
    prior_weight : float
        Weight of the reconstruction from p(z | v) beside the evidence bound, where there is video; here z_n is drawn
        given z_{n-1} of the posterior.
    free_bits : float
        Divergence in nats up to which a latent unit is not pressed towards the prior.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    floor_db : float
        Level of the noise floor below which speech is not modelled, relative to full scale.
    noisy_encoder_layers : int
        Blocks of a second encoder that knows z of speech in noise; see `VariationalPrior`. 0: none.

    Shapes as in `LatentPrior`: power (batch, frames, bins), latent (batch, frames, latent_dim).

    Raises
    ------
    ValueError
        If dimensions do not fit, or there is no such decoder.

    Example
    -------
    >>> prior = RecurrentVAE(latent_dim=4, hidden_dim=8)
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> latent = prior.encode(torch.rand(1, 6, 513), context).sample()
    >>> prior.prior(latent, context).mean.shape, prior.decode(latent, context).shape
    (torch.Size([1, 6, 4]), torch.Size([1, 6, 513]))
    """

    paper = "Golmakani, Sadeghi and Serizel, Audio-visual speech enhancement with a deep Kalman filter, 2022"

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        latent_dim: int = 16,
        hidden_dim: int = 128,
        decoder: str = "forward",
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
        if decoder not in DIRECTIONS:
            raise ValueError(f"decoder must be one of {', '.join(DIRECTIONS)}, got {decoder!r}.")
        if hidden_dim % 2:
            raise ValueError(f"hidden_dim must be even, got {hidden_dim}.")
        self.encoder = _Recurrence(hidden_dim, "both")
        self.decoder = _Recurrence(hidden_dim, decoder)
        self.from_last = nn.Linear(latent_dim, hidden_dim)
        self.from_video = nn.Linear(fusion.video_dim, hidden_dim, bias=False) if fusion is not None else None
        self.kept = nn.Linear(latent_dim, latent_dim, bias=False)
        self.transition = nn.Linear(hidden_dim, 3 * latent_dim)

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=8, video_dim=6)
        return {"visual_frontend": frontend, "fusion": fusion, "latent_dim": 4, "hidden_dim": 8, "fft_size": 640}

    def encode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.encode_stream`."""
        return self.encoder(hidden, context.mask)

    def decode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.decode_stream`."""
        return self.decoder(hidden, context.mask)

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        """p(z_n | z_{n-1}, v_n); the first step follows a zero. See `LatentPrior.prior`."""
        last = F.pad(latent[:, :-1], (0, 0, 1, 0))
        hidden = self.from_last(last)
        if self.from_video is not None and context.video is not None:
            hidden = torch.where(context.valid[..., None], hidden + self.from_video(context.video), hidden)
        gate, parameters = self.transition(torch.tanh(hidden)).split([self.latent_dim, 2 * self.latent_dim], dim=-1)
        proposal = self.gaussian(parameters)
        mean = torch.lerp(self.kept(last), proposal.mean, torch.sigmoid(gate))
        return Gaussian(mean, proposal.log_variance)


class _Recurrence(nn.Module):
    """An LSTM in one or both directions, (batch, frames, dim) to the same; padding beyond a clip's end changes nothing.

    Without a direction: one layer that looks at each step by itself.
    """

    def __init__(self, dim: int, direction: str) -> None:
        super().__init__()
        size = dim // 2 if direction == "both" else dim
        self.layer = nn.Linear(dim, dim) if direction == "none" else None
        self.forward_in_time = nn.LSTM(dim, size, batch_first=True) if direction != "none" else None
        self.backward_in_time = nn.LSTM(dim, size, batch_first=True) if direction == "both" else None

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.forward_in_time is None:
            return torch.tanh(self.layer(hidden))
        past, _ = self.forward_in_time(hidden)
        if self.backward_in_time is None:
            return past
        # A clip is turned round within its own length: packed sequences would leave the fast kernels of the CPU.
        steps = torch.arange(hidden.shape[1], device=hidden.device)
        last = mask.sum(dim=1, keepdim=True) - 1
        turned = torch.where(mask, last - steps, steps)[..., None]
        future, _ = self.backward_in_time(hidden.gather(1, turned.expand_as(hidden)))
        return torch.cat([past, future.gather(1, turned.expand_as(future))], dim=2)

"""What all variational auto-encoders of speech have in common: layers around the streams, and the objective."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context, Gaussian, LatentPrior, clean_of
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.nnet.video_input import VideoInput
from avse.plugins import get
from avse.priors.vae.noisy_speech_encoder import NOISY_ENCODER, NoisySpeechEncoder, draw_noise

# Power of a bin for white noise at -70 dB of full scale: its variance times the window's energy, over `fft_size`.
_FLOOR = 1e-7 * 0.5
_SNR = (-15.0, 40.0)  # of speech in drawn noise, in dB
_PRECISION_WEIGHT = 0.1  # of the audio's precision, per frame and feature, beside a loss per bin


@dataclass
class Reading:
    """What an encoder infers from a batch of clean speech.

    Arguments
    ---------
    context : Context
    power : tensor, shape (batch, frames, bins)
    posterior : Gaussian, shape (batch, frames, latent_dim)
    latent : tensor, shape (batch, frames, latent_dim)
        A draw from it.
    """

    context: Context
    power: torch.Tensor
    posterior: Gaussian
    latent: torch.Tensor

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Reading:
        """The same with a function applied to each tensor, such as one that takes some of the clips."""
        posterior = Gaussian(function(self.posterior.mean), function(self.posterior.log_variance))
        return Reading(self.context.map(function), function(self.power), posterior, function(self.latent))


class VariationalPrior(LatentPrior):
    """A variational auto-encoder of speech power, with or without video.

        q(z | s, v):  log power -> linear -> tanh -> fusion with v -> `encode_stream` -> mean, log-variance
        p(s | z, v):  z         -> linear -> tanh -> fusion with v -> `decode_stream` -> log-variance

    A subclass implements the two streams and `prior`, p(z | v); the base class holds the layers around them and the
    training objective. The power is taken relative to a noise floor, so that in silence the variance stays above zero.

    Arguments
    ---------
    visual_frontend : VisualFrontend, callable that builds one, or None
        Mouth crops to features. None: audio only.
    fusion : Fusion, callable that builds one from `audio_dim` and `video_dim`, or None
        How video enters: one copy of it in the encoder, one in the decoder. Its `audio_dim` is `hidden_dim`, its
        `video_dim` the front-end's `output_dim`.
    latent_dim : int
        Features of z in a frame.
    hidden_dim : int
        Width of the hidden layers.
    prior_weight : float
        w, the weight of the reconstruction from p(z | v) where there is video, in [0, 1): the objective is
        (1 - w) [IS(z_q) + KL(q || p)] + w IS(z_p), with z_q drawn from the posterior and z_p from p(z | v). In a
        dynamical model z_p of a frame is drawn given z_q of the frames before it.
    free_bits : float
        Divergence in nats up to which a latent unit is not pressed towards the prior.
    noisy_encoder_layers : int
        Blocks of a noisy-speech encoder, q(z | x, V, v), for noise of the variance V. It learns from clean speech and
        noise drawn from the noise model (random spectra with random courses), so that inference begins near the speech.
        0: none, as published.

    Attributes
    ----------
    kl_weight : float
        Weight of the divergence in `loss`; the Brain raises it to 1 over the first epochs.

    Raises
    ------
    ValueError
        If dimensions do not fit.
    """

    kl_weight: float = 1.0

    def __init__(
        self,
        visual_frontend: VisualFrontend | VisualFrontendFactory | None = None,
        fusion: Fusion | FusionFactory | None = None,
        latent_dim: int = 32,
        hidden_dim: int = 128,
        prior_weight: float = 0.01,
        free_bits: float = 0.1,
        fft_size: int = 1024,
        hop: int = 320,
        noisy_encoder_layers: int = 0,
    ) -> None:
        super().__init__(fft_size, hop)
        if not 0.0 <= prior_weight < 1.0:
            raise ValueError(f"prior_weight must be at least 0 and less than 1, got {prior_weight}.")
        places = ("encoder", "decoder", NOISY_ENCODER) if noisy_encoder_layers else ("encoder", "decoder")
        self.video_input = VideoInput(
            visual_frontend, fusion, hidden_dim, fft_size, hop, places=places, what="the prior's hidden_dim"
        )
        if self.video_input.complexity == "quadratic":
            self.complexity = "quadratic"
        self.latent_dim, self.hidden_dim = latent_dim, hidden_dim
        self.prior_weight, self.free_bits = prior_weight, free_bits
        self.floor = _FLOOR * fft_size
        self.power_in = nn.Linear(self.bins, hidden_dim)
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim)
        self.latent_in = nn.Linear(latent_dim, hidden_dim)
        self.log_variance = nn.Linear(hidden_dim, self.bins)
        self.noisy_encoder: NoisySpeechEncoder | None = None
        if noisy_encoder_layers:
            self.noisy_encoder = NoisySpeechEncoder(self.bins, hidden_dim, latent_dim, noisy_encoder_layers)
        self.encodes_noisy = self.noisy_encoder is not None

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        frontend = get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = get("fusion", "concat")
        return {"visual_frontend": frontend, "fusion": fusion, "latent_dim": 4, "hidden_dim": 8, "fft_size": 640}

    @abstractmethod
    def encode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """From log power, fused with video, to what gives the posterior: (batch, frames, hidden_dim), bounded."""

    @abstractmethod
    def decode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """From z, fused with video, to what gives the log-variance: (batch, frames, hidden_dim), bounded."""

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        """See `Prior.visual_features`."""
        return self.video_input.features(batch)

    def encode(self, power: torch.Tensor, context: Context) -> Gaussian:
        hidden = torch.tanh(self.power_in(self._level(power)))
        hidden, _ = self.video_input.fuse(hidden, context, "encoder")
        return self.gaussian(self.posterior(self.encode_stream(hidden, context)))

    def encode_noisy(self, power: torch.Tensor, variance: torch.Tensor, context: Context) -> Gaussian:
        """See `LatentPrior.encode_noisy`."""
        if self.noisy_encoder is None:
            return super().encode_noisy(power, variance, context)
        levels = self._level(power), self._level(variance)
        return self.gaussian(self.noisy_encoder(*levels, context, self.video_input))

    def noisy_encoder_parts(self) -> list[nn.Module]:
        """See `LatentPrior.noisy_encoder_parts`."""
        if self.noisy_encoder is None:
            return []
        fusions = self.video_input.fusions
        return [self.noisy_encoder, *([fusions[NOISY_ENCODER]] if NOISY_ENCODER in fusions else [])]

    def decode(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        return self.log_variance(self.decode_hidden(latent, context))

    def decode_hidden(self, latent: torch.Tensor, context: Context, code: torch.Tensor | None = None) -> torch.Tensor:
        """What gives the log-variance, shape (batch, frames, hidden_dim).

        `code`, shape (hidden_dim,), is added where the latent enters: that of a speaker adapter.
        """
        hidden = self.latent_in(latent)
        hidden = hidden if code is None else hidden + code
        hidden, _ = self.video_input.fuse(torch.tanh(hidden), context, "decoder")
        return self.decode_stream(hidden, context)

    def reliability(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        return self.video_input.fuse(torch.tanh(self.latent_in(latent)), context, "decoder")[1]

    def reliability_in_noise(
        self, power: torch.Tensor, variance: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """See `LatentPrior.reliability_in_noise`; None without a noisy-speech encoder."""
        if self.noisy_encoder is None:
            return None
        hidden = self._heard(power, variance)
        of_audio = self.video_input.audio_reliability(hidden, NOISY_ENCODER)
        return None if of_audio is None else (self.video_input.fuse(hidden, context, NOISY_ENCODER)[1], of_audio)

    def _heard(self, power: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """What the noisy-speech encoder fuses with the video, shape (batch, frames, hidden_dim)."""
        assert self.noisy_encoder is not None
        return self.noisy_encoder.audio(self._level(power), self._level(variance))

    def calibrate(self, scale: float, shift: float) -> None:
        in_noise = self.noisy_encoder is not None and self.video_input.tells_audio
        self.video_input.calibrate(scale, shift, NOISY_ENCODER if in_noise else "decoder")

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Negative evidence bound per bin, and its terms; see `Prior.loss`.

        Returns
        -------
        dict of str to scalar tensor
            `loss`; `nll`: Itakura-Saito reconstruction per bin, up to a constant; `divergence`: of the posterior
            from the prior, in nats per frame; where `prior_weight` asks for it, `prior_nll`: the reconstruction from
            p(z | v); with `noisy_encoder_layers`, `noisy_encoder`: divergence of q(z | s, v) from q(z | x, V, v)
            in drawn noise, in nats per frame; where the fusion has one, `precision`, its `precision_loss` in that
            noise; and, where it is known which frames are clean and the fusion estimates
            it, `reliability`: its cross-entropy with that, in nats per frame.
        """
        return self.loss_and_evidence(batch)[0]

    def read(self, batch: Batch) -> Reading:
        """Clean speech, its posterior, and one draw from that."""
        context = self.context(batch)
        power = self.analyse(clean_of(batch)).abs().square()
        posterior = self.encode(power, context)
        return Reading(context, power, posterior, posterior.sample())

    def loss_and_evidence(
        self, batch: Batch, reading: Reading | None = None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The terms of `loss`, and the evidence bound of each frame, shape (batch, frames).

        The bound is that of one draw, in nats up to a constant; no gradient passes. `reading` is that of this batch,
        where it is known.
        """
        reading = self.read(batch) if reading is None else reading
        context, power, posterior, latent = reading.context, reading.power, reading.posterior, reading.latent
        prior = self.prior(latent, context)
        mask = context.mask
        by_frame = self.nll(power, self.decode(latent, context))
        evidence = -(self.bins * by_frame.detach() + posterior.divergence(prior).detach())
        nll = by_frame[mask].mean()
        divergence = divergence_with_free_bits(posterior, prior, mask, self.free_bits)
        loss = nll + self.kl_weight * divergence / self.bins
        terms = {"nll": nll, "divergence": divergence}
        if self.prior_weight and context.video is not None:
            terms["prior_nll"] = self.nll(power, self.decode(prior.sample(), context))[context.valid].mean()
            loss = (1.0 - self.prior_weight) * loss + self.prior_weight * terms["prior_nll"]
        heard: tuple[torch.Tensor, torch.Tensor] | None = None
        if self.noisy_encoder is not None:
            heard = self._draw_noisy(batch, context)
            noisy_posterior = self.encode_noisy(*heard, context)
            target = Gaussian(posterior.mean.detach(), posterior.log_variance.detach())
            terms["noisy_encoder"] = target.divergence(noisy_posterior)[mask].mean()
            loss = loss + terms["noisy_encoder"] / self.bins
            latent = noisy_posterior.mean.detach()
            clean, noisy = (self._heard(each, heard[1])[mask][None] for each in (power, heard[0]))
            if (precision := self.video_input.precision_loss(noisy, clean, NOISY_ENCODER)) is not None:
                terms["precision"] = precision
                loss = loss + _PRECISION_WEIGHT * precision
        loss_terms = {"loss": loss, **{name: term.detach() for name, term in terms.items()}}
        if batch.video_is_clean is not None and context.video is not None:
            in_noise = None if heard is None else self.reliability_in_noise(*heard, context)
            of_audio = None if in_noise is None else in_noise[1]
            for reliability in (self.reliability(latent.detach(), context), *(in_noise or ())[:1]):
                loss_terms = self.video_input.add_reliability_loss(loss_terms, reliability, batch, context, of_audio)
        return loss_terms, evidence

    def _draw_noisy(self, batch: Batch, context: Context) -> tuple[torch.Tensor, torch.Tensor]:
        """|x|^2 of the speech in drawn noise, and an inexact V."""
        clean = clean_of(batch)
        noise, variance = draw_noise(clean, self.fft_size, self.hop, _SNR)
        power = self.analyse(clean + noise).abs().square()
        # During an inference V is first the mean of the noisy power and later an inexact estimate of the noise.
        mask = context.mask[..., None]
        start = (power * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
        error = 3.0 * torch.randn(len(power), 1, 1) + F.interpolate(
            3.0 * torch.randn(len(power), 1, 16), size=self.bins, mode="linear", align_corners=True
        )
        rough = variance * (math.log(10) / 10 * error.to(variance)).exp()
        steady = rough.mean(dim=1, keepdim=True)
        choice = torch.rand(len(power), 1, 1).to(variance)
        estimate = torch.where(choice < 0.35, start, torch.where(choice < 0.55, steady, rough))
        return power, estimate.expand_as(power)

    def _level(self, power: torch.Tensor) -> torch.Tensor:
        """From -2 at the floor to 2 for loud speech, with a variance near one."""
        return 0.25 * torch.log1p(power / self.floor) - 2.0

    def gaussian(self, parameters: torch.Tensor) -> Gaussian:
        """The output of a layer, shape (batch, frames, 2 * latent_dim), as a Gaussian with variances below one.

        The scale of z is free, so that this is no restriction; audio unlike that of the training cannot make the
        variance unbounded.
        """
        mean, narrowness = parameters.chunk(2, dim=-1)
        return Gaussian(mean, -F.softplus(narrowness))

    def nll(self, power: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """Itakura-Saito divergence of (batch, frames, bins) by frame, up to a constant; a mean over bins."""
        log_variance = log_variance.to(power.dtype)  # in mixed precision it has few digits
        return ((power + self.floor) * (-log_variance).exp() + log_variance).mean(dim=-1)


def divergence_with_free_bits(
    posterior: Gaussian, prior: Gaussian, mask: torch.Tensor, free_bits: float
) -> torch.Tensor:
    """Divergence of posterior from prior, summed over units and averaged over frames, in nats.

    A unit whose average is below `free_bits` is not pressed further: no gradient reaches its posterior, while its prior
    still learns to predict it (Kingma et al., 2016, with the prior learned). The value is that of the plain divergence.

    Arguments
    ---------
    posterior, prior : Gaussian, shape (batch, frames, dim)
    mask : tensor, shape (batch, frames), bool
        Frames that count.
    free_bits : float
        Nats per unit.

    Returns
    -------
    scalar tensor

    Example
    -------
    >>> shifted = Gaussian(torch.ones(1, 2, 3, requires_grad=True), torch.zeros(1, 2, 3))
    >>> zero = Gaussian(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
    >>> value = divergence_with_free_bits(shifted, zero, torch.ones(1, 2, dtype=torch.bool), free_bits=0.6)
    >>> value.item(), torch.autograd.grad(value, shifted.mean)[0].abs().sum().item()
    (1.5, 0.0)
    """
    pressed = posterior.divergence_by_unit(prior)[mask].mean(dim=0)
    held = Gaussian(posterior.mean.detach(), posterior.log_variance.detach())
    free = held.divergence_by_unit(prior)[mask].mean(dim=0)
    return torch.where(pressed.detach() > free_bits, pressed, free).sum()


def variational(component: str) -> type[VariationalPrior]:
    """The class of a variational prior, by its name.

    Raises
    ------
    ValueError
        If the prior is of another family.
    """
    cls = get("prior", component)
    if not issubclass(cls, VariationalPrior):
        raise ValueError(f"component must be a variational auto-encoder, {component} is none.")
    return cls

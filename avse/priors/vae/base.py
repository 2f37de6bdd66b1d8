"""What all variational auto-encoders of speech have in common: where video enters, and the training objective."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion, check_fusion
from avse.contracts.prior import Context, Gaussian, LatentPrior
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend
from avse.errors import AvseError
from avse.priors.vae.noisy_speech_encoder import NoisySpeechEncoder, draw_noise

# Mean power of a bin of the windowed transform of white noise is the noise's variance times the window's energy.
_WINDOW_ENERGY = 0.5
_SNR = (-12.0, 12.0)  # of speech in drawn noise, in dB


@dataclass
class Reading:
    """What an encoder makes of a batch of clean speech.

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
    training objective. The power is compared with a noise floor, so that silence asks for no infinitely small variance.

    Arguments
    ---------
    latent_dim : int
        Features of z per step.
    hidden_dim : int
        Features per step of either stream.
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters: one copy of it in the encoder, one in the decoder. Its `audio_dim` must be `hidden_dim`, its
        `video_dim` the front-end's `output_dim`.
    prior_weight : float
        Weight of the reconstruction from p(z | v) beside the evidence bound, where there is video (in [0, 1)).
    free_bits : float
        Divergence in nats up to which a latent unit is not pressed towards the prior.
    fft_size, hop : int
        The domain's transform, in samples.
    floor_db : float
        Level of the noise floor, relative to full scale.
    noisy_encoder_layers : int
        Blocks of a second encoder, q(z | x, V, v), which knows z of speech in noise of the variance V. It learns from
        clean speech and noise drawn from the noise model (random spectra with random courses), so that inference begins
        near the voice. 0: none, as published.

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
        latent_dim: int,
        hidden_dim: int,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        prior_weight: float = 0.0,
        free_bits: float = 0.1,
        fft_size: int = 1024,
        hop: int = 320,
        floor_db: float = -70.0,
        noisy_encoder_layers: int = 0,
    ) -> None:
        super().__init__(fft_size, hop)
        check_fusion(visual_frontend, fusion, hidden_dim, "the prior's hidden_dim")
        if not 0.0 <= prior_weight < 1.0:
            raise ValueError(f"prior_weight must be at least 0 and less than 1, got {prior_weight}.")
        self.latent_dim, self.prior_weight, self.free_bits = latent_dim, prior_weight, free_bits
        self.floor = 10.0 ** (floor_db / 10.0) * _WINDOW_ENERGY * fft_size
        self.visual_frontend = visual_frontend
        if any(getattr(part, "complexity", "") == "quadratic" for part in (visual_frontend, fusion)):
            self.complexity = "quadratic"
        self.encoder_fusion, self.decoder_fusion = fusion, deepcopy(fusion)
        self.power_in = nn.Linear(self.bins, hidden_dim)
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim)
        self.latent_in = nn.Linear(latent_dim, hidden_dim)
        self.log_variance = nn.Linear(hidden_dim, self.bins)
        self.noisy_encoder = None
        if noisy_encoder_layers:
            self.noisy_encoder = NoisySpeechEncoder(
                self.bins, hidden_dim, latent_dim, noisy_encoder_layers, deepcopy(fusion)
            )
        self.encodes_noisy = self.noisy_encoder is not None

    @abstractmethod
    def encode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """From log power, fused with the video, to what the posterior is read from.

        Arguments
        ---------
        hidden : tensor, shape (batch, frames, hidden_dim)
        context : Context

        Returns
        -------
        tensor, shape (batch, frames, hidden_dim), bounded
        """

    @abstractmethod
    def decode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """From z, fused with the video, to what the log-variance is read from.

        Arguments
        ---------
        hidden : tensor, shape (batch, frames, hidden_dim)
        context : Context

        Returns
        -------
        tensor, shape (batch, frames, hidden_dim), bounded
        """

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        """See `Prior.visual_features`."""
        if self.visual_frontend is None:
            return None
        return self.visual_frontend(batch.mouth, batch.valid).to(self.power_in.weight.dtype)

    def encode(self, power: torch.Tensor, context: Context) -> Gaussian:
        """See `LatentPrior.encode`."""
        hidden, _ = self._fuse(self.encoder_fusion, torch.tanh(self.power_in(self._level(power))), context)
        return self.gaussian(self.posterior(self.encode_stream(hidden, context)))

    def encode_noisy(self, power: torch.Tensor, variance: torch.Tensor, context: Context) -> Gaussian:
        """See `LatentPrior.encode_noisy`."""
        if self.noisy_encoder is None:
            return super().encode_noisy(power, variance, context)
        return self.gaussian(self.noisy_encoder(self._level(power), self._level(variance), context))

    def decode(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        """See `LatentPrior.decode`."""
        return self.log_variance(self.decode_hidden(latent, context))

    def decode_hidden(self, latent: torch.Tensor, context: Context, code: torch.Tensor | None = None) -> torch.Tensor:
        """What the log-variance is read from.

        Arguments
        ---------
        latent : tensor, shape (batch, frames, latent_dim)
        context : Context
        code : tensor, shape (hidden_dim,), or None
            Added where the latent enters, for models with a manner of speaking of their own.

        Returns
        -------
        tensor, shape (batch, frames, hidden_dim)
        """
        hidden = self.latent_in(latent)
        hidden = hidden if code is None else hidden + code
        hidden, _ = self._fuse(self.decoder_fusion, torch.tanh(hidden), context)
        return self.decode_stream(hidden, context)

    def reliability(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        """See `LatentPrior.reliability`."""
        return self._fuse(self.decoder_fusion, torch.tanh(self.latent_in(latent)), context)[1]

    def calibrate(self, scale: float, shift: float) -> None:
        """Move the log-odds of `reliability`; see `Fusion.calibrate`."""
        if self.decoder_fusion is None:
            raise AvseError("The prior has no video, and nothing to calibrate.")
        self.decoder_fusion.calibrate(scale, shift)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Negative evidence bound per bin, and its terms; see `Prior.loss`.

        Returns
        -------
        dict of str to scalar tensor
            `loss`; `nll`: Itakura-Saito reconstruction per bin, up to a constant; `divergence`: of the posterior
            from the prior, in nats per step; where `prior_weight` asks for it, `prior_nll`: the reconstruction from
            p(z | v); with `noisy_encoder_layers`, `noisy_encoder`: divergence of q(z | s, v) from q(z | x, V, v)
            in drawn noise, in nats per step; and, where it is known which frames are intact and the fusion estimates
            it, `reliability`: its cross-entropy with that, in nats per step.
        """
        return self.loss_and_evidence(batch)[0]

    def read(self, batch: Batch) -> Reading:
        """Clean speech, and one draw of what the encoder makes of it."""
        context = self.context(batch)
        power = self.analyse(batch.clean).abs().square()
        posterior = self.encode(power, context)
        return Reading(context, power, posterior, posterior.sample())

    def loss_and_evidence(
        self, batch: Batch, reading: Reading | None = None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The loss, and how well each step is explained.

        Arguments
        ---------
        batch : Batch
        reading : Reading, optional
            Of this batch, where it is known.

        Returns
        -------
        loss : dict of str to scalar tensor
            See `loss`.
        evidence : tensor, shape (batch, frames)
            The evidence bound of each step, one draw of it, in nats up to a constant; no gradient passes.
        """
        reading = self.read(batch) if reading is None else reading
        context, power, posterior, latent = reading.context, reading.power, reading.posterior, reading.latent
        prior = self.prior(latent, context)
        mask = context.mask
        by_step = self.nll(power, self.decode(latent, context))
        evidence = -(self.bins * by_step.detach() + posterior.divergence(prior).detach())
        nll = by_step[mask].mean()
        divergence = divergence_with_free_bits(posterior, prior, mask, self.free_bits)
        loss = nll + self.kl_weight * divergence / self.bins
        terms = {"nll": nll, "divergence": divergence}
        if self.prior_weight and context.video is not None:
            seen = self.nll(power, self.decode(prior.sample(), context))[context.valid].mean()
            loss = (1.0 - self.prior_weight) * loss + self.prior_weight * seen
            terms["prior_nll"] = seen
        if self.noisy_encoder is not None:
            noisy_posterior = self._noisy_posterior(batch, context)
            known = Gaussian(posterior.mean.detach(), posterior.log_variance.detach())
            terms["noisy_encoder"] = known.divergence(noisy_posterior)[mask].mean()
            loss = loss + terms["noisy_encoder"] / self.bins
            latent = noisy_posterior.mean.detach()
        found = {"loss": loss, **{name: term.detach() for name, term in terms.items()}}
        if batch.video_is_clean is not None and context.video is not None:
            found = self.with_reliability(found, self.reliability(latent.detach(), context), batch, context)
        return found, evidence

    def _noisy_posterior(self, batch: Batch, context: Context) -> Gaussian:
        """q(z | x, V, v) of the speech in drawn noise, whose variance V is known in part."""
        noise, variance = draw_noise(batch.clean, self.fft_size, self.hop, _SNR)
        power = self.analyse(batch.clean + noise).abs().square()
        # While an inference goes on, V is first the mean of the noisy power and later a rough idea of the noise.
        mask = context.mask[..., None]
        start = (power * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
        error = 3.0 * torch.randn(len(power), 1, 1) + F.interpolate(
            3.0 * torch.randn(len(power), 1, 16), size=self.bins, mode="linear", align_corners=True
        )
        rough = variance * (math.log(10) / 10 * error.to(variance)).exp()
        steady = rough.mean(dim=1, keepdim=True)
        choice = torch.rand(len(power), 1, 1).to(variance)
        given = torch.where(choice < 0.35, start, torch.where(choice < 0.55, steady, rough)).expand_as(power)
        return self.encode_noisy(power, given, context)

    def _level(self, power: torch.Tensor) -> torch.Tensor:
        """From -2 at the floor to 2 for loud speech, with a variance near one."""
        return 0.25 * torch.log1p(power / self.floor) - 2.0

    def gaussian(self, parameters: torch.Tensor) -> Gaussian:
        """What a layer gives, shape (batch, frames, 2 * latent_dim), as a Gaussian with variances below one.

        The scale of z is free, so this takes nothing away, and no sound unlike those of training makes z uncertain
        beyond all measure.
        """
        mean, narrowness = parameters.chunk(2, dim=-1)
        return Gaussian(mean, -F.softplus(narrowness))

    def _fuse(self, fusion: Fusion | None, hidden: torch.Tensor, context: Context) -> tuple[torch.Tensor, torch.Tensor]:
        if fusion is None or context.video is None:
            return hidden, hidden.new_zeros(hidden.shape[:2])
        return fusion(hidden, context.video, context.valid)

    def nll(self, power: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """Itakura-Saito divergence of (batch, frames, bins) by step, up to a constant; a mean over bins."""
        log_variance = log_variance.to(power.dtype)  # in mixed precision it has few digits
        return ((power + self.floor) * (-log_variance).exp() + log_variance).mean(dim=-1)


def divergence_with_free_bits(
    posterior: Gaussian, prior: Gaussian, mask: torch.Tensor, free_bits: float
) -> torch.Tensor:
    """Divergence of posterior from prior, summed over units and averaged over steps, in nats.

    A unit whose average is below `free_bits` is not pressed further: no gradient reaches its posterior, while its prior
    still learns to predict it (Kingma et al., 2016, with the prior learned). The value is that of the plain divergence.

    Arguments
    ---------
    posterior, prior : Gaussian, shape (batch, frames, dim)
    mask : tensor, shape (batch, frames), bool
        Steps that count.
    free_bits : float
        Nats per unit.

    Returns
    -------
    scalar tensor

    Example
    -------
    >>> one = Gaussian(torch.ones(1, 2, 3, requires_grad=True), torch.zeros(1, 2, 3))
    >>> zero = Gaussian(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
    >>> value = divergence_with_free_bits(one, zero, torch.ones(1, 2, dtype=torch.bool), free_bits=0.6)
    >>> value.item(), torch.autograd.grad(value, one.mean)[0].abs().sum().item()
    (1.5, 0.0)
    """
    pressed = posterior.divergence_by_unit(prior)[mask].mean(dim=0)
    held = Gaussian(posterior.mean.detach(), posterior.log_variance.detach())
    free = held.divergence_by_unit(prior)[mask].mean(dim=0)
    return torch.where(pressed.detach() > free_bits, pressed, free).sum()

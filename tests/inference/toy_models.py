"""Small priors whose posterior is known, and batches without sound files."""

from __future__ import annotations

import numpy as np
import torch

from avse.contracts.noise_model import NoiseModel, ScoreNoiseModel
from avse.contracts.prior import Context, Gaussian, LatentPrior, ScorePrior
from avse.contracts.types import Batch, Clip
from avse.inference.em.state import EmState, SpeechModel
from avse.signal.random import clip_generators
from avse.signal.stft import length_mask

BLOCK = 64


class ToyPrior(LatentPrior):
    """Fixed maps: log-variance `level + tilt z`, posterior mean a share of log power, p(z) standard normal.

    Its domain has no overlap (blocks of 64 samples are 32 complex bins), so that what is drawn from the model in the
    domain is a sound whose transform it is.
    """

    dynamical = False
    looks_back = 0.0

    def __init__(self, latent_dim: int = 2, bins: int = 32, seed: int = 0) -> None:
        super().__init__(fft_size=2 * bins - 2, hop=BLOCK)
        self.latent_dim = latent_dim
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("tilt", 1.5 * torch.randn(latent_dim, bins, generator=generator, dtype=torch.float64))
        self.register_buffer("level", torch.full((bins,), -6.0, dtype=torch.float64))

    def analyse(self, audio):
        blocks = torch.nn.functional.pad(audio, (0, -audio.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK // 2, 2))
        return torch.view_as_complex(blocks.contiguous())

    def synthesise(self, spectrum, samples):
        return torch.view_as_real(spectrum).flatten(1)[:, :samples]

    def context(self, batch):
        mask = length_mask(-(-batch.lengths // BLOCK), -(-batch.noisy.shape[1] // BLOCK))
        return Context(mask, torch.zeros_like(mask))

    def encode(self, power, context):
        mean = 0.1 * ((power + 1e-6).log() - self.level) @ self.tilt.mT
        return Gaussian(mean, torch.full_like(mean, -2.0))

    def decode(self, latent, context):
        if self.looks_back:
            before = torch.nn.functional.pad(latent, (0, 0, 1, 0))[:, :-1]
            latent = latent + self.looks_back * before
        return self.level + torch.tanh(latent) @ self.tilt

    def prior(self, latent, context):
        return Gaussian(torch.zeros_like(latent), torch.zeros_like(latent))

    def loss(self, batch):
        raise NotImplementedError


class DynamicalToy(ToyPrior):
    """p(z_n | z_(n-1)) = N(0.9 z_(n-1), 0.19), and a decoder that looks one step back."""

    dynamical = True
    looks_back = 0.5

    def prior(self, latent, context):
        before = torch.nn.functional.pad(latent, (0, 0, 1, 0))[:, :-1]
        log_variance = torch.full_like(latent, np.log(0.19))
        log_variance[:, 0] = 0.0
        return Gaussian(0.9 * before, log_variance)


class GaussianPrior(ScorePrior):
    """Speech of a known variance in each bin; blocks of samples are bins, so that sound and domain are one."""

    def __init__(self, power: torch.Tensor, sde) -> None:
        super().__init__(fft_size=BLOCK - 2, hop=BLOCK)
        self.power, self.sde = power, sde

    def analyse(self, audio):
        return torch.view_as_complex(audio.unflatten(1, (-1, BLOCK // 2, 2)).contiguous())

    def synthesise(self, spectrum, samples):
        return torch.view_as_real(spectrum).flatten(1)[:, :samples]

    def context(self, batch):
        mask = length_mask(batch.lengths // BLOCK, batch.noisy.shape[1] // BLOCK)
        return Context(mask, torch.zeros_like(mask))

    def marginal(self, time):
        return self.sde.marginal(time)

    def drift_and_diffusion(self, state, time):
        decay, diffusion = self.sde.coefficients(time)
        return -decay[:, None, None] * state, diffusion

    def score(self, state, time, context):
        scale, std = (value[:, None, None] for value in self.marginal(time))
        return -state / (scale.square() * self.power + std.square())

    def speech_given(self, state, time, context):
        mean, flat = super().speech_given(state, time, context)
        return mean, self.power * flat / (self.power + flat)

    def loss(self, batch):
        raise NotImplementedError


class FixedNoise(NoiseModel):
    """Noise of a known variance, a number or one for each bin, which no update changes."""

    def __init__(self, variance: float | torch.Tensor = 1e-3) -> None:
        super().__init__()
        self.value = torch.as_tensor(variance, dtype=torch.float64)

    def initial_state(self, power, mask, scene=None):
        return {"variance": self.value.to(power).expand(power.shape)}

    def variance(self, state):
        return state["variance"]

    def update(self, state, numerator, denominator):
        return state


class ScoredNoise(FixedNoise, ScoreNoiseModel):
    """The same with the exact score, in a domain in which noise has the variance `unit` squared."""

    def __init__(self, variance: torch.Tensor, unit: float) -> None:
        super().__init__(variance)
        self.score_bins, self.unit = variance.shape[-1], unit

    def domain_of(self, noise, state):
        return self.unit * noise / state["variance"].sqrt()

    def noise_given(self, noisy, ratio, state, mask):
        left = 1 / (1 + (ratio[:, None, None] / self.unit).square())
        return left * noisy * state["variance"].sqrt() / self.unit, (1 - left) * state["variance"]


def state_of(
    prior: LatentPrior, power: torch.Tensor, latent: torch.Tensor, noise: torch.Tensor, gain: torch.Tensor | None = None
) -> EmState:
    """A state in which every clip fills all frames."""
    mask = torch.ones(power.shape[:2], dtype=torch.bool)
    gain = torch.ones_like(power[..., :1]) if gain is None else gain
    context = Context(mask, torch.zeros_like(mask))
    model = SpeechModel(prior, context)
    return EmState(model, power, mask, clip_generators(mask, 0), gain, {}, noise, latent=latent)


def sounds(lengths: tuple[int, ...], seed: int = 0, scale: float = 0.05) -> Batch:
    """Noise that swells, in 64 bits; a clip does not depend on the others."""
    clips = []
    for length in lengths:
        rng = np.random.default_rng((seed, length))
        clips.append(Clip(scale * rng.standard_normal(length) * (1.2 + np.sin(np.arange(length) / 200.0))))
    batch = Batch.from_clips(clips)
    batch.noisy = batch.noisy.double()
    return batch

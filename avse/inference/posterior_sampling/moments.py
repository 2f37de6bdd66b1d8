"""Inference `posterior_sampling_moments`: the sampler moves towards the mean of speech given state and noisy audio."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling
from avse.plugins import register


@register("inference", "posterior_sampling_moments")
class Moments(PosteriorSampling):
    """Any sampler, led by the mean of speech given the state and the noisy audio.

        E[s | state, x] = E + C / (C + V) (x - E),   Var[s | state, x] = C V / (C + V)

    with E and C the mean and variance of speech given the state, which the prior learned. That is the score of the
    posterior where speech given the state is Gaussian, with no weight to tune, and samplers with few steps serve as
    well. The mean of several short draws is nearer to the clean speech than one long draw: by default four of 15
    evaluations each. Speech and noise are added in the transform itself, not compressed; the noise is fitted after
    every move to |x - E[s | state, x]|^2 + Var[s | state, x].

    Under a `ScoreNoiseModel`, noise has a state of its own that the same sampler moves, with N and M the mean and
    variance of noise given that state: two scores under one observation.

        E[s | states, x] = E + C / (C + M) (x - E - N),   E[n | states, x] = x - E[s | states, x]

    The prior's domain is compressed: its mean d and variance become, with `C(d)` the transform that d stands for,

        E = C(d),   C = Var[C] + variance_excess (|E[C]|^2 - |C(d)|^2)

    so that the state is moved to d again where the noisy audio says nothing.

    Arguments
    ---------
    variance_excess : float
        0: C is the variance of speech in the transform. 1: E and C have the power E |C|^2 that the prior expects, and C
        is up to 1.6 times the variance, where d is large: a temperature, by which the noisy audio counts for more. The
        default was not tuned: all published scores were measured with it. On 12 development clips in recorded noise at
        -5 dB, `av-diffusion-small` without video gains 8.1 dB with 0 and 8.4 dB with 1.
    common :
        Further arguments: see `PosteriorSampling`.

    Raises
    ------
    ValueError
        If a number is out of range.

    Example
    -------
    >>> Moments.example().linear
    True
    """

    linear = True
    default_sampler = ("ancestral", 14)
    paper = "Boys et al., Tweedie moment projected diffusions for inverse problems, 2023"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        chains: int = 4,
        m_steps: int = 2,
        quantile: float = 0.5,
        variance_excess: float = 1.0,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, chains=chains, m_steps=m_steps, quantile=quantile, **common)
        if variance_excess < 0:
            raise ValueError(f"variance_excess must not be negative, got {variance_excess}.")
        self.variance_excess = variance_excess

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**super().example_arguments(), "chains": 2}

    def speech_moments(self, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `PosteriorSampling.speech_moments`: both (rows, frames, bins)."""
        centre = self.prior.spectrum_of(mean, torch.zeros_like(variance))[0]
        expected, variance = self.prior.spectrum_of(mean, variance)
        lacks = expected.abs().square() - centre.abs().square()
        return centre, variance + self.variance_excess * lacks

    def expect(self, draw: Draw, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        speech, speech_variance = self.speech_moments(mean, variance)
        residual, noise_variance = draw.residual(speech)
        gain = speech_variance / (speech_variance + noise_variance)
        return self.prior.state_of(speech + gain * residual), gain * noise_variance

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        speech = self.speech_moments(draw.speech, torch.zeros_like(draw.speech_variance))[0]
        return (draw.noisy - speech).abs().square() + draw.speech_variance

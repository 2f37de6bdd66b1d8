"""Inference `posterior_sampling_moments`: the sampler moves towards what state and noisy sound say together."""

from __future__ import annotations

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling, small_parts
from avse.plugins import get, register


@register("inference", "posterior_sampling_moments")
class Moments(PosteriorSampling):
    """Any sampler, led by the mean of speech given the state and the noisy sound.

        E[s | state, x] = E + C / (C + V) (x - E),   Var[s | state, x] = C V / (C + V)

    with E and C the mean and variance of speech given the state, which the prior learned. That is the score of the
    posterior where speech given the state is Gaussian, with no weight to tune, and few-step samplers serve as well.
    The mean of several short draws is nearer to the voice than one long draw: by default four of 15 evaluations each.
    Speech and noise are added in the transform itself, not compressed; the noise is fitted after every move to
    |x - E[s | state, x]|^2 + Var[s | state, x].

    Arguments
    ---------
    prior : ScorePrior
    noise_model : NoiseModel
    sampler : Sampler or None
        None: `ancestral`, 14 steps.
    gate : str
        `frame` or `clip`: the video counts by its share in a competition of the prior with its video and without it,
        step by step or as a whole. Twice the evaluations. `none`: it always counts.
    passes : int
        How often the sampler goes from noise to speech; the noise is kept from one pass to the next.
    chains : int
        Draws that are averaged.
    fit_every : int
        The noise is fitted after every so many moves; 0: at the end of a pass.
    m_steps : int
        Updates of the noise at a time.
    quantile : float
        The noise begins as what each bin exceeds in all but this share of the steps, in [0, 1). Noise that begins loud
        explains the voice before the prior can. 0: as the noise model begins by itself.
    wiener : bool
        Whether the voice is the noisy sound, filtered with the powers of the draw and of the rest.
    seed : int

    Shapes as in `Inference`: sound (batch, samples) in and out, reliability (batch, video_frames).

    Example
    -------
    >>> Moments.example().linear
    True
    """

    linear = True
    paper = "Boys et al., Tweedie moment projected diffusions for inverse problems, 2023"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        gate: str = "none",
        passes: int = 1,
        chains: int = 4,
        fit_every: int = 1,
        m_steps: int = 2,
        quantile: float = 0.5,
        wiener: bool = False,
        seed: int = 0,
    ) -> None:
        sampler = get("sampler", "ancestral")(steps=14) if sampler is None else sampler
        super().__init__(prior, noise_model, sampler, gate, passes, chains, fit_every, m_steps, quantile, wiener, seed)

    @classmethod
    def example_arguments(cls) -> dict:
        return {**small_parts(get), "chains": 2}

    def expect(self, draw: Draw, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `PosteriorSampling.expect`: both (rows, frames, bins)."""
        speech, spread = self.prior.spectrum_of(mean, variance)
        share = spread / (spread + draw.variance)
        known = speech + share * (draw.sound - speech)
        return self.prior.state_of(known), share * draw.variance

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        speech = self.prior.spectrum_of(draw.speech, draw.spread)[0]
        return (draw.sound - speech).abs().square() + draw.spread

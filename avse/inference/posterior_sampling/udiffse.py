"""Inferences `posterior_sampling` and `udiffse_plus`: draws of the voice under fitted noise."""

from __future__ import annotations

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling, small_parts, towards
from avse.plugins import get, register


@register("inference", "udiffse")
class ExpectationMaximisation(PosteriorSampling):
    """Draws of the voice and fits of the noise in turn, five times: expectation maximisation, as published (UDiffSE).

    In the first pass the sampler draws under the prior alone; in the others every second move is followed by a step
    towards the noisy sound. The noise is fitted once a pass, to what the draws leave. 300 evaluations of the network.

    Arguments
    ---------
    prior : ScorePrior
    noise_model : NoiseModel
    sampler : Sampler or None
        None: `predictor_corrector`, 30 steps.
    weight : float
        Of the steps towards the noisy sound.
    every : int
        Such a step follows every so many moves.
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
    >>> ExpectationMaximisation.example().linear
    False
    """

    paper = "Nortier, Sadeghi and Serizel, Unsupervised speech enhancement with diffusion-based generative models, 2024"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        weight: float = 1.5,
        every: int = 2,
        gate: str = "none",
        passes: int = 5,
        chains: int = 4,
        fit_every: int = 0,
        m_steps: int = 1,
        quantile: float = 0.0,
        wiener: bool = False,
        seed: int = 0,
    ) -> None:
        sampler = get("sampler", "predictor_corrector")() if sampler is None else sampler
        super().__init__(prior, noise_model, sampler, gate, passes, chains, fit_every, m_steps, quantile, wiener, seed)
        if weight <= 0 or every < 1:
            raise ValueError(f"weight must be above 0 and every at least 1, got {weight} and {every}.")
        self.weight, self.every = weight, every

    @classmethod
    def example_arguments(cls) -> dict:
        return {**small_parts(get), "passes": 2, "chains": 1}

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """See `PosteriorSampling.guide`: shape (rows, frames, bins)."""
        state = super().guide(draw, mean, std)
        unguided = self.passes > 1 and draw.count == 0
        if unguided or (draw.move + 1) % self.every:
            return state
        return towards(state, draw, self.prior, self.weight, variance=draw.variance)

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        return (draw.sound - draw.speech).abs().square()


@register("inference", "udiffse_plus")
class SinglePass(ExpectationMaximisation):
    """One pass, in which the noise is fitted to what is expected of the voice so far (UDiffSE+).

    As `posterior_sampling` with its M-steps between the moves, on Tweedie's estimate: 60 evaluations of the network.

    Arguments
    ---------
    prior : ScorePrior
    noise_model : NoiseModel
    sampler : Sampler or None
        None: `predictor_corrector`, 30 steps.
    weight : float
        Of the steps towards the noisy sound.
    every : int
        Such a step follows every so many moves.
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
    >>> SinglePass.example().linear
    False
    """

    paper = "Nortier, Sadeghi and Serizel, Unsupervised speech enhancement with diffusion-based generative models, 2024"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        weight: float = 1.5,
        every: int = 2,
        gate: str = "none",
        passes: int = 1,
        chains: int = 1,
        fit_every: int = 2,
        m_steps: int = 1,
        quantile: float = 0.0,
        wiener: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            prior, noise_model, sampler, weight, every, gate, passes, chains, fit_every, m_steps, quantile, wiener, seed
        )

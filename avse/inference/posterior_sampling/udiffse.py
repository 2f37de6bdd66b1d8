"""Inferences `udiffse` and `udiffse_plus`: guided draws of speech under fitted noise."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling, guidance_step
from avse.plugins import register


@register("inference", "udiffse")
class UDiffSE(PosteriorSampling):
    """Draws of speech and fits of the noise in turn, five times: expectation maximisation, as published.

    In the first pass the sampler draws under the prior alone; in the others every second move is followed by a guidance
    step. The noise is fitted once a pass, to what the draws leave. 300 evaluations of the network.

    Arguments
    ---------
    weight : float
        Of the guidance steps.
    every : int
        A guidance step follows every so many moves.
    common :
        Further arguments: see `PosteriorSampling`.

    Example
    -------
    >>> UDiffSE.example().linear
    False
    """

    paper = "Nortier, Sadeghi and Serizel, Unsupervised speech enhancement with diffusion-based generative models, 2024"
    fit_every = 0

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        weight: float = 1.5,
        every: int = 2,
        passes: int = 5,
        chains: int = 4,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, passes=passes, chains=chains, **common)
        if weight <= 0 or every < 1:
            raise ValueError(f"weight must be above 0 and every at least 1, got {weight} and {every}.")
        self.weight, self.every = weight, every

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**super().example_arguments(), "passes": 2}

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        state = super().guide(draw, mean, std)
        unguided = self.passes > 1 and draw.pass_number == 0
        if unguided or (draw.move + 1) % self.every:
            return state
        return guidance_step(state, draw, self.prior, self.weight, variance=draw.variance)


@register("inference", "udiffse_plus")
class UDiffSEPlus(UDiffSE):
    """One pass, in which the noise is fitted after every second move, to what is expected of speech so far (UDiffSE+).

    Guidance steps as in `udiffse`, on Tweedie's estimate: 60 evaluations of the network.

    Example
    -------
    >>> UDiffSEPlus.example().linear
    False
    """

    fit_every = 2

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        passes: int = 1,
        chains: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, passes=passes, chains=chains, **common)

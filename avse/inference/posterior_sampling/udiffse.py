"""Inferences `udiffse` and `udiffse_plus`: guided draws of speech under fitted noise."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw
from avse.inference.posterior_sampling.published import PublishedSampling, guidance_step, speech_after
from avse.plugins import register


@register("inference", "udiffse")
class UDiffSE(PublishedSampling):
    """Draws of speech and fits of the noise in turn, five times: expectation maximisation, as published.

    In the first pass the sampler draws under the prior alone; in the others the first of every two moves is followed by
    a guidance step. The noise is fitted once a pass, to what the draws leave. The draws are averaged in the prior's
    domain. 300 evaluations of the network.

    Arguments
    ---------
    weight : float
        Of the guidance steps.
    every : int
        A guidance step follows the first of every so many moves.
    limited_guidance : bool
        A guidance step never leads beyond the noisy audio.
    common :
        Further arguments: see `PublishedSampling`.

    Example
    -------
    >>> UDiffSE.example().linear
    False
    """

    paper = "Nortier, Sadeghi and Serizel, Unsupervised speech enhancement with diffusion-based generative models, 2024"
    fit_every = 0
    averages_states = True

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        weight: float = 1.5,
        every: int = 2,
        limited_guidance: bool = False,
        passes: int = 5,
        chains: int = 4,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, passes=passes, chains=chains, **common)
        if weight <= 0 or every < 1:
            raise ValueError(f"weight must be above 0 and every at least 1, got {weight} and {every}.")
        self.weight, self.every, self.limited_guidance = weight, every, limited_guidance

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**super().example_arguments(), "passes": 2}

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        state = super().guide(draw, mean, std)
        unguided = self.passes > 1 and draw.pass_number == 0
        if unguided or draw.move % self.every:
            return state
        return guidance_step(
            state, draw, self.prior, self.weight, variance=draw.variance, limited=self.limited_guidance
        )


@register("inference", "udiffse_plus")
class UDiffSEPlus(UDiffSE):
    """One pass of `udiffse`, in which the noise is fitted after every guidance step (UDiffSE+).

    It is fitted to |x - (s + std^2 score)|^2, with the state s after the guidance step and the score before the move,
    and before the first move to |x - s|^2. 60 evaluations of the network for each draw.

    Arguments
    ---------
    exact_mean : bool
        The noise is fitted to |x - E[s | state]|^2 before the move, Tweedie's formula, and not before the first move.
    common :
        Further arguments: see `UDiffSE`.

    Example
    -------
    >>> UDiffSEPlus.example().linear
    False
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        exact_mean: bool = False,
        passes: int = 1,
        chains: int = 2,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, passes=passes, chains=chains, **common)
        self.exact_mean, self.fits_start, self.fit_every = exact_mean, not exact_mean, self.every

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        state = super().guide(draw, mean, std)
        speech = draw.speech if self.exact_mean else speech_after(state, draw, self.prior, scaled=False)
        draw.power = (draw.noisy - speech).abs().square()
        return state

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        return draw.power

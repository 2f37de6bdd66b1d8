"""Inference `posterior_sampling_noise_latent`: the noise is a latent variable of its own."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw
from avse.inference.posterior_sampling.published import PublishedSampling, guidance_step, speech_after
from avse.plugins import register


@register("inference", "posterior_sampling_noise_latent")
class NoiseLatent(PublishedSampling):
    """Guidance steps towards the noisy audio less the expected noise (DiffUSEEN).

        M = V / (V + u) (x - D),   S = V u / (V + u),   u = (std / scale)^2 + width,   D = (s + std^2 score) / scale

    M and S are mean and variance of the noise given the state; s is the state after the move, score, std and scale are
    those before it. The state moves towards x - M, and the noise is fitted to |M|^2 + S, after every move of a single
    pass. 60 evaluations of the network for each draw.

    Arguments
    ---------
    weight : float
        Of the guidance steps.
    width : float
        Variance of what is neither speech nor noise.
    exact_mean : bool
        D = E[s | state] before the move, Tweedie's formula.
    limited_guidance : bool
        A guidance step never leads beyond the noisy audio.
    common :
        Further arguments: see `PublishedSampling`.

    Example
    -------
    >>> NoiseLatent.example().linear
    False
    """

    paper = "Ayilo et al., Diffusion-based frameworks for unsupervised speech enhancement, 2026"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        weight: float = 1.75,
        width: float = 5e-4,
        exact_mean: bool = False,
        limited_guidance: bool = False,
        chains: int = 2,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, chains=chains, **common)
        if weight <= 0 or width <= 0:
            raise ValueError(f"weight and width must be above 0, got {weight} and {width}.")
        self.weight, self.width = weight, width
        self.exact_mean, self.limited_guidance = exact_mean, limited_guidance

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        state = super().guide(draw, mean, std)
        speech = draw.speech if self.exact_mean else speech_after(state, draw, self.prior)
        unknown = self.prior.sde.ratio(draw.time).square()[:, None, None] + self.width
        gain = draw.variance / (draw.variance + unknown)
        noise = gain * (draw.noisy - speech)
        draw.power = noise.abs().square() + gain * unknown
        return guidance_step(
            state, draw, self.prior, self.weight, noise=noise, variance=self.width, limited=self.limited_guidance
        )

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        return draw.power

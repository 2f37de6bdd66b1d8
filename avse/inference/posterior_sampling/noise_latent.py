"""Inference `posterior_sampling_noise_latent`: the noise is a latent variable of its own."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling, guidance_step
from avse.plugins import register


@register("inference", "posterior_sampling_noise_latent")
class NoiseLatent(PosteriorSampling):
    """Guidance steps towards the noisy audio less the expected noise (DiffUSEEN).

        M = V / (V + u) (x - E[s | state]),   S = V u / (V + u),   u = (std / scale)^2 + width

    M and S are mean and variance of the noise given the state; the state moves towards x - M, and the noise is fitted
    to |M|^2 + S, after every move of a single pass. 60 evaluations of the network.

    Arguments
    ---------
    weight : float
        Of the guidance steps.
    width : float
        Variance of what is neither speech nor noise.
    common :
        Further arguments: see `PosteriorSampling`.

    Example
    -------
    >>> NoiseLatent.example().linear
    False
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        weight: float = 1.75,
        width: float = 5e-4,
        chains: int = 2,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, chains=chains, **common)
        if weight <= 0 or width <= 0:
            raise ValueError(f"weight and width must be above 0, got {weight} and {width}.")
        self.weight, self.width = weight, width

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        noise, _ = self._noise_moments(draw)
        state = super().guide(draw, mean, std)
        return guidance_step(state, draw, self.prior, self.weight, noise=noise, variance=self.width)

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        mean, variance = self._noise_moments(draw)
        return mean.abs().square() + variance

    def _noise_moments(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
        unknown = self.prior.sde.ratio(draw.following).square()[:, None, None] + self.width
        gain = draw.variance / (draw.variance + unknown)
        return gain * (draw.noisy - draw.speech), gain * unknown

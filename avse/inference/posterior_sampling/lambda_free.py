"""Inference `posterior_sampling_lambda_free`: each move is drawn given the noisy audio, with no weight to tune."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling
from avse.plugins import register


@register("inference", "posterior_sampling_lambda_free")
class LambdaFree(PosteriorSampling):
    """The Gaussian that the sampler moves to, times the likelihood of the noisy audio (DEPSE).

        state ~ N_c( (R m + P scale x) / (R + P),  P R / (R + P) ),   R = scale^2 V + std^2

    with m and P the mean and variance of the sampler's move. The likelihood uses no knowledge of speech beyond the
    state. 60 evaluations of the network. The sampler must be stochastic.

    Example
    -------
    >>> LambdaFree.example().linear
    False
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"

    def __init__(
        self, prior: ScorePrior, noise_model: NoiseModel, sampler: Sampler | None = None, **common: Any
    ) -> None:
        super().__init__(prior, noise_model, sampler, **common)
        if not self.sampler.stochastic:
            raise ValueError(
                "posterior_sampling_lambda_free needs a sampler whose moves draw at random (predictor_corrector, "
                f"ancestral); {self.sampler.plugin_name} does not."
            )

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        scale, state_std = (value[:, None, None] for value in self.prior.marginal(draw.following))
        power, noise = std.square(), scale.square() * draw.variance + state_std.square()
        fraction = power / (power + noise)
        return mean + fraction * (scale * draw.noisy - mean) + (fraction * noise).sqrt() * draw.noise()

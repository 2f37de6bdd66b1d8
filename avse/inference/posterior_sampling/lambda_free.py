"""Inference `posterior_sampling_lambda_free`: each move is drawn given the noisy audio, with no weight to tune."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw
from avse.inference.posterior_sampling.published import PublishedSampling
from avse.plugins import register


@register("inference", "posterior_sampling_lambda_free")
class LambdaFree(PublishedSampling):
    """The Gaussian that the sampler moves to, times the likelihood of the noisy audio (DEPSE-IL).

        state ~ N_c( (R m + P scale x) / (R + P),  P R / (R + P) ),   R = scale^2 V + std^2

    with m and P the mean and variance of the sampler's move, scale and std after it. The likelihood uses no knowledge
    of speech beyond the state. 60 evaluations of the network. The sampler must be stochastic.

    The equation is the paper's. The rest was not compared with its code: the start, the moves and the NMF are those of
    `PublishedSampling`, and the noise is fitted after every move, to |x - E[s | state]|^2 before it.

    Arguments
    ---------
    common :
        Further arguments: see `PublishedSampling`.

    Example
    -------
    >>> LambdaFree.example().linear
    False
    """

    paper = "Sadeghi et al., Posterior transition modeling for unsupervised diffusion-based speech enhancement, 2025"

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
        scale, state_std = (value[:, None, None] for value in self.prior.marginal(draw.following.clamp(min=0)))
        power, noise = std.square(), scale.square() * draw.variance + state_std.square()
        fraction = power / (power + noise)
        mean = mean + fraction * (scale * draw.noisy - mean)
        return mean if draw.quiet else mean + (fraction * noise).sqrt() * draw.noise()

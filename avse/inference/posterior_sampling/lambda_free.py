"""Inference `posterior_sampling_lambda_free`: each move is drawn given the noisy sound, with no weight to tune."""

from __future__ import annotations

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling, small_parts
from avse.plugins import get, register


@register("inference", "posterior_sampling_lambda_free")
class LambdaFree(PosteriorSampling):
    """The Gaussian that the sampler moves to, times the likelihood of the noisy sound (DEPSE).

        state ~ N_c( (R m + P scale x) / (R + P),  P R / (R + P) ),   R = scale^2 V + std^2

    with m and P the mean and variance of the sampler's move. R with std^2 knows nothing of speech beyond the state;
    with `implicit` false, the noisy sound is noised like the state instead, and R = scale^2 V. No weight is left to
    tune. 60 evaluations of the network.

    Arguments
    ---------
    prior : ScorePrior
    noise_model : NoiseModel
    sampler : Sampler or None
        None: `predictor_corrector`, 30 steps.
    implicit : bool
        Whether the likelihood is that of the noisy sound, or that of the noisy sound noised like the state.
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
    >>> LambdaFree.example().linear
    False
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        implicit: bool = True,
        gate: str = "none",
        passes: int = 1,
        chains: int = 1,
        fit_every: int = 1,
        m_steps: int = 1,
        quantile: float = 0.0,
        wiener: bool = False,
        seed: int = 0,
    ) -> None:
        sampler = get("sampler", "predictor_corrector")() if sampler is None else sampler
        super().__init__(prior, noise_model, sampler, gate, passes, chains, fit_every, m_steps, quantile, wiener, seed)
        if not self.sampler.stochastic:
            raise ValueError(
                "posterior_sampling_lambda_free needs a sampler whose moves draw at random (predictor_corrector, "
                f"ancestral); {self.sampler.plugin_name} does not."
            )
        self.implicit = implicit

    @classmethod
    def example_arguments(cls) -> dict:
        return {**small_parts(get), "chains": 1}

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """See `PosteriorSampling.guide`: shape (rows, frames, bins)."""
        scale, deviation = (value[:, None, None] for value in self.prior.marginal(draw.following))
        power, rest, sound = std.square(), scale.square() * draw.variance, scale * draw.sound
        if self.implicit:
            rest = rest + deviation.square()
        else:
            sound = sound + deviation * draw.noise()
        share = power / (power + rest)
        return mean + share * (sound - mean) + (share * rest).sqrt() * draw.noise()

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        return (draw.sound - draw.speech).abs().square()

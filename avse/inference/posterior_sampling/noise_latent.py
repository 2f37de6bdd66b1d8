"""Inference `posterior_sampling_noise_latent`: the noise is a latent variable of its own."""

from __future__ import annotations

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling, small_parts, towards
from avse.plugins import get, register


@register("inference", "posterior_sampling_noise_latent")
class NoiseLatent(PosteriorSampling):
    """The expected noise is taken out of the sound before the voice is moved towards it (DiffUSEEN).

        M = V / (V + u) (x - E[s | state]),   S = V u / (V + u),   u = (std / scale)^2 + width

    M and S are mean and variance of the noise given the state; the state moves towards x - M, and the noise is fitted
    to |M|^2 + S, after every move of a single pass. 60 evaluations of the network.

    Arguments
    ---------
    prior : ScorePrior
    noise_model : NoiseModel
    sampler : Sampler or None
        None: `predictor_corrector`, 30 steps.
    weight : float
        Of the steps towards the noisy sound.
    width : float
        Variance of what is neither voice nor noise.
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
    >>> NoiseLatent.example().linear
    False
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        weight: float = 1.75,
        width: float = 5e-4,
        gate: str = "none",
        passes: int = 1,
        chains: int = 2,
        fit_every: int = 1,
        m_steps: int = 1,
        quantile: float = 0.0,
        wiener: bool = False,
        seed: int = 0,
    ) -> None:
        sampler = get("sampler", "predictor_corrector")() if sampler is None else sampler
        super().__init__(prior, noise_model, sampler, gate, passes, chains, fit_every, m_steps, quantile, wiener, seed)
        if weight <= 0 or width <= 0:
            raise ValueError(f"weight and width must be above 0, got {weight} and {width}.")
        self.weight, self.width = weight, width

    @classmethod
    def example_arguments(cls) -> dict:
        return {**small_parts(get), "chains": 1}

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """See `PosteriorSampling.guide`: shape (rows, frames, bins)."""
        noise, _ = self._noise_given(draw)
        state = super().guide(draw, mean, std)
        return towards(state, draw, self.prior, self.weight, rest=noise, variance=self.width)

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """See `PosteriorSampling.noise_power`: shape (rows, frames, bins)."""
        mean, variance = self._noise_given(draw)
        return mean.abs().square() + variance

    def _noise_given(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
        unknown = self.prior.sde.ratio(draw.following).square()[:, None, None] + self.width
        share = draw.variance / (draw.variance + unknown)
        return share * (draw.sound - draw.speech), share * unknown

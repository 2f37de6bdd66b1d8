"""Sampler `predictor_corrector`: a step of Langevin dynamics, then a step back along the equation."""

from __future__ import annotations

from torch import Tensor

from avse.contracts.sampler import Expected, Noise, Sampler, score_of
from avse.contracts.sde import Sde
from avse.plugins import register


@register("sampler", "predictor_corrector")
class PredictorCorrector(Sampler):
    """Annealed Langevin dynamics and the reverse equation by Euler and Maruyama, in turn, as published.

        correct   s + (snr std)^2 score + sqrt(2) snr std z
        move      s + (decay s + diffusion^2 score) dt + diffusion sqrt(dt) z

    Arguments
    ---------
    snr : float
        Step size of the correction relative to the noise; 0: no correction, and one evaluation a step in place
        of two.

    Example
    -------
    >>> PredictorCorrector(steps=30).evaluations
    2
    """

    paper = "Song et al., Score-based generative modeling through stochastic differential equations, 2021"
    leaves = True

    def __init__(self, steps: int = 30, snr: float = 0.5) -> None:
        super().__init__(steps)
        if snr < 0:
            raise ValueError(f"snr must not be negative, got {snr}.")
        self.snr, self.evaluations = snr, 2 if snr else 1

    def correct(self, state: Tensor, time: Tensor, expected: Expected, sde: Sde, noise: Noise) -> Tensor:
        if not self.snr:
            return state
        size = (self.snr * sde.marginal(time)[1])[:, None, None]
        return state + size.square() * score_of(state, time, expected, sde) + 2**0.5 * size * noise()

    def move(
        self, state: Tensor, time: Tensor, following: Tensor, expected: Expected, sde: Sde, memory: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        decay, diffusion = sde.coefficients(time)
        size = time - following
        drift = decay[:, None, None] * state
        drift = drift + diffusion.square()[:, None, None] * score_of(state, time, expected, sde)
        return state + size[:, None, None] * drift, diffusion * size.sqrt()

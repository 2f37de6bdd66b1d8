"""Samplers `euler` and `heun`: the probability-flow equation, by steps of first and of second order."""

from __future__ import annotations

from torch import Tensor

from avse.contracts.sampler import Expected, Sampler
from avse.contracts.sde import Sde
from avse.plugins import register


@register("sampler", "euler")
class Euler(Sampler):
    """The ordinary equation that has the same marginals, dy / dr = (y - D) / r, in steps of Euler.

    y = s / scale and r = std / scale; D = E[speech | state]. Only the first state is random.

    Example
    -------
    >>> Euler().stochastic
    False
    """

    paper = "Song, Meng and Ermon, Denoising diffusion implicit models, 2021"
    stochastic = False
    order = 1

    def move(
        self, state: Tensor, time: Tensor, following: Tensor, expected: Expected, sde: Sde, memory: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        scale, after = (sde.marginal(moment)[0][:, None, None] for moment in (time, following))
        ratio, later = (sde.ratio(moment)[:, None, None] for moment in (time, following))
        noisy = state / scale
        gradient = (noisy - expected(state, time)) / ratio
        moved = noisy + (later - ratio) * gradient
        if self.order == 2:
            end = (moved - expected(after * moved, following)) / later
            moved = noisy + (later - ratio) * 0.5 * (gradient + end)
        return after * moved, 0 * time


@register("sampler", "heun")
class Heun(Euler):
    """As `euler`, with the mean of the gradients at both ends of each step: second order, twice the work.

    Example
    -------
    >>> Heun().evaluations
    2
    """

    paper = "Karras et al., Elucidating the design space of diffusion-based generative models, 2022"
    evaluations = 2
    order = 2

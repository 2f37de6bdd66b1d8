"""Sampler `ancestral`: each move is drawn from the transition that is exact for the expected speech."""

from __future__ import annotations

from torch import Tensor

from avse.contracts.sampler import Expected, Sampler
from avse.contracts.sde import Sde
from avse.plugins import register


@register("sampler", "ancestral")
class Ancestral(Sampler):
    """Draws the next state from p(next state | state, speech), with the expected speech in place of speech.

    With y = s / scale and r = std / scale, before and after (') the move, that is

        y'  ~  N_c( D + (r'/r)^2 (y - D),  r'^2 (r^2 - r'^2) / r^2 ),     D = E[speech | state]

    It allows longer steps than that of Euler and Maruyama.

    Example
    -------
    >>> Ancestral().stochastic, Ancestral().evaluations
    (True, 1)
    """

    paper = "Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020"

    def move(
        self, state: Tensor, time: Tensor, following: Tensor, expected: Expected, sde: Sde, memory: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        scale, after = sde.marginal(time)[0], sde.marginal(following)[0]
        ratio, later = sde.ratio(time), sde.ratio(following)
        shrink = (later / ratio).square()
        speech = expected(state, time)
        mean = speech + shrink[:, None, None] * (state / scale[:, None, None] - speech)
        return after[:, None, None] * mean, after * later * (1 - shrink).clamp(min=0).sqrt()

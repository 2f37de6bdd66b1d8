"""Sampler `dpm_solver`: few steps of second order, each with the evaluation of the last one."""

from __future__ import annotations

from torch import Tensor

from avse.contracts.sampler import Expected, Sampler
from avse.contracts.sde import Sde
from avse.plugins import register


@register("sampler", "dpm_solver")
class DPMSolver(Sampler):
    """DPM-Solver++ (2M): the linear part of the ordinary equation exactly, the rest from the last two evaluations.

        y' = (r'/r) y + (1 - r'/r) (D + (D - D_before) h / (2 h_before)),     h = log(r / r')

    With y = s / scale, r = std / scale and D = E[speech | state]. Only the first state is random.

    Example
    -------
    >>> DPMSolver(steps=8).stochastic
    False
    """

    paper = "Lu et al., DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models, 2022"
    stochastic = False

    def __init__(self, steps: int = 12) -> None:
        super().__init__(steps)

    def move(
        self, state: Tensor, time: Tensor, following: Tensor, expected: Expected, sde: Sde, memory: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        scale, after = (sde.marginal(moment)[0][:, None, None] for moment in (time, following))
        shrink = (sde.ratio(following) / sde.ratio(time))[:, None, None]
        speech, length = expected(state, time), -shrink.log()
        ahead = speech
        if "speech" in memory:
            ahead = speech + (speech - memory["speech"]) * (0.5 * length / memory["length"])
        memory.update(speech=speech, length=length)
        return after * (shrink * state / scale + (1 - shrink) * ahead), 0 * time

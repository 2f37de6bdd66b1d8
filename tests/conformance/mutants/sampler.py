"""Samplers with one fault each."""

from __future__ import annotations

import torch

from avse.contracts.sampler import Sampler
from mutants import Mutant, any_number


class Straight(Sampler):
    """Steps of the ordinary equation.

    Arguments
    ---------
    steps : int
    """

    stochastic = False

    def __init__(self, steps: int = 30) -> None:
        super().__init__(steps)

    def move(self, state, time, following, expected, sde, memory):
        """See `Sampler.move`: shapes (batch, frames, bins) and (batch,)."""
        scale, after = (sde.marginal(one)[0][:, None, None] for one in (time, following))
        shrink = (sde.ratio(following) / sde.ratio(time))[:, None, None]
        found = expected(state, time)
        return after * (found + shrink * (state / scale - found)), 0 * time


class Drawn(Straight):
    """Steps of the ordinary equation, a tenth of the noise anew.

    Arguments
    ---------
    steps : int
    """

    stochastic = True

    def move(self, state, time, following, expected, sde, memory):
        scale, after = (sde.marginal(one)[0][:, None, None] for one in (time, following))
        shrink = (sde.ratio(following) / sde.ratio(time))[:, None, None]
        found = expected(state, time)
        mean = after * (found + 0.99**0.5 * shrink * (state / scale - found))
        return mean, 0.1 * sde.marginal(following)[1]


mutants = Mutant("sampler", Straight, Drawn)


@mutants("documented")
class Undocumented(Straight):
    pass


@mutants("shapes")
class FailsInOneStep(Straight):
    def move(self, state, time, following, expected, sde, memory):
        mean, std = super().move(state, time, following, expected, sde, memory)
        return mean / (self.steps > 1), std


@mutants("moments")
class Shrinks(Straight):
    def move(self, state, time, following, expected, sde, memory):
        mean, std = super().move(state, time, following, expected, sde, memory)
        return mean if self.steps < 100 else 0.99 * mean, std


@mutants("few_steps")
class TooFew(Straight):
    """Steps of the ordinary equation.

    Arguments
    ---------
    steps : int
    """

    def __init__(self, steps: int = 1) -> None:
        super().__init__(steps)


@mutants("batch_equals_singles")
class CountsClips(Straight):
    def move(self, state, time, following, expected, sde, memory):
        mean, std = super().move(state, time, following, expected, sde, memory)
        return mean * (1 + 1e-4 * len(mean)), std


@mutants("keeps_state")
class InPlace(Straight):
    def move(self, state, time, following, expected, sde, memory):
        mean, std = super().move(state, time, following, expected, sde, memory)
        return state.copy_(mean), std


@mutants("precision")
class AlwaysSingle(Straight):
    def move(self, state, time, following, expected, sde, memory):
        mean, std = super().move(state, time, following, expected, sde, memory)
        return mean.to(torch.complex64).to(mean.dtype) * 1.01 ** (mean.dtype == torch.complex64), std


@mutants("repeatable")
class OwnChance(Straight):
    def __init__(self, steps: int = 30) -> None:
        super().__init__(steps)
        self.drift = 1 + 1e-9 * any_number()

    def move(self, state, time, following, expected, sde, memory):
        mean, std = super().move(state, time, following, expected, sde, memory)
        return mean * self.drift, std


@mutants("recipe_round_trip")
class TakesAFunction(Straight):
    """Steps of the ordinary equation.

    Arguments
    ---------
    steps : int
    how : callable
    """

    def __init__(self, steps: int = 30, how=None) -> None:
        super().__init__(steps)

    @classmethod
    def example_arguments(cls):
        return {"how": torch.tanh}

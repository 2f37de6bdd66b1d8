"""Equations with one fault each."""

from __future__ import annotations

import torch

from avse.contracts.sde import Sde
from mutants import Mutant


class Linear(Sde):
    """Noise whose deviation grows with time.

    Arguments
    ---------
    std_max : float
    """

    def __init__(self, std_max: float = 2.0) -> None:
        super().__init__()
        self.std_max = std_max

    def marginal(self, time):
        """See `Sde.marginal`."""
        return torch.ones_like(time), self.std_max * time

    def coefficients(self, time):
        """See `Sde.coefficients`."""
        return torch.zeros_like(time), self.std_max * (2 * time).sqrt()


mutants = Mutant("sde", Linear)


@mutants("documented")
class Undocumented(Linear):
    pass


@mutants("shapes")
class Flattens(Linear):
    def coefficients(self, time):
        return tuple(value.flatten() for value in super().coefficients(time))


@mutants("moments")
class TwiceTheNoise(Linear):
    def coefficients(self, time):
        decay, diffusion = super().coefficients(time)
        return decay, 2 * diffusion


@mutants("direction")
class BeginsNoisy(Linear):
    def marginal(self, time):
        return torch.ones_like(time), self.std_max * (time.square() + 0.1).sqrt()


@mutants("precision")
class AlwaysSingle(Linear):
    def coefficients(self, time):
        return tuple(value.float() for value in super().coefficients(time))


@mutants("recipe_round_trip")
class TakesAFunction(Linear):
    """Noise whose deviation grows with time.

    Arguments
    ---------
    std_max : float
    how : callable
    """

    def __init__(self, std_max: float = 2.0, how=None) -> None:
        super().__init__(std_max)

    @classmethod
    def example_arguments(cls):
        return {"how": torch.tanh}

"""Metrics with one fault each."""

from __future__ import annotations

import numpy as np

from avse.contracts.metric import Metric
from avse.errors import AvseError
from mutants import Mutant


class Distance(Metric):
    """Mean absolute difference."""

    name, unit, higher_is_better = "distance", "", False

    def __call__(self, estimate, clean, noisy):
        """See `Metric.__call__`."""
        value = float(np.mean(np.abs(estimate - clean), dtype=np.float64)) if len(clean) else float("nan")
        if not np.isfinite(value):
            raise AvseError("not defined")
        return value


mutants = Mutant("metric", Distance)


@mutants("documented")
class Undocumented(Distance):
    pass


@mutants("declares_itself")
class Nameless(Distance):
    name = ""


@mutants("returns_float")
class Array(Distance):
    def __call__(self, estimate, clean, noisy):
        return np.float32(super().__call__(estimate, clean, noisy))


@mutants("prefers_clean")
class WrongSign(Distance):
    higher_is_better = True


@mutants("precision")
class TakesSingleForIntegers(Distance):
    def __call__(self, estimate, clean, noisy):
        return super().__call__(estimate, clean, noisy) / (32768 if estimate.dtype == np.float32 else 1)


@mutants("repeatable")
class Averages(Distance):
    """Mean over all clips so far."""

    def __init__(self) -> None:
        self.scores = []

    def __call__(self, estimate, clean, noisy):
        self.scores.append(super().__call__(estimate, clean, noisy))
        return float(np.mean(self.scores))


@mutants("recipe_round_trip")
class TakesAFunction(Distance):
    """Mean absolute difference.

    Arguments
    ---------
    how : callable
    """

    def __init__(self, how) -> None:
        self.how = how

    @classmethod
    def example_arguments(cls):
        return {"how": abs}


@mutants("hostile_input")
class SaysInfinity(Distance):
    def __call__(self, estimate, clean, noisy):
        return super().__call__(estimate, clean, noisy) if clean.any() else float("inf")


@mutants("complexity")
class ComparesAllSamples(Distance):
    def __call__(self, estimate, clean, noisy):
        np.abs(np.subtract.outer(estimate[::20], clean[::20]))
        return super().__call__(estimate, clean, noisy)

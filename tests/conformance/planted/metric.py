"""Metrics with one fault each."""

from __future__ import annotations

import numpy as np

from avse.contracts.metric import Metric
from avse.errors import AvseError
from planted import Planted


class Distance(Metric):
    """Mean absolute difference."""

    name, unit, higher_is_better = "distance", "", False

    def __call__(self, estimate, clean, noisy):
        """See `Metric.__call__`."""
        value = float(np.mean(np.abs(estimate - clean), dtype=np.float64)) if len(clean) else float("nan")
        if not np.isfinite(value):
            raise AvseError("not defined")
        return value


planted = Planted("metric", Distance)


@planted("documented")
class Undocumented(Distance):
    pass


@planted("declares_itself")
class Nameless(Distance):
    name = ""


@planted("returns_float")
class Array(Distance):
    def __call__(self, estimate, clean, noisy):
        return np.float32(super().__call__(estimate, clean, noisy))


@planted("prefers_clean")
class WrongSign(Distance):
    higher_is_better = True


@planted("precision")
class TakesSingleForIntegers(Distance):
    def __call__(self, estimate, clean, noisy):
        return super().__call__(estimate, clean, noisy) / (32768 if estimate.dtype == np.float32 else 1)


@planted("repeatable")
class Averages(Distance):
    """Mean over all clips so far."""

    def __init__(self) -> None:
        self.scores = []

    def __call__(self, estimate, clean, noisy):
        self.scores.append(super().__call__(estimate, clean, noisy))
        return float(np.mean(self.scores))


@planted("recipe_round_trip")
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


@planted("hostile_input")
class SaysInfinity(Distance):
    def __call__(self, estimate, clean, noisy):
        return super().__call__(estimate, clean, noisy) if clean.any() else float("inf")


@planted("growth")
class ComparesAllSamples(Distance):
    def __call__(self, estimate, clean, noisy):
        np.abs(np.subtract.outer(estimate[::20], clean[::20]))
        return super().__call__(estimate, clean, noisy)

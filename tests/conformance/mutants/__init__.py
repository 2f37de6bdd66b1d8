"""Plugins that break one promise each, by kind: what the checks must find, and nothing beside it."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np


class Mutant:
    """Good plugins of a kind, and those with a fault by the check that must find it.

    Arguments
    ---------
    kind : str
    *good : type
        Plugins that pass every check.
    """

    def __init__(self, kind: str, *good: type) -> None:
        self.kind, self.good = kind, good
        self.faults: list[tuple[tuple[str, ...], type]] = []

    def __call__(self, *checks: str) -> Callable[[type], type]:
        """Class decorator: this plugin fails these checks, and no other; takes over the docstring of its base."""

        def plant(cls: type) -> type:
            if cls.__doc__ is None and checks != ("documented",):
                cls.__doc__ = cls.__mro__[1].__doc__
            self.faults.append((checks, cls))
            return cls

        return plant


def mutants(kind: str) -> Mutant:
    """What is mutants of a kind."""
    return importlib.import_module(f"mutants.{kind}").mutants


def any_number() -> float:
    """Another one in every process and every call, whatever is seeded."""
    return float(np.random.default_rng().uniform(0.5, 1.5))

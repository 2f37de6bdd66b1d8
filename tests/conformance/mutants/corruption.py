"""Corruptions with one fault each."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from mutants import Mutant


class GoodCorruption(Corruption):
    """Darkens by chance.

    Arguments
    ---------
    severity : int
    """

    def __call__(self, mouth, valid, rng):
        """See `Corruption.__call__`."""
        return (mouth * rng.uniform(0, 1 / self.severity)).astype(np.uint8), valid.copy()


mutants = Mutant("corruption", GoodCorruption)


@mutants("documented")
class Undocumented(GoodCorruption):
    pass


@mutants("shapes")
class DropsShortClips(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        kept = len(valid) if len(valid) > 1 else 0
        return super().__call__(mouth[:kept], valid[:kept], rng)


@mutants("leaves_input")
class InPlace(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        out = super().__call__(mouth, valid, rng)
        mouth[:1] = 0
        return out


@mutants("invalid_frames_ignored")
class Smears(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        return super().__call__(mouth // 2 + np.roll(mouth, 1, axis=0) // 2, valid, rng)


@mutants("repeatable")
class DarkerEveryTime(GoodCorruption):
    calls = 0

    def __call__(self, mouth, valid, rng):
        self.calls += 1
        return super().__call__(mouth // self.calls, valid, rng)


@mutants("does_something")
class Nothing(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        return mouth.copy(), valid.copy()


@mutants("does_something")
class MilderWhenSevere(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        return (mouth * rng.uniform(0, self.severity / 5)).astype(np.uint8), valid.copy()


@mutants("refuses_severity")
class AnySeverity(GoodCorruption):
    def __init__(self, severity: int = 3) -> None:
        self.severity = severity


@mutants("recipe_round_trip")
class TakesAFunction(GoodCorruption):
    """Darkens by chance.

    Arguments
    ---------
    severity : int
    how : callable
    """

    def __init__(self, severity: int = 3, how=abs) -> None:
        super().__init__(severity)

    @classmethod
    def example_arguments(cls):
        return {"how": abs}


@mutants("hostile_input")
class SeesWhereNothingIs(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        return super().__call__(mouth, valid if valid.any() else ~valid, rng)


@mutants("complexity")
class ComparesAllFrames(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        small = mouth[:, ::2, ::2]
        np.equal(small[:, None], small[None])
        return super().__call__(mouth, valid, rng)


@mutants("complexity")
class GrowsByAWord(GoodCorruption):
    complexity = "fast"

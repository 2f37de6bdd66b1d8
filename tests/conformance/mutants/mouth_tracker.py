"""Mouth trackers with one fault each."""

from __future__ import annotations

import numpy as np

from avse.contracts.mouth_tracker import Face, MouthTracker, Warp
from mutants import Mutant


class Middle(MouthTracker):
    """A face in the middle of each picture with room for one."""

    def detect(self, frame, min_size=0.0):
        """See `MouthTracker.detect`, whose pictures have shape (height, width, 3)."""
        height, width = frame.shape[:2]
        if min(height, width) < max(20, min_size):
            return []
        return [Face((width / 4, height / 4, width / 2, height / 2), score=0.5)]


mutants = Mutant("mouth_tracker", Middle)


@mutants("documented")
class Undocumented(Middle):
    pass


@mutants("gives_faces")
class NoneForNone(Middle):
    def detect(self, frame, min_size=0.0):
        return super().detect(frame, min_size) if min_size < 1000 else None


@mutants("leaves_picture")
class DrawsABox(Middle):
    def detect(self, frame, min_size=0.0):
        found = super().detect(frame, min_size)
        frame[0, 0] = 255 - frame[0, 0] // 255 * 255
        return found


@mutants("repeatable")
class Remembers(Middle):
    last: tuple = ()

    def detect(self, frame, min_size=0.0):
        found, self.last = list(self.last), super().detect(frame, min_size)
        return found


@mutants("warps_crops")
class WarpsToNowhere(Middle):
    def warp(self, faces, index):
        return Warp(np.full((88, 88, 2), np.nan))


@mutants("recipe_round_trip")
class TakesAFunction(Middle):
    """A face in the middle of each picture with room for one.

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
class FindsFacesInAPoint(Middle):
    def detect(self, frame, min_size=0.0):
        return super().detect(frame, min_size) if frame.shape[0] > 1 else [Face((0, 0, 0, 0))]

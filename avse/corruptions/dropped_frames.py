"""Corruption `dropped_frames`: lost frames."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_DROPPED = (0.1, 0.25, 0.4, 0.6, 0.85)


@register("corruption", "dropped_frames")
class DroppedFrames(Corruption):
    """Single frames are lost, as on a bad connection; the player repeats the last one that arrived.

    Arguments
    ---------
    severity : int
        10, 25, 40, 60 or 85 % of the frames are lost.
    noticed : bool
        True: a lost frame becomes invalid instead.

    Example
    -------
    >>> drop = DroppedFrames(5, noticed=True)
    >>> mouth, valid = drop(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, int(valid.sum()) < 5
    ((10, 88, 88), True)
    """

    paper = "Yi et al., Benchmarking the Robustness of Spatial-Temporal Models Against Corruptions, NeurIPS 2021"

    def __init__(self, severity: int = 3, noticed: bool = False) -> None:
        super().__init__(severity)
        self.noticed = noticed

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        lost = rng.random(len(valid)) < _DROPPED[self.severity - 1]
        arrived = valid & ~lost
        if self.noticed:
            return mouth.copy(), arrived
        last = np.maximum.accumulate(np.where(arrived, np.arange(len(valid)), -1))
        shown = np.where(valid & lost & (last >= 0), last, np.arange(len(valid)))
        return mouth[shown], valid.copy()

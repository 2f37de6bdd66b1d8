"""Corruption `time_shift`: audio and video out of sync."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_SHIFTS = (1, 3, 5, 7, 10)


@register("corruption", "time_shift")
class TimeShift(Corruption):
    """The video is late or early; frames beyond its ends become invalid.

    Arguments
    ---------
    severity : int
        1, 3, 5, 7 or 10 frames (40 to 400 ms), in a random direction.

    Example
    -------
    >>> mouth, valid = TimeShift(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    paper = "Chung, Zisserman, Out of Time: Automated Lip Sync in the Wild, ACCV Workshops 2016"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        shift = _SHIFTS[self.severity - 1] * (1 if rng.random() < 0.5 else -1)
        source = np.arange(len(valid)) - shift
        mask = (source >= 0) & (source < len(valid))
        source = np.clip(source, 0, max(0, len(valid) - 1))
        return mouth[source], valid[source] & mask

"""Corruption `null`: the picture is gone, and no tracker notices."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "null")
class Null(Corruption):
    """Every crop becomes black, or a constant grey; all frames stay as valid as they were.

    Arguments
    ---------
    severity : int
        1 to 4: a grey of less and less light; 5: black.

    Takes and returns mouth (video_frames, 88, 88) uint8 and valid (video_frames,) bool.

    Example
    -------
    >>> mouth, valid = Null(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Corruption.__call__`."""
        level = round(120 * (5 - self.severity) / 4)
        return np.full_like(mouth, level), valid.copy()

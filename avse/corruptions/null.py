"""Corruption `null`: a uniform video that a tracker still accepts."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "null")
class Null(Corruption):
    """Every crop becomes a uniform grey or black; the validity does not change.

    Arguments
    ---------
    severity : int
        1 to 4: from a light to a dark grey; 5: black.

    Example
    -------
    >>> mouth, valid = Null(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        level = round(120 * (5 - self.severity) / 4)
        return np.full_like(mouth, level), valid.copy()

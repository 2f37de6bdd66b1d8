"""Corruption `frozen`: a frozen video."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "frozen")
class Frozen(Corruption):
    """One crop is repeated for a part of the clip.

    Arguments
    ---------
    severity : int
        The part has 20, 40, 60, 80 or 100 % of the frames.

    Example
    -------
    >>> mouth, valid = Frozen(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames = len(valid)
        held = max(1, round(frames * self.severity / 5)) if frames else 0
        start = int(rng.integers(0, frames - held + 1))
        corrupted = mouth.copy()
        shown = start + int(np.argmax(valid[start : start + held])) if held else 0  # the first valid crop
        corrupted[start : start + held] = mouth[shown : shown + 1]
        return corrupted, valid.copy()

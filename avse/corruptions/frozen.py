"""Corruption `frozen`: the picture stands still."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "frozen")
class Frozen(Corruption):
    """From a random moment on, for a share of the clip, one crop is repeated.

    Arguments
    ---------
    severity : int
        20 % of the frames for each step: 5 freezes the whole clip.

    Takes and returns mouth (video_frames, 88, 88) uint8 and valid (video_frames,) bool.

    Example
    -------
    >>> mouth, valid = Frozen(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Corruption.__call__`."""
        frames = len(valid)
        held = max(1, round(frames * self.severity / 5)) if frames else 0
        start = int(rng.integers(0, frames - held + 1))
        spoiled = mouth.copy()
        shown = start + int(np.argmax(valid[start : start + held])) if held else 0  # the first crop that was seen
        spoiled[start : start + held] = mouth[shown : shown + 1]
        return spoiled, valid.copy()

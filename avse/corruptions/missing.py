"""Corruption `missing`: frames without a face."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "missing")
class Missing(Corruption):
    """Spans of frames become invalid, as when the face leaves or turns away.

    Arguments
    ---------
    severity : int
        20 % of the frames for each step: 5 leaves none.

    Takes and returns mouth (video_frames, 88, 88) uint8 and valid (video_frames,) bool.

    Example
    -------
    >>> mouth, valid = Missing(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Corruption.__call__`."""
        frames = len(valid)
        lost = round(frames * self.severity / 5)
        start = int(rng.integers(0, frames - lost + 1))
        kept = valid.copy()
        kept[start : start + lost] = False
        return mouth.copy(), kept

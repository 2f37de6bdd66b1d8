"""Corruption `occlusion`: something is in front of the mouth."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_COVERED = (0.15, 0.3, 0.45, 0.6, 0.8)


@register("corruption", "occlusion")
class Occlusion(Corruption):
    """A flat, slightly textured patch (a hand, a microphone) covers part of the crop, and sways a little.

    Arguments
    ---------
    severity : int
        The patch covers 15, 30, 45, 60 or 80 % of the crop.

    Takes and returns mouth (frames, 88, 88) uint8 and valid (frames,) bool.

    Example
    -------
    >>> mouth, valid = Occlusion(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Corruption.__call__`."""
        frames, height, width = mouth.shape
        share = _COVERED[self.severity - 1]
        tall = int(round(height * np.sqrt(share)))
        wide = int(round(width * np.sqrt(share)))
        top = rng.integers(0, height - tall + 1) + np.round(3 * np.sin(np.arange(frames) / 6.0)).astype(int)
        left = rng.integers(0, width - wide + 1)
        patch = np.clip(rng.integers(30, 200) + 12 * rng.standard_normal((tall, wide)), 0, 255).astype(np.uint8)
        spoiled = mouth.copy()
        for frame, row in enumerate(np.clip(top, 0, height - tall)):
            spoiled[frame, row : row + tall, left : left + wide] = patch
        return spoiled, valid.copy()

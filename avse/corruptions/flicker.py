"""Corruption `flicker`: unsteady light."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.contracts.types import VIDEO_RATE
from avse.plugins import register

_DEPTHS = (0.15, 0.3, 0.5, 0.75, 1.0)


@register("corruption", "flicker")
class Flicker(Corruption):
    """The light varies periodically, in bands that move over the frame because of a rolling shutter.

    Arguments
    ---------
    severity : int
        The light varies by 15, 30, 50, 75 or 100 % of its mean, 2 to 10 times per second.

    Example
    -------
    >>> mouth, valid = Flicker(5)(np.full((50, 88, 88), 99, np.uint8), np.ones(50, bool), np.random.default_rng(0))
    >>> int(mouth.min()), int(mouth.max()), valid.shape
    (0, 198, (50,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames, height = mouth.shape[:2]
        turns = rng.uniform(2, 10) / VIDEO_RATE * np.arange(frames)[:, None] + rng.random()
        bands = rng.uniform(-0.7, 0.7) * np.linspace(-0.5, 0.5, height)
        light = 1 + _DEPTHS[self.severity - 1] * np.sin(2 * np.pi * (turns + bands))
        lit = mouth * light[:, :, None].astype(np.float32)
        return np.clip(np.round(lit), 0, 255).astype(np.uint8), valid.copy()

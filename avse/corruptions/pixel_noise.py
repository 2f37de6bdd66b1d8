"""Corruption `pixel_noise`: sensor noise."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_STDS = (10.0, 25.0, 50.0, 90.0, 150.0)


@register("corruption", "pixel_noise")
class PixelNoise(Corruption):
    """White Gaussian noise on every pixel.

    Arguments
    ---------
    severity : int
        Standard deviation of 10, 25, 50, 90 or 150 grey levels.

    Example
    -------
    >>> mouth, valid = PixelNoise(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    paper = "Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions, ICLR 2019"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        noise = _STDS[self.severity - 1] * rng.standard_normal(mouth.shape)
        return np.clip(np.round(mouth + noise), 0, 255).astype(np.uint8), valid.copy()

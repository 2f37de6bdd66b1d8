"""Corruption `low_resolution`: a face far from the camera."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_SIZES = (40, 24, 15, 9, 5)


@register("corruption", "low_resolution")
class LowResolution(Corruption):
    """The crop is reduced to a few pixels and enlarged again.

    Arguments
    ---------
    severity : int
        To 40, 24, 15, 9 or 5 pixels on each side.

    Example
    -------
    >>> crops = np.full((10, 88, 88), 99, np.uint8)
    >>> mouth, valid = LowResolution(5)(crops, np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    paper = "Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions, ICLR 2019"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        small = (_SIZES[self.severity - 1],) * 2
        corrupted = mouth.copy()
        for index, crop in enumerate(mouth):
            reduced = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
            corrupted[index] = cv2.resize(reduced, crop.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return corrupted, valid.copy()

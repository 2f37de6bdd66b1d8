"""Corruption `blur`: a camera out of focus."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_SIGMAS = (1.0, 2.0, 4.0, 7.0, 12.0)


@register("corruption", "blur")
class Blur(Corruption):
    """Gaussian blur of every crop.

    Arguments
    ---------
    severity : int
        Standard deviation of 1, 2, 4, 7 or 12 pixels.

    Example
    -------
    >>> mouth, valid = Blur(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    paper = "Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions, ICLR 2019"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        sigma = _SIGMAS[self.severity - 1]
        blurred = [cv2.GaussianBlur(crop, (0, 0), sigma) for crop in mouth]
        return np.stack(blurred) if blurred else mouth.copy(), valid.copy()

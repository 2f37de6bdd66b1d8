"""Corruption `low_light`: low light."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_DIVISORS = (1.5, 2.5, 5.0, 10.0, 25.0)


@register("corruption", "low_light")
class LowLight(Corruption):
    """Less light, and the noise of a sensor, whose variance has a constant part and one in proportion to the light.

    Arguments
    ---------
    severity : int
        The light is divided by 1.5, 2.5, 5, 10 or 25.

    Example
    -------
    >>> mouth, valid = LowLight(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    paper = "Foi et al., Practical Poissonian-Gaussian Noise Modeling for Single-Image Raw-Data, IEEE TIP 2008"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        light = mouth / _DIVISORS[self.severity - 1]
        grain = rng.standard_normal(mouth.shape) * (1.0 + 0.5 * np.sqrt(light))
        return np.clip(np.round(light + grain), 0, 255).astype(np.uint8), valid.copy()

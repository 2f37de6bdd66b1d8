"""Corruption `missing`: frames without a face."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "missing")
class Missing(Corruption):
    """A span of frames becomes invalid, as when the face leaves the frame or turns away.

    Arguments
    ---------
    severity : int
        The span has 20, 40, 60, 80 or 100 % of the frames.

    Example
    -------
    >>> mouth, valid = Missing(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    paper = "Chang et al., On Robustness to Missing Video for Audiovisual Speech Recognition, TMLR 2022"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames = len(valid)
        lost = round(frames * self.severity / 5)
        start = int(rng.integers(0, frames - lost + 1))
        kept = valid.copy()
        kept[start : start + lost] = False
        return mouth.copy(), kept

"""Corruption `frame_rate`: a low frame rate."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_EVERY = (2, 3, 5, 10, 20)


@register("corruption", "frame_rate")
class FrameRate(Corruption):
    """Only every n-th frame is new, as from a slow camera; each is repeated until the next one.

    Arguments
    ---------
    severity : int
        Every 2nd, 3rd, 5th, 10th or 20th frame: 12.5, 8.3, 5, 2.5 or 1.25 frames per second.

    Example
    -------
    >>> clip = np.arange(25, dtype=np.uint8).repeat(88 * 88).reshape(25, 88, 88)
    >>> mouth, valid = FrameRate(3)(clip, np.ones(25, bool), np.random.default_rng(0))
    >>> len(np.unique(mouth)) <= 6, valid.shape
    (True, (25,))
    """

    paper = "Yi et al., Benchmarking the Robustness of Spatial-Temporal Models Against Corruptions, NeurIPS 2021"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        every = _EVERY[self.severity - 1]
        frames = np.arange(len(valid))
        taken = np.maximum(frames - (frames + int(rng.integers(every))) % every, 0)
        # A frame stays as it is if the one to repeat shows no mouth.
        shown = np.where(valid[taken] & valid, taken, frames)
        return mouth[shown], valid.copy()

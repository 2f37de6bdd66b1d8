"""Corruptions of the order of frames: lost, late, repeated."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register

_TEMPORAL_CORRUPTIONS = (
    "Yi et al., Benchmarking the Robustness of Spatial-Temporal Models Against Corruptions, NeurIPS 2021"
)


@register("corruption", "missing")
class Missing(Corruption):
    """A span of frames becomes invalid, as when the face leaves the frame or turns away.

    Arguments
    ---------
    severity : int
        The span has 20, 40, 60, 80 or 100 % of the frames.
    """

    paper = "Chang et al., On Robustness to Missing Video for Audiovisual Speech Recognition, TMLR 2022"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        corrupted_valid = valid.copy()
        corrupted_valid[self.span(len(valid), rng, least=0)] = False
        return mouth.copy(), corrupted_valid


@register("corruption", "frozen")
class Frozen(Corruption):
    """One crop is repeated for a part of the clip.

    Arguments
    ---------
    severity : int
        The part has 20, 40, 60, 80 or 100 % of the frames.
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        held = self.span(len(valid), rng)
        corrupted = mouth.copy()
        if len(valid):
            corrupted[held] = mouth[held.start + int(np.argmax(valid[held]))]  # the first valid crop
        return corrupted, valid.copy()


@register("corruption", "dropped_frames")
class DroppedFrames(Corruption):
    """Single frames are lost, as on a bad connection; the player repeats the last one that arrived.

    Arguments
    ---------
    severity : int
        10, 25, 40, 60 or 85 % of the frames are lost.
    noticed : bool
        True: a lost frame becomes invalid instead.

    Example
    -------
    >>> drop = DroppedFrames(5, noticed=True)
    >>> mouth, valid = drop(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, int(valid.sum()) < 5
    ((10, 88, 88), True)
    """

    levels = (0.1, 0.25, 0.4, 0.6, 0.85)
    paper = _TEMPORAL_CORRUPTIONS

    def __init__(self, severity: int = 3, noticed: bool = False) -> None:
        super().__init__(severity)
        self.noticed = noticed

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        lost = rng.random(len(valid)) < self.severity_level
        arrived = valid & ~lost
        if self.noticed:
            return mouth.copy(), arrived
        last = np.maximum.accumulate(np.where(arrived, np.arange(len(valid)), -1))
        shown = np.where(valid & lost & (last >= 0), last, np.arange(len(valid)))
        return mouth[shown], valid.copy()


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

    levels = (2, 3, 5, 10, 20)
    paper = _TEMPORAL_CORRUPTIONS

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames = np.arange(len(valid))
        taken = np.maximum(frames - (frames + int(rng.integers(self.severity_level))) % self.severity_level, 0)
        # A frame stays as it is if the one to repeat shows no mouth.
        shown = np.where(valid[taken] & valid, taken, frames)
        return mouth[shown], valid.copy()


@register("corruption", "time_shift")
class TimeShift(Corruption):
    """The video is late or early; frames beyond its ends become invalid.

    Arguments
    ---------
    severity : int
        1, 3, 5, 7 or 10 frames (40 to 400 ms), in a random direction.
    """

    levels = (1, 3, 5, 7, 10)
    paper = "Chung, Zisserman, Out of Time: Automated Lip Sync in the Wild, ACCV Workshops 2016"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        source = np.arange(len(valid)) - self.severity_level * (1 if rng.random() < 0.5 else -1)
        mask = (source >= 0) & (source < len(valid))
        source = np.clip(source, 0, max(0, len(valid) - 1))
        return mouth[source], valid[source] & mask

"""Corruption `wrong_speaker`: somebody else's mouth."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "wrong_speaker")
class WrongSpeaker(Corruption):
    """For a share of the clip the camera shows another person who speaks, as when it is cut to a listener too late.

    Evaluation and training give crops of another clip (`with_other`). Where there is none, the speaker's own mouth
    stands in, mirrored, backwards, and from another part of the clip.

    Arguments
    ---------
    severity : int
        20 % of the frames for each step: 5 shows the wrong person all the time.

    Takes and returns mouth (video_frames, 88, 88) uint8 and valid (video_frames,) bool.

    Example
    -------
    >>> other = lambda: (np.full((7, 88, 88), 200, np.uint8), np.ones(7, bool))
    >>> swap = WrongSpeaker(3).with_other(other)
    >>> mouth, valid = swap(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> int((mouth[:, 0, 0] == 200).sum()), bool(valid.all())
    (6, True)
    """

    _other: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None

    def with_other(self, other: Callable[[], tuple[np.ndarray, np.ndarray]]) -> WrongSpeaker:
        """See `Corruption.with_other`: gives crops (video_frames, 88, 88) and their validity (video_frames,)."""
        swap = copy.copy(self)
        swap._other = other
        return swap

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Corruption.__call__`."""
        frames = len(valid)
        count = max(1, round(frames * self.severity / 5)) if frames else 0
        start = int(rng.integers(0, frames - count + 1))
        moved = int(frames * rng.uniform(0.3, 0.7))
        stranger, seen = (mouth, valid) if self._other is None else self._other()
        spoiled, kept = mouth.copy(), valid.copy()
        if not count or not seen.any():
            return spoiled, kept
        shown = np.arange(start, start + count)
        if self._other is None:
            stranger, seen = stranger[::-1, :, ::-1], seen[::-1]
            shown = (shown + moved) % frames
        else:  # a shorter clip goes forth and back
            turns = shown % (2 * len(seen))
            shown = np.minimum(turns, 2 * len(seen) - 1 - turns)
        spoiled[start : start + count] = stranger[shown]
        kept[start : start + count] &= seen[shown]
        return spoiled, kept

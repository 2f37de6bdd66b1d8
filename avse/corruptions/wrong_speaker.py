"""Corruption `wrong_speaker`: the mouth of another person."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "wrong_speaker")
class WrongSpeaker(Corruption):
    """For a part of the clip the video shows another person who speaks.

    Evaluation and training provide crops of another clip (`with_other`). Without them, the speaker's own mouth is shown
    mirrored, backwards, and from another part of the clip.

    Arguments
    ---------
    severity : int
        The part has 20, 40, 60, 80 or 100 % of the frames.

    Attributes
    ----------
    same_corpus : bool
        Whether an evaluation shows a speaker of the same corpus, whose picture is alike but for the lips.

    Example
    -------
    >>> other = lambda: (np.full((7, 88, 88), 200, np.uint8), np.ones(7, bool))
    >>> swap = WrongSpeaker(3).with_other(other)
    >>> mouth, valid = swap(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> int((mouth[:, 0, 0] == 200).sum()), bool(valid.all())
    (6, True)
    """

    same_corpus: ClassVar[bool] = False
    _other: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None

    def with_other(self, other: Callable[[], tuple[np.ndarray, np.ndarray]]) -> WrongSpeaker:
        """See `Corruption.with_other`: gives crops (video_frames, 88, 88) and their validity (video_frames,)."""
        swap = copy.copy(self)
        swap._other = other
        return swap

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames = len(valid)
        span = self.span(frames, rng)
        moved = int(frames * rng.uniform(0.3, 0.7))
        other_mouth, other_valid = (mouth, valid) if self._other is None else self._other()
        corrupted, corrupted_valid = mouth.copy(), valid.copy()
        if not frames or not other_valid.any():
            return corrupted, corrupted_valid
        shown = np.arange(span.start, span.stop)
        if self._other is None:
            other_mouth, other_valid = other_mouth[::-1, :, ::-1], other_valid[::-1]
            shown = (shown + moved) % frames
        else:  # a shorter clip is shown forwards and backwards
            turns = shown % (2 * len(other_valid))
            shown = np.minimum(turns, 2 * len(other_valid) - 1 - turns)
        corrupted[span] = other_mouth[shown]
        corrupted_valid[span] &= other_valid[shown]
        return corrupted, corrupted_valid


@register("corruption", "wrong_speaker_same_corpus")
class WrongSpeakerSameCorpus(WrongSpeaker):
    """`wrong_speaker` with a speaker of the same corpus: only the lips tell, and neither camera nor studio.

    Example
    -------
    >>> WrongSpeakerSameCorpus(2).same_corpus
    True
    """

    same_corpus = True

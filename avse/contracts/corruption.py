"""Kind `corruption`: degradations of a video, for training and for tests of robustness."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from avse import compatibility
from avse.contracts.plugin import Plugin

SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(Plugin):
    """Corrupts mouth crops as cameras, networks and trackers do.

    Arguments
    ---------
    severity : int
        1 (hardly visible) to 5 (nothing useful left).

    Attributes
    ----------
    levels : tuple, optional
        What the five severities stand for; `severity_level` is that of this one.

    Raises
    ------
    ValueError
        If the severity is not 1, 2, 3, 4 or 5.

    Example
    -------
    >>> class Darker(Corruption):
    ...     def __call__(self, mouth, valid, rng):
    ...         return mouth // (1 + self.severity), valid.copy()
    >>> mouth = np.full((2, 88, 88), 100, np.uint8)
    >>> Darker(severity=4)(mouth, np.ones(2, bool), np.random.default_rng(0))[0].max()
    np.uint8(20)
    """

    severity: int
    levels: ClassVar[tuple[Any, ...]] = SEVERITIES

    def __init__(self, severity: int = 3) -> None:
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise ValueError(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}.")
        self.severity = int(severity)

    @property
    def severity_level(self) -> Any:
        """The entry of `levels` for this severity."""
        return self.levels[self.severity - 1]

    def span(self, frames: int, rng: np.random.Generator, least: int = 1) -> slice:
        """A random part of the frames of a clip, a fifth for each step of the severity, of at least `least` frames."""
        count = max(min(least, frames), round(frames * self.severity / 5))
        start = int(rng.integers(0, frames - count + 1))
        return slice(start, start + count)

    @abstractmethod
    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Corrupt one clip.

        Arguments
        ---------
        mouth : array, shape (video_frames, 88, 88), uint8
            Not changed in place.
        valid : array, shape (video_frames,), bool
            Not changed in place.
        rng : numpy.random.Generator
            The only source of randomness: equal generators give equal results.

        Returns
        -------
        mouth : array, shape (video_frames, 88, 88), uint8
            A frame that is not corrupted keeps its crop bit for bit, which `corrupted_frames` relies on.
        valid : array, shape (video_frames,), bool
            False in frames that a tracker would lose. A corruption that a tracker accepts (blur, a frozen video) does
            not change it.
        """

    def with_other(self, other: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Corruption:
        """The same corruption with access to another clip. Most corruptions need none and return themselves.

        Arguments
        ---------
        other : callable
            Gives `mouth`, shape (video_frames, 88, 88), and `valid`, shape (video_frames,), of another speaker's
            clip, whose length may differ.
        """
        return self


def corrupted_frames(
    mouth: np.ndarray, valid: np.ndarray, corrupted_mouth: np.ndarray, corrupted_valid: np.ndarray
) -> np.ndarray:
    """The frames that a corruption made invalid, and those whose crop it changed.

    Arguments
    ---------
    mouth, valid : array, shape (video_frames, 88, 88) and (video_frames,)
        The clean video.
    corrupted_mouth, corrupted_valid : array, shape (video_frames, 88, 88) and (video_frames,)
        The result of the corruption.

    Returns
    -------
    array, shape (video_frames,), bool
        False in frames that are invalid before and after.

    Example
    -------
    >>> mouth, valid = np.arange(3, dtype=np.uint8).repeat(88 * 88).reshape(3, 88, 88), np.ones(3, bool)
    >>> corrupted_frames(mouth, valid, mouth[[0, 0, 2]], np.array([True, True, False])).tolist()
    [False, True, True]
    """
    differs = (mouth != corrupted_mouth).reshape(len(mouth), -1).any(axis=1)
    return (valid != corrupted_valid) | (valid & corrupted_valid & differs)


__getattr__ = compatibility.old_names(__name__)

"""Mouths at rest: pauses in which a seen face is silent, for training and tests with a silent speaker."""

from __future__ import annotations

from functools import partial

import numpy as np

from avse.contracts.types import SAMPLES_PER_FRAME
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance

_SHARE_MOVING = 0.7


def longest_pause(audio: np.ndarray, valid: np.ndarray, margin: int = 2, shortest: int = 5) -> slice | None:
    """The longest stretch of video in which the speaker is seen and says nothing.

    Speech is silent where it is not active: see `avse.signal.levels.active_frames`.

    Arguments
    ---------
    audio : array, shape (samples,)
        Clean speech.
    valid : array, shape (video_frames,), bool
    margin : int
        Video frames beside speech that do not count: a mouth opens before the speech begins and closes after it.
    shortest : int
        Video frames that a stretch must have.

    Returns
    -------
    slice of video frames, or None
        None if no stretch is long enough.

    Example
    -------
    >>> speech = np.r_[np.ones(6400), np.zeros(6400)]
    >>> longest_pause(speech, np.ones(20, dtype=bool))
    slice(12, 20, None)
    """
    import torch

    from avse.signal.levels import active_frames

    frames = min(len(audio) // SAMPLES_PER_FRAME, len(valid))
    if frames <= 2 * margin:
        return None
    speech = torch.from_numpy(np.asarray(audio[: frames * SAMPLES_PER_FRAME], dtype=np.float64))
    active = active_frames(speech[None], SAMPLES_PER_FRAME)[0].numpy()
    near = np.convolve(active, np.ones(2 * margin + 1), mode="same") > 0
    rest = np.concatenate([[False], ~near & valid[:frames], [False]])
    starts, stops = np.flatnonzero(rest[1:] & ~rest[:-1]), np.flatnonzero(rest[:-1] & ~rest[1:])
    if not len(starts) or (stops - starts).max() < shortest:
        return None
    longest = int(np.argmax(stops - starts))
    return slice(int(starts[longest]), int(stops[longest]))


def pause_of(cache: ClipCache, utterance: Utterance) -> slice | None:
    """The longest pause of an utterance with a video, as training and tests with a silent speaker look for it.

    The mouth is tracked only where the audio has a pause.
    """
    audio = cache.excerpt(utterance, 0, len(cache.sound(utterance)))
    longest = partial(longest_pause, audio, margin=1, shortest=3)
    if longest(np.ones(len(audio) // SAMPLES_PER_FRAME, dtype=bool)) is None:
        return None
    return longest(cache.mouth(utterance)[1])


def at_rest(pause: slice, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Indices that play a pause forth and back, with some frames held, for a mouth at rest of any length.

    Returns
    -------
    array, shape (frames,), int

    Example
    -------
    >>> indices = at_rest(slice(3, 6), 50, np.random.default_rng(0))
    >>> len(indices), int(indices.min()), int(indices.max()), int(abs(np.diff(indices)).max())
    (50, 3, 5, 1)
    """
    count = pause.stop - pause.start
    period = max(1, 2 * (count - 1))
    place = (int(rng.integers(period)) + np.cumsum(rng.random(frames) < _SHARE_MOVING)) % period
    return pause.start + np.minimum(place, period - place)

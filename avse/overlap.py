"""Long audio in chunks that overlap: cut a clip, and join the estimates of its chunks by overlap-add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Clip, Estimate
from avse.errors import AvseError

CHUNK_SECONDS = 20.0
OVERLAP_SECONDS = 2.0
# Tensors of an `Estimate`: the axis of time, and samples per step of it.
_TIME = {
    "speech": (-1, 1),
    "noise": (-1, 1),
    "reliability": (-1, SAMPLES_PER_FRAME),
    "audio_reliability": (-1, SAMPLES_PER_FRAME),
    "speaking": (-1, SAMPLES_PER_FRAME),
    "responsibility": (-2, SAMPLES_PER_FRAME),
}


class ClipPart(Protocol):
    """Part of a longer clip; `start` is its first sample there, a multiple of 640."""

    clip: Clip
    start: int


@dataclass
class ClipChunk:
    """A `ClipPart` of a clip that is in memory."""

    clip: Clip
    start: int


def cut(clip: Clip, seconds: float = CHUNK_SECONDS) -> Iterator[ClipChunk]:
    """Chunks of a clip, of this length but for the last, each with an overlap of two seconds (at most its half).

    Raises
    ------
    AvseError
        If they are shorter than a second.

    Example
    -------
    >>> import numpy as np
    >>> [chunk.start / SAMPLE_RATE for chunk in cut(Clip(np.zeros(25 * SAMPLE_RATE, np.float32)), 10.0)]
    [0.0, 8.0, 16.0]
    """
    check_seconds(seconds)
    seconds = min(seconds, len(clip.audio) / SAMPLE_RATE + 1)
    frames = max(1, round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME))
    overlap = min(round(OVERLAP_SECONDS * SAMPLE_RATE / SAMPLES_PER_FRAME), frames // 2)
    size, hop = frames * SAMPLES_PER_FRAME, (frames - overlap) * SAMPLES_PER_FRAME
    start = 0
    while True:
        stop = min(len(clip.audio), start + size)
        first = start // SAMPLES_PER_FRAME
        part = Clip(clip.audio[start:stop], clip.mouth[first:], clip.valid[first:], clip.clip_id, clip.speaker)
        yield ClipChunk(part, start)
        if stop == len(clip.audio):
            return
        start += hop


def check_seconds(chunk_seconds: float) -> None:
    """Raise `AvseError` for chunks shorter than a second: they would hold no speech to tell from noise."""
    if not chunk_seconds >= 1:
        raise AvseError(f"chunk_seconds must be at least 1, got {chunk_seconds}.")


def overlap_add(estimates: Iterable[tuple[int, Estimate]]) -> Iterator[Estimate]:
    """Fade the estimate of each chunk into that of the next, where the chunks overlap.

    Arguments
    ---------
    estimates : iterable of (int, Estimate)
        First sample of each chunk, a multiple of 640, and what was found in it: one clip, with or without an axis
        `sources`. Each chunk begins at or before the end of the one before it.

    Yields
    ------
    Estimate
        Consecutive pieces that together are as long as the clip.
    """
    tail: Estimate | None = None
    tail_start = 0
    for start, estimate in estimates:
        if tail is not None:
            ready, estimate = _cross_fade(tail, estimate, tail_start + tail.speech.shape[-1] - start)
            yield ready
        tail, tail_start = estimate, start
    if tail is not None:
        yield tail


def concatenate(pieces: Sequence[Estimate]) -> Estimate:
    """Consecutive pieces as one `Estimate`. Only that of a single piece has a trace."""
    if len(pieces) == 1:
        return pieces[0]
    whole: dict[str, Any] = {
        name: torch.cat([getattr(piece, name) for piece in pieces], dim=axis)
        for name, (axis, _) in _TIME.items()
        if getattr(pieces[0], name) is not None
    }
    return replace(pieces[0], **whole, trace=[], timings={})


def _cross_fade(tail: Estimate, head: Estimate, overlap: int) -> tuple[Estimate, Estimate]:
    """What of `tail` is finished, and `head` with its first `overlap` samples faded in over the end of `tail`."""
    ready: dict[str, Any] = {}
    faded: dict[str, Any] = {}
    for name, (axis, unit) in _TIME.items():
        old, new = getattr(tail, name), getattr(head, name)
        if new is None:
            continue
        count = overlap // unit
        finished = old.shape[axis] - count
        rise = torch.linspace(0, 1, count + 2, dtype=new.dtype)[1:-1].reshape(-1, *[1] * (-1 - axis))
        mixed = old.narrow(axis, finished, count) * (1 - rise) + new.narrow(axis, 0, count) * rise
        ready[name] = old.narrow(axis, 0, finished)
        faded[name] = torch.cat([mixed, new.narrow(axis, count, new.shape[axis] - count)], dim=axis)
    return replace(tail, **ready), replace(head, **faded)

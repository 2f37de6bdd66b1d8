"""Streams from pipes and cameras: raw samples in, raw samples out, and what it cost."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from avse.contracts.mouth_tracker import MouthTracker
from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.errors import AvseError
from avse.media.decode import VideoSource
from avse.media.faces.crop import MouthCropper
from avse.media.faces.live import LiveCropper
from avse.media.reader import parse_face, tracker_of
from avse.model import as_float
from avse.streaming import Block, Streamer

FORMATS = {"s16": ("<i2", 32768.0), "f32": ("<f4", 1.0)}
_NO_MOUTH = np.zeros(0, np.uint8)
_KEPT = 100_000  # blocks whose times are known; the last ones
_DRIFT = 1e-4  # of the clocks of audio and camera, at most


class Pictures(Protocol):
    """Where pictures come from."""

    def until(self, seconds: float) -> Iterator[tuple[np.ndarray, float]]:
        """Pictures that came since the last call, for audio that now reaches to `seconds`; each with its time."""


class FilmedPictures:
    """The mouths in a video file, which starts together with the audio; the same crops as of `avse enhance`.

    Arguments
    ---------
    video : path
    tracker, face, roi :
        See `avse.media.read_clip`.
    """

    def __init__(
        self, video: str | Path, tracker: str | MouthTracker | None = None, face: str = "largest", roi: str = "auto"
    ) -> None:
        source = VideoSource(video)
        self._crops = MouthCropper(tracker_of(tracker), parse_face(face), roi).run(source.frames(source.zero))
        self._next = 0

    def until(self, seconds: float) -> Iterator[tuple[np.ndarray, float]]:
        while self._next < seconds * VIDEO_RATE:
            crop, valid = next(self._crops)
            yield crop if valid else _NO_MOUTH, self._next / VIDEO_RATE
            self._next += 1


class CameraPictures:
    """The mouth in front of a camera; the camera is read, and the mouth found, in a thread.

    Arguments
    ---------
    camera : int or object
        Number of the camera; or what has the methods `read` and `release` of `cv2.VideoCapture`.
    tracker, face :
        See `avse.media.read_clip`.
    now : callable
        The clock by which audio and pictures come, in seconds.

    Raises
    ------
    AvseError
        If there is no such camera.
    """

    def __init__(
        self,
        camera: int | Any,
        tracker: str | MouthTracker | None = None,
        face: str = "largest",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        import cv2

        self._now = now
        self._camera = cv2.VideoCapture(camera) if isinstance(camera, int) else camera
        if isinstance(camera, int) and not self._camera.isOpened():
            raise AvseError(f"camera {camera} cannot be opened. Is it plugged in, and used by no other program?")
        self._cropper = LiveCropper(tracker_of(tracker), parse_face(face))
        self._found: deque[tuple[np.ndarray, float]] = deque(maxlen=VIDEO_RATE)
        self._start, self._reached = math.inf, 0.0
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            there, picture = self._camera.read()
            if not there:
                return
            at = self._now()
            crop = self._cropper.crop(np.ascontiguousarray(picture[..., ::-1]))  # OpenCV gives BGR
            self._found.append((_NO_MOUTH if crop is None else crop, at))

    def until(self, seconds: float) -> Iterator[tuple[np.ndarray, float]]:
        # Blocks come late, never early: the earliest tells when the audio began. The clocks may drift apart.
        start = self._now() - seconds
        self._start = min(start, self._start + _DRIFT * max(0.0, seconds - self._reached))
        self._reached = seconds
        while self._found:
            crop, at = self._found.popleft()
            if at >= self._start:
                yield crop, at - self._start

    def close(self) -> None:
        """Stop the camera."""
        self._running = False
        self._thread.join(timeout=2)
        self._camera.release()


@dataclass
class StreamReport:
    """What a stream was and cost.

    Arguments
    ---------
    seconds : float
        Of audio.
    blocks : int
    block_ms : dict
        Median, 95th and 99th percentile of the milliseconds that a block took (the last 100,000 blocks).
    real_time_factor : float
        Seconds of computing per second of audio.
    reliability : float or None
        Mean over video frames; None where there were none.
    latency : float
        Seconds from a sample to its speech, beside computing.
    """

    seconds: float
    blocks: int
    block_ms: dict[str, float]
    real_time_factor: float
    reliability: float | None
    latency: float


class Meter:
    """Counts what blocks take."""

    def __init__(self, streamer: Streamer) -> None:
        self._latency = streamer.latency
        self._times: deque[float] = deque(maxlen=_KEPT)
        self._blocks = self._frames = 0
        self._busy = self._trust = 0.0

    def add(self, blocks: list[Block]) -> np.ndarray:
        """Count the parts of a block; gives their speech."""
        took = sum(block.seconds for block in blocks)
        self._times.append(took)
        self._blocks, self._busy = self._blocks + 1, self._busy + took
        self._frames += sum(len(block.reliability) for block in blocks)
        self._trust += sum(float(block.reliability.sum()) for block in blocks)
        return np.concatenate([block.speech for block in blocks])

    def report(self, samples: int) -> StreamReport:
        seconds = samples / SAMPLE_RATE
        found = np.percentile(np.array(self._times or [0.0]) * 1e3, (50, 95, 99))
        return StreamReport(
            round(seconds, 3),
            self._blocks,
            {name: round(float(value), 2) for name, value in zip(("50%", "95%", "99%"), found)},
            round(self._busy / max(seconds, 1e-9), 3),
            round(self._trust / self._frames, 3) if self._frames else None,
            self._latency,
        )


def stream_samples(
    streamer: Streamer,
    source: BinaryIO,
    sink: BinaryIO,
    *,
    pictures: Pictures | None = None,
    rate: int = SAMPLE_RATE,
    sample_format: str = "s16",
    block_ms: float = 20.0,
) -> StreamReport:
    """Enhance raw samples from one pipe to another, until the first ends.

    Arguments
    ---------
    streamer : Streamer
    source, sink : binary files
        Mono samples, little endian. As many are written as are read.
    pictures : Pictures, optional
    rate : int
        Of the samples, in Hz. Resampling adds to the latency.
    sample_format : "s16" or "f32"
    block_ms : float
        Milliseconds of a block.

    Returns
    -------
    StreamReport

    Raises
    ------
    AvseError
        If there is no such format, or the source ends amid a sample.
    """
    if sample_format not in FORMATS:
        raise AvseError(f"format {sample_format!r}: must be {' or '.join(FORMATS)}.")
    kind, full_scale = FORMATS[sample_format]
    width = np.dtype(kind).itemsize
    resample_in, resample_out = resampler(rate, SAMPLE_RATE), resampler(SAMPLE_RATE, rate)
    size = max(1, round(rate * block_ms / 1000))
    meter = Meter(streamer)
    read = written = received = 0

    def write(speech: np.ndarray, last: bool = False) -> None:
        nonlocal written
        speech = resample_out(speech, last)[: read - written]
        if last:  # resampling may be a sample short
            speech = np.pad(speech, (0, read - written - len(speech)))
        written += len(speech)
        limit = np.iinfo(kind) if sample_format == "s16" else None
        scaled = speech * full_scale
        sink.write((scaled if limit is None else scaled.round().clip(limit.min, limit.max)).astype(kind).tobytes())
        sink.flush()

    while data := source.read(size * width):
        if len(data) % width:
            raise AvseError(f"The audio ends amid a sample: samples of {sample_format} have {width} bytes.")
        samples = as_float(np.frombuffer(data, kind))
        read += len(samples)
        samples = resample_in(samples, False)
        blocks = []
        end = (received + len(samples)) / SAMPLE_RATE
        for picture, at in pictures.until(end) if pictures is not None else ():
            blocks.append(streamer.push(samples[:0], picture, at))
        received += len(samples)
        write(meter.add([*blocks, streamer.push(samples)]))
    blocks = [streamer.push(rest)] if len(rest := resample_in(np.zeros(0, np.float32), True)) else []
    write(meter.add([*blocks, streamer.finish()]), last=True)
    return meter.report(received)


def resampler(before: int, after: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function that resamples the next samples; its second argument says whether they are the last."""
    if before == after:
        return lambda samples, last: samples
    import soxr

    stream = soxr.ResampleStream(before, after, 1, "float32")
    return lambda samples, last: stream.resample_chunk(samples, last=last)

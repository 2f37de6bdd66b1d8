"""Streams from pipes and cameras: raw samples in, raw samples out, and what it cost."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from avse.contracts.mouth_tracker import MouthTracker
from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.errors import AvseError
from avse.jobs.audio import EIGHT, FULL, SampleQueue, check_treatment
from avse.media.decode import VideoSource
from avse.media.faces.crop import MouthCropper
from avse.media.faces.live import LiveCropper
from avse.media.reader import parse_face, tracker_of
from avse.signal.downmix import Downmix
from avse.signal.full_band import FullBand
from avse.sources import as_float
from avse.streaming import Block, Streamer

FORMATS = {"s16": ("<i2", 32768.0), "f32": ("<f4", 1.0)}
_NO_MOUTH = np.zeros(0, np.uint8)
_KEPT = 100_000  # blocks whose times are known; the last ones
_BLOCKS = 100  # after which the longest delay of a chain is known
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

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_KEPT)
        self._blocks = self._frames = 0
        self._busy = self._trust = 0.0

    def add(self, blocks: list[Block], seconds: float) -> None:
        """Count the parts of a block, which took so long."""
        self._times.append(seconds)
        self._blocks, self._busy = self._blocks + 1, self._busy + seconds
        self._frames += sum(len(block.reliability) for block in blocks)
        self._trust += sum(float(block.reliability.sum()) for block in blocks)

    def report(self, seconds: float, latency: float) -> StreamReport:
        found = np.percentile(np.array(self._times or [0.0]) * 1e3, (50, 95, 99))
        return StreamReport(
            round(seconds, 3),
            self._blocks,
            {name: round(float(value), 2) for name, value in zip(("50%", "95%", "99%"), found)},
            round(self._busy / seconds, 3) if seconds else 0.0,
            round(self._trust / self._frames, 3) if self._frames else None,
            round(latency, 4),
        )


class StreamAudio:
    """The audio of a stream, at its rate and with its channels, around a `Streamer` of its down-mix at 16 kHz.

    What the model does to the down-mix is applied to each channel: see `avse.signal.full_band.FullBand`. One channel
    up to 8 kHz is the model's speech itself, 40 ms earlier.

    Arguments
    ---------
    streamer : Streamer
    rate, channels : int
    band : "full" or "8k"
        "8k": nothing above 8 kHz.

    Attributes
    ----------
    received : float
        Seconds of audio that the streamer has taken.

    Raises
    ------
    AvseError
        If there is no such band.
    """

    def __init__(self, streamer: Streamer, rate: int = SAMPLE_RATE, channels: int = 1, band: str = FULL) -> None:
        check_treatment(band)
        self.rate, self.channels, self.received = rate, channels, 0.0
        self._streamer, self._band = streamer, band
        direct = channels == 1 and (band == EIGHT or rate <= SAMPLE_RATE)
        self._full_band = None if direct else FullBand(rate, channels, above=band == FULL)
        self._downmix = Downmix([str(number) for number in range(channels)], rate)
        self._resample_in, self._resample_out = resampler(rate, SAMPLE_RATE), resampler(SAMPLE_RATE, rate)
        self._mixture = SampleQueue(1)
        self._meter = Meter()
        self._heard = self._taken = self._given = 0  # samples: of the stream, at 16 kHz, given back

    def push(self, samples: np.ndarray, pictures: Pictures | None = None) -> np.ndarray:
        """Take the next samples, and the pictures that belong to them; gives what is finished.

        Arguments
        ---------
        samples : array, shape (channels, samples), float32
        pictures : Pictures, optional

        Returns
        -------
        array, shape (channels, finished samples), float32
        """
        return self._advance(samples, pictures, last=False)

    def finish(self) -> np.ndarray:
        """The rest: in all, as many samples are given as were taken."""
        return self._advance(np.zeros((self.channels, 0), np.float32), None, last=True)

    def delay(self, block: int) -> float:
        """Seconds from a sample to its speech, in blocks of so many samples, beside computing."""
        dry = StreamAudio(cast(Streamer, _Dry(self._streamer)), self.rate, self.channels, self._band)
        silence, longest = np.zeros((self.channels, block), np.float32), 0
        for _ in range(_BLOCKS):
            dry.push(silence)
            longest = max(longest, dry._heard - dry._given)
        return (longest + block) / self.rate

    def report(self) -> StreamReport:
        """What the stream was and cost so far."""
        return self._meter.report(
            self._heard / self.rate, self.delay(round(self.rate * self._streamer.hop / SAMPLE_RATE))
        )

    def _advance(self, samples: np.ndarray, pictures: Pictures | None, last: bool) -> np.ndarray:
        began = time.perf_counter()
        self._heard += samples.shape[1]
        mixture = self._resample_in(self._downmix(samples), last)
        self._taken += len(mixture)
        self.received = self._taken / SAMPLE_RATE
        waited = time.perf_counter()
        shown = list(pictures.until(self.received)) if pictures is not None else []
        waited = time.perf_counter() - waited
        blocks = [self._streamer.push(mixture[:0], picture, at) for picture, at in shown]
        blocks += [self._streamer.push(mixture), *([self._streamer.finish()] if last else [])]
        speech = np.concatenate([block.speech for block in blocks])
        if self._full_band is None:
            found = self._resample_out(speech, last)[None]
        else:
            self._mixture.put(mixture[None])
            found = self._full_band(samples, self._mixture.take(len(speech))[0], speech)
            found = np.concatenate([found, self._full_band.rest()], axis=1) if last else found
        lacking = self._heard - self._given
        found = found[:, :lacking]
        if last:  # resampling may be a sample short
            found = np.pad(found, ((0, 0), (0, lacking - found.shape[1])))
        self._given += found.shape[1]
        self._meter.add(blocks, time.perf_counter() - began - waited)
        return found


class _Dry:
    """Gives as much silence as a `Streamer` would give speech."""

    def __init__(self, streamer: Streamer) -> None:
        self.hop, self._latency = streamer.hop, round(streamer.latency * SAMPLE_RATE)
        self._received = self._given = 0

    def push(self, samples: np.ndarray) -> Block:
        self._received += len(samples)
        given = max(0, ((self._received - self._latency) // self.hop + 1) * self.hop)
        silence, self._given = np.zeros(given - self._given, np.float32), given
        return Block(silence, silence[:0], 0.0, 0.0)


def stream_samples(
    streamer: Streamer,
    source: BinaryIO,
    sink: BinaryIO,
    *,
    pictures: Pictures | None = None,
    rate: int = SAMPLE_RATE,
    channels: int = 1,
    band: str = FULL,
    sample_format: str = "s16",
    block_ms: float = 20.0,
) -> StreamReport:
    """Enhance raw samples from one pipe to another, until the first ends.

    Arguments
    ---------
    streamer : Streamer
    source, sink : binary files
        Samples, little endian, those of all channels beside one another. As many are written as are read.
    pictures : Pictures, optional
    rate, channels, band :
        See `StreamAudio`.
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
    width = np.dtype(kind).itemsize * channels
    size = max(1, round(rate * block_ms / 1000))
    audio = StreamAudio(streamer, rate, channels, band)

    def write(speech: np.ndarray) -> None:
        limit = np.iinfo(kind) if sample_format == "s16" else None
        scaled = speech.T * full_scale
        sink.write((scaled if limit is None else scaled.round().clip(limit.min, limit.max)).astype(kind).tobytes())
        sink.flush()

    while data := source.read(size * width):
        if len(data) % width:
            raise AvseError(
                f"The audio ends amid a sample: {channels} channels of {sample_format} have {width} bytes a sample."
            )
        write(audio.push(as_float(np.frombuffer(data, kind)).reshape(-1, channels).T, pictures))
    write(audio.finish())
    return audio.report()


def resampler(before: int, after: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function that resamples the next samples; its second argument says whether they are the last."""
    if before == after:
        return lambda samples, last: samples
    import soxr

    stream = soxr.ResampleStream(before, after, 1, "float32")
    return lambda samples, last: stream.resample_chunk(samples, last=last)

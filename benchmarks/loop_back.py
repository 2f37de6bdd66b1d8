"""A film pretends to be microphone and camera, by the clock, and is enhanced as `avse live` does it.

    python benchmarks/loop_back.py FILM [MODEL] [PACE ...]

At pace 3, the clock of these devices is three times as fast as that of the wall, so that blocks of 20 ms come every
6.7 ms. An underrun is a block for which no speech was ready when it was to be played, or at which the machine was a
block late.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

import avse
from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.jobs.live import Callback, Live
from avse.jobs.stream import CameraPictures, StreamAudio
from avse.media.decode import VideoSource
from avse.streaming import Streamer

WAIT = 0.08  # seconds that the audio waits for pictures, as of `avse live`


class Clock(Protocol):
    """The clock of the devices."""

    def now(self) -> float:
        """Seconds since the devices began."""

    def wait_until(self, seconds: float) -> None:
        """Return when the clock shows at least so many seconds."""


class WallClock:
    """The clock on the wall, or one that is faster; it begins when it is first asked to wait."""

    def __init__(self, pace: float = 1.0) -> None:
        self._pace, self._begun, self._lock = pace, 0.0, threading.Lock()

    def now(self) -> float:
        return self._pace * (time.monotonic() - self._begun)

    def wait_until(self, seconds: float) -> None:
        with self._lock:
            self._begun = self._begun or time.monotonic()
        time.sleep(max(0.0, seconds - self.now()) / self._pace)


class LoopBack:
    """A clip that pretends to be microphone, loudspeaker and camera.

    Arguments
    ---------
    audio : array, shape (samples,), 16 kHz
        What the microphone hears.
    frames : arrays, shape (height, width, 3), uint8, RGB
        What the camera sees, 25 per second.
    clock : Clock
    stop : Event
        Set when the audio has ended.
    """

    def __init__(self, audio: np.ndarray, frames: Iterable[np.ndarray], clock: Clock, stop: threading.Event) -> None:
        self._audio, self._frames, self._clock, self._stop = audio, iter(enumerate(frames)), clock, stop
        self._open = threading.Event()
        self.played: list[np.ndarray] = []

    @contextmanager
    def device(self, callback: Callback, size: int) -> Iterator[None]:
        """The microphone and the loudspeaker: see `avse.jobs.live.open_device`."""
        thread = threading.Thread(target=self._run, args=(callback, size), name="device")
        self._open.set()
        thread.start()
        yield
        thread.join()

    def _run(self, callback: Callback, size: int) -> None:
        for first in range(0, len(self._audio) - size + 1, size):
            end = (first + size) / SAMPLE_RATE
            self._clock.wait_until(end)
            lost = self._clock.now() >= end + size / SAMPLE_RATE
            played: Any = np.empty((size, 1), np.float32)
            callback(self._audio[first : first + size, None], played, size, None, "lost" if lost else "")
            self.played.append(played[:, 0])
        self._stop.set()

    def read(self) -> tuple[bool, Any]:
        """The next picture of the camera, when it is time: as of `cv2.VideoCapture`, in BGR."""
        self._open.wait()
        number, frame = next(self._frames, (0, None))
        if frame is None:
            return False, None
        self._clock.wait_until(number / VIDEO_RATE)
        return True, frame[..., ::-1]

    def release(self) -> None:
        """As of `cv2.VideoCapture`."""


def main(film: str, name: str = "avse-live", *paces: str) -> None:
    """Print a row of a table for each pace."""
    torch.set_num_threads(1)
    model = avse.load(name)
    audio = avse.read_clip(film, use_video=False).audio
    source = VideoSource(film)
    with closing(source.container):
        shown = islice(source.frames(source.zero), len(audio) * VIDEO_RATE // SAMPLE_RATE)
        frames = [frame.rgb(640) for frame in shown if frame is not None]
    head = "pace", "seconds", "blocks", "underruns", "latency (ms)", "median (ms)", "95 %", "99 %", "real-time factor"
    print("| " + " | ".join((*head, "reliability")) + " |\n" + "|---" * 10 + "|")
    for pace in paces or ("1", "3"):
        stop, clock = threading.Event(), WallClock(float(pace))
        loop = LoopBack(audio, frames, clock, stop)
        pictures = CameraPictures(loop, now=clock.now)
        report = Live(StreamAudio(Streamer(model, wait=WAIT)), pictures).run(loop.device, stop)
        pictures.close()
        times = " | ".join(f"{report.block_ms[share]:.1f}" for share in ("50%", "95%", "99%"))
        print(f"| {pace} | {report.seconds:.1f} | {len(loop.played)} | {report.underruns} |", end="")
        print(f" {1000 * report.latency:.0f} | {times} | {report.real_time_factor:.3f} | {report.reliability} |")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Microphone to loudspeaker: a device's callback that only moves samples, and a worker that enhances them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError, needs_extra
from avse.jobs.stream import Meter, Pictures, StreamReport
from avse.streaming import Streamer

_BACKLOG = 5.0  # seconds of audio that may wait for the worker

Callback = Callable[[np.ndarray, np.ndarray, int, Any, Any], None]
Device = Callable[[Callback, int], AbstractContextManager[Any]]


@dataclass
class LiveReport(StreamReport):
    """What a live stream was and cost.

    Arguments
    ---------
    underruns : int
        Blocks for which no speech was ready in time, or that the device lost.
    """

    underruns: int


class Live:
    """Enhances what a device records and plays it back.

    The device plays `lead_ms` behind the enhancement, so that a block may take longer now and then. Samples that are
    not ready in time are silent and count as an underrun; they are left out when they are ready, so that the delay
    stays what it was.

    Arguments
    ---------
    streamer : Streamer
    pictures : Pictures, optional
    block_ms, lead_ms : float
        Milliseconds of a block, and of the lead.
    """

    def __init__(
        self, streamer: Streamer, pictures: Pictures | None = None, block_ms: float = 20.0, lead_ms: float = 40.0
    ) -> None:
        self._streamer, self._pictures = streamer, pictures
        self._size = round(SAMPLE_RATE * block_ms / 1000)
        self._meter = Meter(streamer)
        self._heard: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        self._delay = lead_ms / 1000 + streamer.latency
        self._playing = np.zeros(round(SAMPLE_RATE * self._delay), np.float32)
        self._owed = 0  # samples that were played as silence
        self._underruns = 0
        self._received = 0
        self._failure: Exception | None = None

    def run(self, device: Device, stop: threading.Event) -> LiveReport:
        """Enhance until `stop` is set, or the user interrupts.

        Arguments
        ---------
        device : callable
            Takes a callback as of `sounddevice.Stream` and the samples of a block; gives a context in which the device
            calls it. See `open_device`.
        stop : Event

        Raises
        ------
        AvseError
            If the machine is too slow for the model.
        """
        worker = threading.Thread(target=self._work, args=(stop,), daemon=True)
        worker.start()
        try:
            with device(self._callback, self._size), contextlib.suppress(KeyboardInterrupt):
                stop.wait()
        finally:
            stop.set()
            self._heard.put(None)
            worker.join()
        if self._failure is not None:
            raise self._failure
        report = vars(self._meter.report(self._received))
        return LiveReport(**{**report, "latency": self._delay}, underruns=self._underruns)

    def _callback(self, heard: np.ndarray, played: np.ndarray, frames: int, time: Any, status: Any) -> None:
        self._heard.put(heard[:, 0].copy())
        while len(self._playing) < frames + self._owed and not self._ready.empty():
            self._playing = np.concatenate([self._playing, self._ready.get()])
        left_out = min(self._owed, len(self._playing))
        there = self._playing[left_out : left_out + frames]
        self._playing, self._owed = self._playing[left_out + frames :], self._owed - left_out + frames - len(there)
        played[:] = 0
        played[: len(there)] = there[:, None]
        self._underruns += len(there) < frames or bool(status)

    def _work(self, stop: threading.Event) -> None:
        try:
            ended = False
            while not ended:
                samples, ended = self._take()
                if len(samples):
                    self._ready.put(self._enhance(samples))
        except Exception as error:
            self._failure = error
            stop.set()

    def _take(self) -> tuple[np.ndarray, bool]:
        """What was heard since the last call, once there is any; and whether that was all."""
        heard = [self._heard.get()]
        while not self._heard.empty():  # what came meanwhile is one block: that is faster
            heard.append(self._heard.get())
        parts = [part for part in heard if part is not None]
        return np.concatenate(parts or [np.zeros(0, np.float32)]), heard[-1] is None

    def _enhance(self, samples: np.ndarray) -> np.ndarray:
        if len(samples) > _BACKLOG * SAMPLE_RATE:
            raise AvseError("This machine is too slow for the model: the audio comes faster than its speech.")
        end = (self._received + len(samples)) / SAMPLE_RATE
        pictures = self._pictures.until(end) if self._pictures is not None else ()
        blocks = [self._streamer.push(samples[:0], picture, at) for picture, at in pictures]
        self._received += len(samples)
        return self._meter.add([*blocks, self._streamer.push(samples)])


def open_device(callback: Callback, size: int, device: str | int | None = None) -> AbstractContextManager[Any]:
    """The microphone and the loudspeaker of the system, or those of a name; needs the extra `live`.

    Raises
    ------
    AvseError
        If `sounddevice` is not installed, or there is no such device.
    """
    try:
        with needs_extra("live", "Microphones"):
            import sounddevice
    except OSError as error:
        raise AvseError(f"live use needs the library PortAudio ({error}): apt-get install libportaudio2.") from error
    try:
        stream: AbstractContextManager[Any] = sounddevice.Stream(
            SAMPLE_RATE, size, device, channels=1, dtype="float32", latency="low", callback=callback
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AvseError(f"no audio device: {error}. `python -m sounddevice` lists them, --sound names one.") from error
    return stream

"""Microphone to loudspeaker: a device's callback that only moves samples, and a worker that enhances them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError, needs_extra
from avse.jobs.stream import Pictures, StreamAudio, StreamReport

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
    audio : StreamAudio
    pictures : Pictures, optional
    block_ms, lead_ms : float
        Milliseconds of a block, and of the lead.
    """

    def __init__(
        self, audio: StreamAudio, pictures: Pictures | None = None, block_ms: float = 20.0, lead_ms: float = 40.0
    ) -> None:
        self._audio, self._pictures = audio, pictures
        self._size = round(audio.rate * block_ms / 1000)
        self._heard: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        self._delay = lead_ms / 1000 + audio.delay(self._size)
        self._playing = np.zeros((round(audio.rate * self._delay), audio.channels), np.float32)
        self._owed = 0  # samples that were played as silence
        self._underruns = 0
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
        report = vars(self._audio.report())
        return LiveReport(**{**report, "latency": self._delay}, underruns=self._underruns)

    def _callback(self, heard: np.ndarray, played: np.ndarray, frames: int, time: Any, status: Any) -> None:
        self._heard.put(heard.T.copy())
        while len(self._playing) < frames + self._owed and not self._ready.empty():
            self._playing = np.concatenate([self._playing, self._ready.get().T])
        left_out = min(self._owed, len(self._playing))
        there = self._playing[left_out : left_out + frames]
        self._playing, self._owed = self._playing[left_out + frames :], self._owed - left_out + frames - len(there)
        played[:] = 0
        fits = there.shape[1] in (1, played.shape[1])
        played[: len(there)] = there if fits else there.mean(axis=1, keepdims=True)
        self._underruns += len(there) < frames or bool(status)

    def _work(self, stop: threading.Event) -> None:
        try:
            ended = False
            while not ended:
                samples, ended = self._take()
                if samples.shape[1]:
                    self._ready.put(self._enhance(samples))
        except Exception as error:
            self._failure = error
            stop.set()

    def _take(self) -> tuple[np.ndarray, bool]:
        """What was heard since the last call, once there is any; and whether that was all."""
        heard = [self._heard.get()]
        while not self._heard.empty():  # what came meanwhile is one block: that is faster
            heard.append(self._heard.get())
        parts = [part for part in heard if part is not None] or [np.zeros((self._audio.channels, 0), np.float32)]
        return np.concatenate(parts, axis=1), heard[-1] is None

    def _enhance(self, samples: np.ndarray) -> np.ndarray:
        if samples.shape[1] > _BACKLOG * self._audio.rate:
            raise AvseError("This machine is too slow for the model: the audio comes faster than its speech.")
        return self._audio.push(samples, self._pictures)


@dataclass
class DeviceFormat:
    """What an audio device records and plays.

    Arguments
    ---------
    rate : int
        Its own, in Hz.
    channels : (int, int)
        That are recorded and played: two, if there are as many.
    """

    rate: int
    channels: tuple[int, int]


def device_format(device: str | int | None = None) -> DeviceFormat:
    """The rate and channels of the microphone and the loudspeaker of the system, or those of a name.

    Raises
    ------
    AvseError
        If `sounddevice` is not installed, or there is no such device.
    """
    with _sounddevice() as library:
        heard, played = (library.query_devices(device, kind) for kind in ("input", "output"))
    channels = (min(2, int(heard["max_input_channels"])), min(2, int(played["max_output_channels"])))
    return DeviceFormat(round(heard["default_samplerate"]), channels)


def open_device(
    callback: Callback, size: int, device: str | int | None = None, known: DeviceFormat | None = None
) -> AbstractContextManager[Any]:
    """The microphone and the loudspeaker of the system, or those of a name; needs the extra `live`.

    Arguments
    ---------
    callback, size :
        See `Live.run`.
    device : str or int, optional
    known : DeviceFormat, optional
        What to open it with. Default: one channel at 16 kHz.

    Raises
    ------
    AvseError
        If `sounddevice` is not installed, or there is no such device.
    """
    known = known or DeviceFormat(SAMPLE_RATE, (1, 1))
    with _sounddevice() as library:
        stream: AbstractContextManager[Any] = library.Stream(
            known.rate, size, device, channels=known.channels, dtype="float32", latency="low", callback=callback
        )
    return stream


@contextlib.contextmanager
def _sounddevice() -> Iterator[Any]:
    try:
        with needs_extra("live", "Microphones"):
            import sounddevice
    except OSError as error:
        raise AvseError(f"live use needs the library PortAudio ({error}): apt-get install libportaudio2.") from error
    try:
        yield sounddevice
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AvseError(f"no audio device: {error}. `python -m sounddevice` lists them, --sound names one.") from error

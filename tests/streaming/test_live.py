"""`avse live` with pretended devices: the delay stays, whatever comes late."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avse
from avse.jobs.live import Callback, Live, LiveReport, open_device
from avse.jobs.stream import CameraPictures
from avse.media import read_clip
from avse.media.decode import VideoSource
from avse.media.faces.live import LiveCropper
from avse.media.reader import tracker_of
from avse.streaming import Streamer

SIZE = 320
RATE = 16_000


def _play(causal_model: Path, audio: np.ndarray, hurried: range) -> tuple[np.ndarray, LiveReport]:
    """What the device plays; in the `hurried` blocks, it does not wait until the worker is done."""
    streamer, stop, played = Streamer(causal_model), threading.Event(), []
    live = Live(streamer)

    @contextmanager
    def device(callback: Callback, size: int) -> Iterator[None]:
        def run() -> None:
            assert size == SIZE
            for number, start in enumerate(range(0, len(audio), SIZE)):
                while number not in hurried and live._meter._blocks and streamer._received < start:
                    time.sleep(0.001)
                while number not in hurried and start and live._heard.qsize():
                    time.sleep(0.001)
                out: Any = np.full((SIZE, 1), np.nan, np.float32)
                callback(audio[start : start + SIZE, None], out, SIZE, None, "lost" if number == 7 else "")
                played.append(out[:, 0])
            stop.set()

        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join()

    report = live.run(device, stop)
    return np.concatenate(played), report


def test_a_loop_back_plays_the_enhanced_file_with_one_delay(causal_model: Path) -> None:
    audio = (0.1 * np.random.default_rng(0).standard_normal(100 * SIZE)).astype(np.float32)
    expected = avse.load(causal_model).enhance(audio).speech.numpy()
    expected = np.concatenate([np.zeros(1280, np.float32), expected])[: len(audio)]  # 40 ms of the model, 40 ms of lead
    for hurried in (range(0), range(30, 70)):
        played, report = _play(causal_model, audio, hurried)
        silent = (played.reshape(-1, SIZE) == 0).all(axis=1)
        late = (np.abs(played - expected) > 1e-5).reshape(-1, SIZE).any(axis=1)
        assert not (late & ~silent & ~np.roll(silent, 1)).any()
        assert not late[:30].any() and not late[80:].any()
        assert report.underruns >= 1 + late.sum() and report.latency == pytest.approx(0.08)
        assert late.any() == bool(hurried) or hurried


def test_what_goes_wrong_in_the_worker_is_told(causal_model: Path) -> None:
    audio = np.full(10 * SIZE, np.nan, np.float32)
    with pytest.raises(avse.AvseError, match="NaN"):
        _play(causal_model, audio, range(10))


def test_without_sounddevice_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    with pytest.raises(avse.AvseError, match=r"avse\[live\]"):
        open_device(lambda *_: None, SIZE)


class _HandClock:
    """The clock of a microphone and a camera, set by hand. Only the worker takes time.

    Arguments
    ---------
    live : Live
    takes : (float, float)
        Seconds of the worker for a call, and for each block in it.
    """

    def __init__(self, takes: tuple[float, float]) -> None:
        self.live: Live
        self.given: list[tuple[float, int]] = []  # when speech was there, and how many samples
        self._takes, self._now = takes, 0.0
        self._busy: tuple[float, np.ndarray] | None = None  # when speech will be there, and which
        self._changed = threading.Condition()
        self._wanted: float | None = None  # what the camera waits for; None: it is at work

    def now(self) -> float:
        return self._now

    def wait_until(self, seconds: float) -> None:
        if threading.current_thread().name == "device":
            self._advance(seconds)
            return
        with self._changed:
            self._wanted = seconds
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._now >= seconds, timeout=20)
            self._wanted = None

    def film(self, frames: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Frames, after which nobody waits for the camera."""
        yield from frames
        with self._changed:
            self._wanted = float("inf")
            self._changed.notify_all()

    def _advance(self, seconds: float) -> None:
        while True:
            with self._changed:
                assert self._changed.wait_for(lambda: self._wanted is not None and self._wanted > self._now, timeout=20)
                if self._busy is None and not self.live._heard.empty():
                    samples, _ = self.live._take()
                    takes = self._takes[0] + self._takes[1] * len(samples) / SIZE
                    self._busy = self._now + takes, self.live._enhance(samples)
                ready = float("inf") if self._busy is None else self._busy[0]
                assert self._wanted is not None
                self._now = min(seconds, ready, self._wanted)
                self._changed.notify_all()
            if self._busy is not None and self._now == ready:
                self.given.append((ready, len(self._busy[1])))
                self.live._ready.put(self._busy[1])
                self._busy = None
            if self._now == seconds:
                return


@pytest.mark.parametrize(
    ("pace", "takes", "smooth"),
    [(1, (0.006, 0.002), True), (3, (0.003, 0.001), True), (3, (0.03, 0.002), False)],
    ids=["real time", "three times as fast", "too slow for three times"],
)
def test_a_film_pretends_to_be_microphone_and_camera(
    pace: int, takes: tuple[float, float], smooth: bool, causal_model: Path, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from loop_back import LoopBack

    audio = read_clip(talk, use_video=False).audio
    blocks = len(audio) // SIZE
    source = VideoSource(talk)
    with closing(source.container):
        frames = [frame.rgb(640) for frame in islice(source.frames(source.zero), blocks // 2) if frame is not None]
    clock = _HandClock((pace * takes[0], pace * takes[1]))
    loop = LoopBack(audio, clock.film(frames), clock, threading.Event())
    pictures = CameraPictures(loop, now=clock.now)
    clock.live = live = Live(Streamer(causal_model, wait=0.08), pictures)
    with loop.device(live._callback, SIZE):
        pass
    played = np.concatenate(loop.played)

    # The same pictures at the same times, into a streamer that nothing hurries.
    cropper, streamer = LiveCropper(tracker_of(None)), Streamer(causal_model, wait=0.08)
    for number, frame in enumerate(frames):
        crop = cropper.crop(frame)
        streamer.push(audio[:0], np.zeros(0, np.uint8) if crop is None else crop, number / 25)
    expected = np.concatenate([streamer.push(audio[: blocks * SIZE]).speech, streamer.finish().speech])
    delay = round((0.04 + streamer.latency) * RATE)
    underruns = 0
    for number, block in enumerate(played.reshape(-1, SIZE)):
        at, end = (number + 1) * SIZE / RATE, (number + 1) * SIZE - delay
        there = sum(samples for ready, samples in clock.given if ready <= at)
        underruns += there < end
        if there >= end > SIZE:
            assert np.abs(block - expected[end - SIZE : end]).max() < 1e-5
    assert live._underruns == underruns and (underruns == 0) == smooth
    assert live._meter.report(live._received).reliability

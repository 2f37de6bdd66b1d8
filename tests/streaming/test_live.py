"""`avse live` with pretended devices: the delay stays, whatever comes late."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr
import torch

import avse
from avse import plugins
from avse.jobs.live import Callback, DeviceFormat, Live, LiveReport, device_format, open_device
from avse.jobs.stream import CameraPictures, StreamAudio
from avse.media import read_clip
from avse.media.decode import VideoSource
from avse.media.faces.live import LiveCropper
from avse.media.reader import tracker_of
from avse.signal.full_band import FullBand
from avse.streaming import Streamer

SIZE = 320
RATE = 16_000


def _play(audio: StreamAudio, samples: np.ndarray, hurried: range, out_channels: int) -> tuple[np.ndarray, LiveReport]:
    """What the device plays, shape (samples, channels); in the `hurried` blocks, it does not wait for the worker."""
    stop, played = threading.Event(), []
    live, size = Live(audio), SIZE * audio.rate // 16_000

    @contextmanager
    def device(callback: Callback, asked: int) -> Iterator[None]:
        def run() -> None:
            assert size == asked
            for number, start in enumerate(range(0, len(samples), size)):
                while number not in hurried and audio._meter._blocks and audio._heard < start:
                    time.sleep(0.001)
                while number not in hurried and start and live._heard.qsize():
                    time.sleep(0.001)
                while number not in hurried and start and live._ready.empty() and audio._given > start:
                    time.sleep(0.001)
                out: Any = np.full((size, out_channels), np.nan, np.float32)
                callback(samples[start : start + size], out, size, None, "lost" if number == 7 else "")
                played.append(out)
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
        both, report = _play(StreamAudio(Streamer(causal_model)), audio[:, None], hurried, 2)
        played = both[:, 0]
        assert np.array_equal(played, both[:, 1])
        silent = (played.reshape(-1, SIZE) == 0).all(axis=1)
        late = (np.abs(played - expected) > 1e-5).reshape(-1, SIZE).any(axis=1)
        assert not (late & ~silent & ~np.roll(silent, 1)).any()
        assert not late[:30].any() and not late[80:].any()
        assert report.underruns >= 1 + late.sum() and report.latency == pytest.approx(0.08)
        assert late.any() == bool(hurried) or hurried


@pytest.mark.parametrize(("rate", "channels", "out_channels"), [(48_000, 2, 2), (44_100, 2, 1), (48_000, 1, 2)])
def test_the_rate_and_the_channels_of_the_device_are_played(rate: int, channels: int, out_channels: int) -> None:
    """With a model that takes nothing away, a device plays what it records, up to its own band, with one delay."""
    system: Any = plugins.get("enhancer", "tf_masker")(channels=16, blocks=2, fusion_block=1, causal=True)
    with torch.no_grad():
        system.decoder.weight.zero_()
        system.decoder.bias.zero_()[: system.bins] = float(np.arctanh(2 / 3)) - 0.35
    rng, size = np.random.default_rng(0), SIZE * rate // 16_000
    samples = (0.1 * rng.standard_normal((100 * size, channels))).astype(np.float32)
    audio = StreamAudio(Streamer(avse.Model(system, "")), rate, channels)
    played, report = _play(audio, samples, range(0), out_channels)
    late = round(report.latency * rate)
    assert 0.1 < report.latency < 0.21 and report.underruns == 1
    assert report.seconds == pytest.approx(2.0) and not played[:late].any()
    expected = samples if channels == out_channels or channels == 1 else samples.mean(axis=1, keepdims=True)
    wrong = played[late:] - expected[: len(played) - late]
    assert np.square(wrong[size:]).mean() < 1e-3 * np.square(expected).mean()


def test_a_device_at_another_rate_plays_what_a_file_gives(causal_model: Path) -> None:
    """One channel at 48 kHz, block by block, and the gain of the whole."""
    samples = (0.1 * np.random.default_rng(0).standard_normal(60_000)).astype(np.float32)
    mixture = soxr.resample(samples, 48_000, 16_000)
    full_band = FullBand(48_000, 1)
    speech = avse.load(causal_model).enhance(mixture).speech.numpy()
    expected = np.concatenate([full_band(samples[None], mixture, speech), full_band.rest()], axis=1)
    for size in (441, 960, 7000):
        audio = StreamAudio(Streamer(causal_model), 48_000)
        found = [audio.push(samples[None, at : at + size]) for at in range(0, len(samples), size)]
        found = np.concatenate([*found, audio.finish()], axis=1)
        assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-4


def test_what_goes_wrong_in_the_worker_is_told(causal_model: Path) -> None:
    audio = np.full((10 * SIZE, 1), np.nan, np.float32)
    with pytest.raises(avse.AvseError, match="NaN"):
        _play(StreamAudio(Streamer(causal_model)), audio, range(10), 1)


def test_a_device_is_opened_at_its_rate_with_its_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, Any]] = []

    def query(device: str | None, kind: str) -> dict[str, Any]:
        channels = {"max_input_channels": 1, "max_output_channels": 8}[f"max_{kind}_channels"]
        return {"default_samplerate": 44_100.0, f"max_{kind}_channels": channels}

    library = SimpleNamespace(
        PortAudioError=KeyError,
        query_devices=query,
        Stream=lambda rate, size, device, **more: opened.append({"rate": rate, "size": size, **more}),
    )
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    known = device_format("mine")
    open_device(lambda *_: None, 882, "mine", known)
    assert known == DeviceFormat(44_100, (1, 2))
    assert (opened[0]["rate"], opened[0]["size"], opened[0]["channels"]) == (44_100, 882, (1, 2))


def test_without_sounddevice_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
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
                    takes = self._takes[0] + self._takes[1] * samples.shape[1] / SIZE
                    self._busy = self._now + takes, self.live._enhance(samples)
                ready = float("inf") if self._busy is None else self._busy[0]
                assert self._wanted is not None
                self._now = min(seconds, ready, self._wanted)
                self._changed.notify_all()
            if self._busy is not None and self._now == ready:
                self.given.append((ready, self._busy[1].shape[1]))
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
    clock.live = live = Live(StreamAudio(Streamer(causal_model, wait=0.08)), pictures)
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
    assert live._audio.report().reliability

"""`avse live` with a pretended device: the delay stays, whatever comes late."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avse
from avse.jobs.live import Callback, Live, LiveReport, open_device
from avse.streaming import Streamer

SIZE = 320


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

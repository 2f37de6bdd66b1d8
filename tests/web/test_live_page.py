"""The live tab: a browser's pretended microphone and camera, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import avse
from avse.datasets.synthetic import synthesize_clip

pytestmark = pytest.mark.slow
AUDIO, PICTURE = 0, 1


@pytest.mark.parametrize("camera", [False, True], ids=["audio alone", "with camera"])
def test_speech_comes_back_as_of_the_whole_clip(camera: bool, visit: Callable, tmp_path: Path) -> None:
    audio, _, _ = synthesize_clip(seed=5, speaker=12, seconds=3.0)
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(audio))
    soundfile.write(tmp_path / "said.wav", audio + noise, 16000, subtype="PCM_16")
    page = visit(f"--use-file-for-fake-audio-capture={tmp_path / 'said.wav'}", devices=True)
    sent: list[bytes] = []
    speech: list[bytes] = []
    texts: list[str] = []
    sockets: list[Any] = []

    def heard() -> np.ndarray:
        return np.frombuffer(b"".join(data[4:] for data in sent if data[0] == AUDIO), "<f4")

    def pictures() -> list[bytes]:
        return [data for data in sent if data[0] == PICTURE]

    def listen(socket: Any) -> None:
        sockets.append(socket)
        socket.on("framesent", lambda data: sent.append(data) if isinstance(data, bytes) else None)
        socket.on("framereceived", lambda data: (speech if isinstance(data, bytes) else texts).append(data))

    page.on("websocket", listen)
    page.get_by_role("tab", name="Live").click()
    page.locator(".avse-live[data-ready]").wait_for()
    page.locator(".avse-camera").set_checked(camera)
    page.get_by_role("button", name="Start").click()
    page.locator("text=Live.").wait_for()
    [socket] = sockets
    socket.wait_for_event("framesent", lambda _: len(heard()) > 2 * 16000 and bool(pictures()) == camera)
    shown = page.locator(".avse-latency").inner_text()
    assert 100 <= int(shown.split()[0]) <= 2500, shown
    page.get_by_role("button", name="Stop").click()
    page.locator("text=Ended after").wait_for()

    told = [json.loads(text) for text in texts]
    audio = heard()
    found = np.concatenate([np.frombuffer(data, "<f4") for data in speech])
    assert len(found) == len(audio) > 16000 and np.abs(audio).max() > 0.05
    assert told[-1]["report"]["seconds"] == pytest.approx(len(audio) / 16000, abs=0.01)
    assert bool(pictures()) == camera
    # The pretended camera shows no face, so that the speech is that of the audio alone, bit for bit.
    whole = avse.load("avse-live").enhance(audio).speech.numpy()
    assert np.abs(found - whole).max() < 1e-4
    reliability = [value for one in told for value in one.get("reliability", [])]
    assert len(reliability) == -(-len(audio) // 640) and not any(reliability)


def test_another_page_cannot_open_a_stream(address: str, chromium: str) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus):
        connect(f"{address.replace('http', 'ws')}/avse/live", origin="http://elsewhere.example")

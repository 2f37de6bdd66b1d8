"""Inputs nobody wishes for, through `avse enhance` and from Python: one clear message, or a clip enhanced all the same.

Where a file is refused nothing is left in the folder of the output, not even a hidden file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

import avse
from avse.data.synthetic.recording import write_video
from avse.errors import AvseError

if TYPE_CHECKING:
    from tests.conftest import Outcome

RATE = 16_000


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _sound(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def _tone(seconds: float) -> np.ndarray:
    return 0.1 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def _silent_film(path: Path, talk: Path) -> Path:
    """The film without its sound."""
    import av

    with av.open(str(talk)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return path


def _face_frames(count: int, talk: Path) -> np.ndarray:
    import av

    with av.open(str(talk)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([frames[index % len(frames)] for index in range(count)])


REFUSED: dict[str, tuple[str, Callable[[Path, Path], Path], tuple[str, ...]]] = {
    "empty file": ("empty.mp4", lambda path, talk: _write(path, b""), ("empty", "0 bytes")),
    "text under the name of a film": (
        "notes.mp4",
        lambda path, talk: _write(path, b"Dear diary, this is not a film.\n" * 40),
        ("not an audio or video file",),
    ),
    "film cut short before its index": (
        "cut.mp4",
        lambda path, talk: _write(path, talk.read_bytes()[: talk.stat().st_size // 2]),
        ("not an audio or video file", "cut short"),
    ),
    "no samples": ("nothing.wav", lambda path, talk: _sound(path, np.zeros(0, np.float32)), ("empty",)),
    "film without sound": ("mute.mp4", lambda path, talk: _silent_film(path, talk), ("no audio", "--video")),
    "folder under the name of a film": (
        "folder.mp4",
        lambda path, talk: path.mkdir() or path,
        ("holds no media file",),
    ),
    "nothing at all": ("missing.mp4", lambda path, talk: path, ("no such file",)),
    "picture": (
        "portrait.mp4",
        lambda path, talk: _write(path, b"\x89PNG\r\n\x1a\n" + bytes(200)),
        (),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_message(
    name: str, tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable
) -> None:
    file, make, words = REFUSED[name]
    source, out = make(tmp_path / file, talk), tmp_path / "out"
    out.mkdir()
    message = avse_command("enhance", source, "-o", out / "voice.mp4", "--model", tiny_model).message
    assert source.name in message
    assert all(word in message for word in words), message
    assert not list(out.iterdir())
    if not source.is_dir():
        with pytest.raises(AvseError, match=source.name):
            avse.load(tiny_model).enhance(source)


HANDLED: dict[str, Callable[[], np.ndarray]] = {
    "silence": lambda: np.zeros(RATE, np.float32),
    "one sample": lambda: np.full(1, 0.5, np.float32),
    "641 samples": lambda: _tone(641 / RATE),
    "full scale": lambda: np.sign(_tone(0.5)),
    "far beyond full scale": lambda: 1e6 * _tone(0.5),
    "hardly above zero": lambda: 1e-30 * _tone(0.5),
    "offset": lambda: 0.9 + _tone(0.5),
}


@pytest.mark.parametrize("name", HANDLED)
def test_odd_sound_is_enhanced(name: str, tiny_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    samples = HANDLED[name]()
    source, out = _sound(tmp_path / "odd.wav", samples), tmp_path / "voice.wav"
    outcome = avse_command("enhance", source, "-o", out, "--model", tiny_model)
    assert outcome.status == 0, outcome.err
    enhanced, rate = soundfile.read(out)
    assert rate == RATE and enhanced.shape == samples.shape
    assert np.isfinite(enhanced).all()
    estimate = avse.load(tiny_model).enhance(samples)
    assert estimate.speech.shape == samples.shape and bool(estimate.speech.isfinite().all())
    if not samples.any():
        assert not enhanced.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value: float, tiny_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    samples = _tone(0.5)
    samples[100:110] = value
    out = tmp_path / "voice.wav"
    outcome = avse_command("enhance", _sound(tmp_path / "broken.wav", samples), "-o", out, "--model", tiny_model)
    assert outcome.status == 0, outcome.err
    assert "not finite" in outcome.err and "broken.wav" in outcome.err
    assert np.isfinite(soundfile.read(out)[0]).all()
    with pytest.raises(AvseError, match="NaN or infinite"):
        avse.load(tiny_model).enhance(samples)


@pytest.mark.parametrize("shape", [(0,), (2, 100), ()])
def test_arrays_that_are_no_sound(shape: tuple[int, ...], tiny_model: Path) -> None:
    with pytest.raises(AvseError, match="one channel|at least one sample"):
        avse.load(tiny_model).enhance(np.zeros(shape, np.float32))


def _report(outcome: Outcome, path: Path) -> dict:
    assert outcome.status == 0, outcome.err
    [report] = json.loads(path.read_text())
    return report


def _seen(outcome: Outcome) -> int:
    """Per cent of the sound in which the mouth was seen; coded sound may end a frame after the pictures."""
    return int(re.search(r"mouth seen in (\d+)%", outcome.out)[1])


def test_film_cut_short_in_the_middle(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    """A container without an index gives what it still holds."""
    import av

    whole = tmp_path / "whole.ts"
    with av.open(str(talk)) as source, av.open(str(whole), "w") as target:
        copies = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    cut = _write(tmp_path / "cut.ts", whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    report = tmp_path / "report.json"
    outcome = avse_command("enhance", cut, "-o", tmp_path / "voice.wav", "--model", tiny_model, "--json", report)
    assert 0.4 < _report(outcome, report)["seconds"] < 1.2
    assert soundfile.info(tmp_path / "voice.wav").duration == pytest.approx(_report(outcome, report)["seconds"])


def test_sound_longer_than_its_film(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    source, report = tmp_path / "long.mp4", tmp_path / "report.json"
    write_video(source, _face_frames(25, talk), _tone(2.0))
    outcome = avse_command("enhance", source, "-o", tmp_path / "voice.mp4", "--model", tiny_model, "--json", report)
    found = _report(outcome, report)
    assert found["seconds"] == pytest.approx(2.0, abs=0.1)
    assert found["valid_share"] == pytest.approx(0.5, abs=0.06)
    assert not any(found["reliability"][27:])


def test_face_that_leaves(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    frames = _face_frames(50, talk)
    frames[20:] = 90
    source, report = tmp_path / "leaves.mp4", tmp_path / "report.json"
    write_video(source, frames, _tone(2.0))
    outcome = avse_command("enhance", source, "-o", tmp_path / "voice.mp4", "--model", tiny_model, "--json", report)
    found = _report(outcome, report)
    assert 0.3 < found["valid_share"] < 0.6
    assert any(found["reliability"][:18]) and not any(found["reliability"][30:])


def test_two_faces(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    frames = _face_frames(15, talk)
    source, out = tmp_path / "two.mp4", tmp_path / "voice.mp4"
    write_video(source, np.concatenate([frames, frames], axis=2), _tone(0.6))
    for face in ("largest", "0", "1", "256,0,256,256"):
        outcome = avse_command("enhance", source, "-o", out, "--model", tiny_model, "--face", face)
        assert outcome.status == 0, outcome.err
        assert _seen(outcome) >= 90
        out.unlink()
    message = avse_command("enhance", source, "-o", out, "--model", tiny_model, "--face", "2").message
    assert "two.mp4" in message and "2" in message
    for nonsense in ("-1", "leftmost", "1,2,3", "1,2,0,0"):
        assert (
            nonsense in avse_command("enhance", source, "-o", out, "--model", tiny_model, f"--face={nonsense}").message
        )
    assert [one.name for one in tmp_path.iterdir()] == ["two.mp4"]


def test_frames_of_3840_by_2160(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    import cv2

    large = np.stack([cv2.resize(frame, (2160, 2160)) for frame in _face_frames(3, talk)])
    frames = np.pad(large, ((0, 0), (0, 0), (840, 840), (0, 0)), constant_values=60)
    source, out = tmp_path / "large.mp4", tmp_path / "voice.mp4"
    write_video(source, frames, _tone(0.12))
    outcome = avse_command("enhance", source, "-o", out, "--model", tiny_model)
    assert outcome.status == 0 and _seen(outcome) >= 75, outcome.err


def test_no_face_at_all_is_audio_only(tiny_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    source, with_video, without = tmp_path / "wall.mp4", tmp_path / "a.wav", tmp_path / "b.wav"
    write_video(source, np.full((25, 256, 256, 3), 120, np.uint8), _tone(1.0))
    outcome = avse_command("enhance", source, "-o", with_video, "--model", tiny_model)
    assert outcome.status == 0 and "mouth seen in 0%" in outcome.out, outcome.err
    assert avse_command("enhance", source, "-o", without, "--model", tiny_model, "--no-video").status == 0
    np.testing.assert_array_equal(soundfile.read(with_video)[0], soundfile.read(without)[0])


def test_one_bad_file_among_good_ones(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    """The good ones are enhanced, the bad one is named, and the exit status says so."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    _write(folder / "a.mp4", talk.read_bytes())
    _write(folder / "b.mp4", b"no film")
    _sound(folder / "c.wav", _tone(0.5))
    outcome = avse_command("enhance", folder, "-o", out, "--model", tiny_model)
    assert "1 of 3 failed" in outcome.message and "b.mp4" in outcome.message
    assert sorted(one.name for one in out.glob("[!.]*")) == ["a.enhanced.mp4", "c.enhanced.wav"]


@pytest.mark.slow
def test_a_name_that_is_not_utf8(tiny_model: Path, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9.wav")
    try:
        _sound(tmp_path / "a.wav", _tone(0.5)).rename(source)
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "avse", "enhance", source, "--model", tiny_model, "--json", report]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
    enhanced = tmp_path / os.fsdecode(b"caf\xe9.enhanced.wav")
    assert enhanced.is_file() and json.loads(report.read_text())[0]["output"] == str(enhanced)

"""`avse stream`: raw samples in, raw samples out, with pictures of a file or a camera."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from typer.testing import CliRunner

import avse
from avse.cli.app import app
from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.errors import AvseError
from avse.jobs.stream import CameraPictures, stream_samples
from avse.media import read_clip
from avse.media.faces.live import LiveCropper
from avse.streaming import Streamer


def _run(samples: bytes, *arguments: object) -> Any:
    result = CliRunner().invoke(app, ["stream", *map(str, arguments)], input=samples)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_film_through_a_pipe_is_the_clip_enhanced(causal_model: Path, talk: Path, tmp_path: Path) -> None:
    clip = read_clip(talk)
    options = ["--model", causal_model, "--format", "f32", "--block-ms", 33, "--json", tmp_path / "report.json"]
    result = _run(clip.audio.astype("<f4").tobytes(), "--video", talk, *options)
    assert result.exit_code == 0, result.stderr
    whole = avse.load(causal_model).enhance(clip)
    assert np.abs(np.frombuffer(result.stdout_bytes, "<f4") - whole.speech.numpy()).max() < 1e-5
    report = json.loads((tmp_path / "report.json").read_text())
    assert (
        report["reliability"] == pytest.approx(float(whole.reliability.mean()), abs=1e-3) and report["latency"] == 0.04
    )
    assert report["seconds"] == pytest.approx(len(clip.audio) / 16_000, abs=1e-3)
    assert 0 < report["block_ms"]["50%"] <= report["block_ms"]["95%"] <= report["block_ms"]["99%"]
    assert "latency 40 ms" in result.stderr and "reliability 0." in result.stderr


def test_other_rates_come_back_with_as_many_samples(causal_model: Path) -> None:
    rng = np.random.default_rng(0)
    dull = np.convolve(rng.standard_normal(8000), np.hanning(20) / 20, mode="same")  # nothing at the edge of the band
    audio = soxr.resample(0.1 * dull, 16_000, 44_100)
    pipe, out = io.BytesIO(audio.astype("<f4").tobytes()), io.BytesIO()
    stream_samples(Streamer(causal_model), pipe, out, rate=44_100, band="8k", sample_format="f32")
    found = np.frombuffer(out.getvalue(), "<f4")
    expected = avse.load(causal_model).enhance(audio, sample_rate=44_100).speech.numpy()
    assert len(found) == len(audio)
    assert np.abs(soxr.resample(found, 44_100, 16_000)[200:7800] - expected[200:7800]).max() < 2e-4
    assert np.abs(expected).max() > 2e-3


def test_samples_of_16_bits_are_full_scale_at_32768(causal_model: Path) -> None:
    audio = (0.1 * np.random.default_rng(0).standard_normal(4001)).astype(np.float32)
    pipes = {name: io.BytesIO() for name in ("s16", "f32")}
    whole = np.round(audio * 32768).astype("<i2")
    for name, samples in {"s16": whole, "f32": (whole / np.float32(32768)).astype("<f4")}.items():
        stream_samples(Streamer(causal_model), io.BytesIO(samples.tobytes()), pipes[name], sample_format=name)
    found, expected = np.frombuffer(pipes["s16"].getvalue(), "<i2"), np.frombuffer(pipes["f32"].getvalue(), "<f4")
    assert np.array_equal(found, np.round(expected * 32768)) and len(found) == 4001


def test_the_band_and_the_channels_of_a_pipe_stay(causal_model: Path) -> None:
    """Two channels at 48 kHz: the second is half of the first, above 8 kHz too."""
    first = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype("<f4")
    pipe, out = io.BytesIO(np.stack([first, first / 2], axis=1).tobytes()), io.BytesIO()
    report = stream_samples(Streamer(causal_model), pipe, out, rate=48_000, channels=2, sample_format="f32")
    found = np.frombuffer(out.getvalue(), "<f4").reshape(-1, 2)
    assert found.shape == (24_000, 2) and np.abs(found[:, 0] - 2 * found[:, 1]).max() < 1e-5
    assert np.abs(np.fft.rfft(found[:, 0]))[6000:].mean() > 1 and 0.09 < report.latency < 0.2


def test_an_empty_pipe_and_mistakes(causal_model: Path) -> None:
    assert _run(b"", "--model", causal_model).stdout_bytes == b""
    for samples, options, message in (
        (b"123", [], "amid a sample"),
        (b"", ["--format", "u8"], "s16 or f32"),
        (b"", ["--video", "a.mp4", "--camera", 0], "one of them"),
        (b"", ["--video", "nowhere.mp4"], "no such file"),
    ):
        result = _run(samples, "--model", causal_model, *options)
        assert result.exit_code == 1 and message in result.stderr and result.stdout_bytes == b""
    assert "looks ahead" in _run(b"", "--model", "avse-small").stderr


class _Spot(MouthTracker):
    """Takes the brightest column for the middle of a face; sees none in the dark."""

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        if frame.max() < 100:
            return []
        column = int(frame.sum(axis=(0, 2)).argmax())
        return [Face((column - 30, 30, 60, 80))]


def _picture(column: int | None) -> np.ndarray:
    picture = np.zeros((160, 240, 3), np.uint8)
    if column is not None:
        picture[:, column - 1 : column + 2] = 255
    return picture


def test_the_mouth_is_followed_from_the_frames_so_far() -> None:
    cropper = LiveCropper(_Spot())
    shown = [None] * 3 + [100] * 10 + [106] * 20 + [None] * 12
    crops = [cropper.crop(_picture(column)) for column in shown]
    valid = [crop is not None for crop in crops]
    assert not any(valid[:3]) and all(valid[8:33]) and not any(valid[40:])  # faces are looked for every fifth frame
    middle = [int(crop.astype(int).sum(axis=0).argmax()) for crop in crops[8:33] if crop is not None]
    assert abs(middle[3] - 44) <= 2 and abs(middle[-1] - 44) <= 2  # behind a moving head, it comes back to the middle


def test_pictures_of_a_camera_get_the_time_of_the_audio() -> None:
    class Camera:
        left = 5
        released = False

        def read(self) -> tuple[bool, np.ndarray]:
            self.left -= 1
            time.sleep(0.01)
            return self.left >= 0, _picture(100)

        def release(self) -> None:
            self.released = True

    camera = Camera()
    pictures = CameraPictures(camera, _Spot())
    pictures._thread.join(timeout=10)
    found = list(pictures.until(10.0))
    times = [at for _, at in found]
    assert len(found) == 5 and times == sorted(times) and 0 < times[0] < times[-1] < 10.0
    assert all(picture.shape == (88, 88) for picture, _ in found)
    assert not list(pictures.until(10.02))
    pictures.close()
    assert camera.released
    with pytest.raises(AvseError, match="camera 77"):
        CameraPictures(77, _Spot())

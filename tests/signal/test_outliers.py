"""Samples that are no audio: one of them silences nothing else, whatever brings it in, and it is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

import avse
from avse.contracts.types import Clip
from avse.errors import AvseWarning
from avse.media.reader import open_clip
from avse.signal.outliers import without_outliers

RATE = 48_000


def _noise(rate: int, seconds: float = 2.0) -> np.ndarray:
    return (0.05 * np.random.default_rng(0).standard_normal(round(rate * seconds))).astype(np.float32)


@pytest.mark.parametrize("value", [50.0, 1e6, -3e38])
@pytest.mark.parametrize("kind", ["clicks", "burst"])
def test_outliers_of_a_file_are_silence_and_all_else_is_kept(
    value: float, kind: str, tiny_model: Path, tmp_path: Path, avse_command: Callable
) -> None:
    audio = np.stack([_noise(RATE), 0.5 * _noise(RATE)])
    spoiled, places = audio.copy(), [4, 24_000, 50_000] if kind == "clicks" else slice(50_000, 51_000)
    spoiled[1, places], audio[1, places] = value, 0
    for name, samples in (("spoiled", spoiled), ("plain", audio)):
        soundfile.write(tmp_path / f"{name}.wav", samples.T, RATE, subtype="FLOAT")
        options = ["-o", tmp_path / f"{name}.flac", "--json", tmp_path / f"{name}.json", "--model", tiny_model]
        outcome = avse_command("enhance", tmp_path / f"{name}.wav", *options)
        assert outcome.status == 0 and ("replaced by silence" in outcome.err) == (name == "spoiled"), outcome.err
    found = [json.loads((tmp_path / f"{name}.json").read_text())[0]["warnings"] for name in ("spoiled", "plain")]
    assert len(found[0]) == 1 and not found[1]
    enhanced = [soundfile.read(tmp_path / f"{name}.flac")[0] for name in ("spoiled", "plain")]
    np.testing.assert_array_equal(*enhanced)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_outliers_of_an_array_and_of_a_clip(rate: int, tiny_model: Path) -> None:
    audio = _noise(rate)
    spoiled = audio.copy()
    audio[len(audio) // 2], spoiled[len(audio) // 2] = 0, 1e6
    model = avse.load(tiny_model)
    expected = model.enhance(audio, sample_rate=rate).speech
    with pytest.warns(AvseWarning, match="replaced by silence"):
        found = model.enhance(spoiled, sample_rate=rate).speech
    assert bool((found == expected).all())
    if rate == 16_000:
        with pytest.warns(AvseWarning, match="replaced by silence"):
            assert bool((model.enhance_batch([Clip(spoiled)])[0].speech == expected).all())


def test_python_says_what_is_wrong_with_a_file(tiny_model: Path, tmp_path: Path) -> None:
    audio = _noise(RATE)
    audio[1000] = 1e6
    soundfile.write(tmp_path / "spoiled.wav", audio, RATE, subtype="FLOAT")
    content = (tmp_path / "spoiled.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    model = avse.load(tiny_model)
    for source, words in (("spoiled.wav", "spoiled.wav: .* replaced by silence"), ("cut.wav", "cut.wav: .*cut short")):
        with pytest.warns(AvseWarning, match=words):
            model.enhance(tmp_path / source)
    with pytest.warns(AvseWarning, match="clip: .* replaced by silence"):
        model.enhance(content)


def test_outliers_of_a_stream() -> None:
    from avse import plugins
    from avse.streaming import Streamer

    audio = _noise(16_000)
    spoiled = audio.copy()
    audio[10_000], spoiled[10_000] = 0, 1e6
    model = avse.Model(plugins.get("enhancer", "tf_masker")(channels=16, blocks=2, fusion_block=1, causal=True), "")

    def streamed(samples: np.ndarray) -> np.ndarray:
        streamer = Streamer(model)
        return np.concatenate([streamer.push(samples[start : start + 320]).speech for start in range(0, 32_000, 320)])

    with pytest.warns(AvseWarning, match="replaced by silence"):
        found = streamed(spoiled)
    np.testing.assert_array_equal(found, streamed(audio))


def _scaled(scale: float) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    loud = scale * rng.standard_normal(8000)
    silent = np.zeros(8000)
    yield "begins", np.concatenate([silent, loud])
    yield "begins at the end of a block", np.concatenate([silent, silent[:7999], loud])
    yield "word", np.concatenate([silent, loud[:1500], silent])
    yield "decays", np.concatenate([silent, loud * np.exp(-np.arange(8000) / 1000)])
    yield "whole", loud


@pytest.mark.parametrize("scale", [1.0, 32768.0, 1e6])
def test_audio_of_any_scale_stays(scale: float, tmp_path: Path) -> None:
    for name, audio in _scaled(scale):
        told: list[None] = []
        blocks = [audio[start : start + 8000] for start in range(0, len(audio), 8000)]
        assert np.array_equal(np.concatenate(list(without_outliers(blocks, partial(told.append, None)))), audio), name
        assert not told, name
        soundfile.write(tmp_path / "audio.wav", audio, 16_000, subtype="FLOAT")
        with open_clip(tmp_path / "audio.wav") as reader:
            np.testing.assert_array_equal(next(reader.chunks()).clip.audio, audio.astype(np.float32))

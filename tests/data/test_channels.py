"""Channels: codecs keep the clock, bands and gains pass the target too, and wrong arguments are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.signal import correlate

from avse.data import channels
from avse.data.channels import Channel, band_limited, codec_delay, coded, gain_steps
from avse.errors import AvseError

NONE: dict[str, Any] = {"share": 1.0, "band": 0.0, "gain": 0.0, "clip": 0.0, "codec": 0.0}


def _voice(samples: int = 24000) -> np.ndarray:
    """Harmonics of a wandering pitch, in syllables, with some breath."""
    time = np.arange(samples) / 16000
    phase = 2 * np.pi * np.cumsum(130 + 30 * np.sin(2 * np.pi * 1.7 * time)) / 16000
    voice = sum(np.sin(number * phase + number) / number for number in range(1, 25))
    breath = np.random.default_rng(0).normal(0, 0.05, samples)
    return (0.1 * (voice + breath) * (0.1 + np.sin(2 * np.pi * 2 * time) ** 2)).astype(np.float32)


def _cases() -> list[tuple[str, int]]:
    rates = {name: spec[3] for name, spec in channels._CODECS.items()}
    return [
        ("gsm", 0),
        *((name, rate) for name, limits in rates.items() for rate in (limits[0], sum(limits) // 2, limits[1])),
    ]


@pytest.mark.parametrize(("codec", "rate"), _cases())
def test_codecs_keep_clock_level_and_length(codec: str, rate: int) -> None:
    voice = _voice()
    decoded = coded(voice, codec, rate)
    assert decoded.shape == voice.shape and decoded.dtype == np.float32
    telephone = [band_limited(audio, 300, 3400).astype(np.float64) for audio in (decoded, voice)]
    products = correlate(*telephone)
    assert np.argmax(products) == len(voice) - 1
    assert products.max() / np.linalg.norm(telephone[0]) / np.linalg.norm(telephone[1]) > 0.7
    assert products.max() / np.sum(telephone[1] ** 2) == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("codec", ["opus", "aac", "mp3", "gsm"])
def test_codecs_take_any_level_and_length(codec: str) -> None:
    for samples in (1, 100, 5001):
        assert coded(_voice(samples), codec, 32000).shape == (samples,)
    assert not coded(np.zeros(1000, dtype=np.float32), codec, 32000).any()
    loud, soft = coded(100 * _voice(8000), codec, 32000), coded(1e-4 * _voice(8000), codec, 32000)
    np.testing.assert_allclose(loud / 100, soft / 1e-4, atol=0.02)


def test_a_band_limit_passes_its_band_and_delays_nothing() -> None:
    time = np.arange(16000) / 16000
    tones = {hertz: np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (50, 1000, 2500, 5000)}
    for hertz, tone in tones.items():
        heard = band_limited(tone, 300, 3400)
        if 300 < hertz < 3400:
            np.testing.assert_allclose(heard, tone, atol=1e-4)
        else:
            assert np.abs(heard).max() < 0.01
    np.testing.assert_allclose(band_limited(tones[50], 0, 4000), tones[50], atol=1e-4)


def test_linear_parts_pass_the_target_too() -> None:
    rng = np.random.default_rng(1)
    clean = _voice()
    noisy = clean + rng.normal(0, 0.02, len(clean)).astype(np.float32)
    heard, target = Channel(**{**NONE, "band": 1.0}, bands=[(300, 3400)])(noisy, clean, np.random.default_rng(2))
    np.testing.assert_allclose(target, band_limited(clean, 300, 3400), atol=1e-6)
    np.testing.assert_allclose(heard, band_limited(noisy, 300, 3400), atol=1e-6)
    heard, target = Channel(**{**NONE, "gain": 1.0})(noisy, clean, np.random.default_rng(2))
    np.testing.assert_allclose(heard * clean, target * noisy, atol=1e-6)
    assert not np.allclose(target, clean)


@pytest.mark.parametrize("part", ["clip", "codec"])
def test_the_target_of_distorting_parts_stays(part: str) -> None:
    clean = _voice()
    channel = Channel(**{**NONE, part: 1.0}, codecs=["opus", "aac", "mp3"])
    heard, target = channel(clean, clean, np.random.default_rng(0))
    assert target is clean
    assert not np.array_equal(heard, clean)
    if part == "clip":
        peak = np.abs(heard).max()
        np.testing.assert_array_equal(heard, np.clip(clean, -peak, peak))
        assert np.abs(clean).max() * 10 ** (-12 / 20) <= peak < np.abs(clean).max()


def test_gsm_brings_the_band_of_a_telephone_for_both() -> None:
    clean = _voice()
    _, target = Channel(**{**NONE, "codec": 1.0}, codecs=["gsm"])(clean, clean, np.random.default_rng(0))
    np.testing.assert_array_equal(target, band_limited(clean, 300, 3400))


def test_gain_steps_are_smooth_and_bounded() -> None:
    changes = 0
    for seed in range(30):
        gain_db = 20 * np.log10(gain_steps(16000, 10.0, np.random.default_rng(seed)))
        assert gain_db[0] == 0.0
        assert np.abs(np.diff(gain_db)).max() <= 3 * 10 / 320 + 1e-4
        level = gain_db[np.r_[0, np.flatnonzero(np.diff(gain_db) == 0) + 1]]
        changes += len(np.unique(level.round(3))) > 1
        assert np.abs(gain_db).max() <= 30.001
    assert changes == 30


def test_a_channel_is_a_function_of_its_generator() -> None:
    clean = _voice(8000)
    channel = Channel(share=1.0)
    for seed in range(8):
        one, other = (channel(2 * clean, clean, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert np.isfinite(one[0]).all() and one[0].dtype == one[1].dtype == np.float32
    assert Channel(share=0.0)(clean, clean, np.random.default_rng(0))[0] is clean


def test_a_codec_that_pyav_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(channels._CODECS, "speex", ("libspeex_of_nobody", "libspeex", {}, (8000, 16000)))
    with pytest.raises(AvseError, match="'speex' does not work here .*PyAV has no libspeex or libspeex_of_nobody"):
        Channel(codecs=["opus", "speex"])
    codec_delay.cache_clear()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"share": -0.1}, "share must be a probability"),
        ({"codec": float("nan")}, "codec must be a probability"),
        ({"gain_db": 100.0}, "gain_db must be"),
        ({"bands": [(3400, 300)]}, "two rising frequencies"),
        ({"bands": [(0, 9000)]}, "two rising frequencies"),
        ({"bands": []}, "must not be empty"),
        ({"codecs": []}, "must not be empty"),
        ({"codecs": ["wax"]}, "no codec 'wax'; there are opus, aac, mp3 and gsm"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(AvseError, match=message):
        Channel(**wrong)

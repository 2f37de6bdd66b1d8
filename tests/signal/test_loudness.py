"""Loudness by ITU-R BS.1770, against its own filters and gates in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from avse.signal.loudness import Loudness

# The standard gives these filters for 48 kHz.
SHELF = [1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585]
HIGH_PASS = [1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]


def naive(samples: np.ndarray, gains: list[float]) -> float:
    from scipy.signal import lfilter

    weighted = lfilter(*HIGH_PASS, lfilter(*SHELF, samples.astype(float)))
    blocks = [weighted[:, at : at + 19_200] for at in range(0, samples.shape[1] - 19_199, 4800)]
    powers = np.array([np.dot(gains, np.mean(block**2, axis=1)) for block in blocks])
    powers = powers[-0.691 + 10 * np.log10(powers + 1e-30) > -70]
    powers = powers[10 * np.log10(powers) > 10 * np.log10(powers.mean()) - 10]
    return float(-0.691 + 10 * np.log10(powers.mean()))


def measured(samples: np.ndarray, names: list[str], rate: int = 48_000) -> Loudness:
    meter = Loudness(rate, names)
    for at in range(0, samples.shape[1], 7777):
        meter.add(samples[:, at : at + 7777])
    return meter


def test_noise_speech_like_pauses_and_rumble() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (2, 6 * 48_000))
    pauses = noise * (np.sin(np.arange(noise.shape[1]) / 30_000) > 0) + 1e-4 * noise
    rumble = np.cumsum(noise, axis=1) / 100
    for samples in (noise, pauses, rumble):
        assert measured(samples, ["FL", "FR"]).integrated() == pytest.approx(naive(samples, [1, 1]), abs=0.02)


def test_channels_behind_count_more_and_the_subwoofer_nothing() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (6, 2 * 48_000))
    names = ["FL", "FR", "FC", "LFE", "BL", "BR"]
    expected = naive(samples, [1, 1, 1, 0, 1.41, 1.41])
    assert measured(samples, names).integrated() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 96_000])
def test_the_reference_tone_at_any_rate(rate: int) -> None:
    """A full-scale sine at 997 Hz in one channel is -3.01 LUFS."""
    tone = np.sin(2 * np.pi * 997 * np.arange(2 * rate) / rate)[None]
    meter = measured(tone, ["FL"], rate)
    assert meter.integrated() == pytest.approx(-3.01, abs=0.1) and meter.peak == pytest.approx(1, abs=0.01)
    short = measured(tone[:, : rate // 20], ["FL"], rate)
    assert short.integrated() == pytest.approx(-3.01, abs=0.5)


def test_silence_has_no_loudness() -> None:
    for samples in (0, 100, 48_000):
        assert measured(np.zeros((1, samples)), ["FC"]).integrated() == -np.inf

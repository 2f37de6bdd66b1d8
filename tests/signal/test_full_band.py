"""What a model did at 16 kHz is done to each channel at the file's own rate, block by block."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from avse.signal.full_band import FullBand

RATES = [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]


def noise(channels: int, samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 0.1, (channels, samples)).astype(np.float32)


def at_16k(recording: np.ndarray, rate: int) -> np.ndarray:
    import soxr

    mono = soxr.resample(recording.mean(axis=0), rate, 16_000)
    wanted = max(1, round(recording.shape[1] * 16_000 / rate))
    return np.pad(mono, (0, max(0, wanted - len(mono))))[:wanted].astype(np.float32)


def in_blocks(full_band: FullBand, recording: np.ndarray, mixture: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Uneven blocks; the recording is ahead of the mixture."""
    edges = [0, 7, 1000, 40_000, recording.shape[1]]
    places = [0, 1, 200, 9000, len(mixture)]
    parts = [
        full_band(recording[:, one:other], mixture[first:last], speech[first:last])
        for one, other, first, last in zip(edges, edges[1:], places, places[1:])
    ]
    return np.concatenate([*parts, full_band.rest()], axis=1)


@pytest.mark.parametrize("rate", RATES)
def test_a_clean_clip_stays_as_it_was(rate: int) -> None:
    for samples in (1, 500, 2 * rate + 77):
        recording = noise(2, samples)
        mixture = at_16k(recording, rate)
        result = in_blocks(FullBand(rate, 2), recording, mixture, mixture)
        assert result.shape == recording.shape
        if samples > 1:
            assert np.square(recording).sum() > 1e8 * np.square(result - recording).sum()  # 80 dB


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_it_is_the_ratio_in_each_frame_and_bin(rate: int) -> None:
    """Against a loop in double precision over the equation of the docstring."""
    recording = noise(3, rate // 2)
    mixture = at_16k(recording, rate)
    speech = mixture * np.sin(np.arange(len(mixture)) / 900) ** 2 + np.roll(mixture, 3) / 4
    size, hop = rate // 25, rate // 50
    window, short = (np.sin(np.pi * np.arange(n) / n) for n in (size, 640))
    padded = np.pad(recording.astype(float), ((0, 0), (size // 2, 2 * size)))
    pair = np.pad(np.stack([mixture, speech]).astype(float), ((0, 0), (320, 1280)))
    expected = np.zeros_like(padded)
    for frame in range(26):
        x, s = (np.fft.rfft(short * signal[frame * 320 :][:640]) for signal in pair)
        spectra = np.fft.rfft(window * padded[:, frame * hop :][:, :size])
        band = slice(200, 292)
        top = min(1.0, np.sum(np.abs(s[band]) ** 2) / np.sum(np.abs(x[band]) ** 2))
        for number in range(spectra.shape[1]):
            gain = top
            if number <= 292:
                gain = s[number] / x[number]
                gain /= max(1.0, abs(gain))
            spectra[:, number] *= gain
        expected[:, frame * hop :][:, :size] += window * np.fft.irfft(spectra, size)
    result = in_blocks(FullBand(rate, 3), recording, mixture, speech)
    assert result == pytest.approx(expected[:, size // 2 :][:, : rate // 2], abs=2e-4)


def test_what_is_taken_away_below_8_khz_is_taken_away_twice_above() -> None:
    recording = noise(1, 96_000)
    mixture = at_16k(recording, 48_000)
    speech = mixture * np.where(np.arange(len(mixture)) < 16_000, 1.0, 0.1)
    result = in_blocks(FullBand(48_000, 1), recording, mixture, speech)[0]

    def high(part: np.ndarray) -> float:
        return float(np.sum(np.abs(np.fft.rfft(part * np.hanning(len(part))))[9000 * len(part) // 48_000 :] ** 2))

    assert high(result[2000:46_000]) == pytest.approx(high(recording[0, 2000:46_000]), rel=1e-3)
    assert high(result[50_000:94_000]) == pytest.approx(1e-4 * high(recording[0, 50_000:94_000]), rel=0.1)
    narrow = in_blocks(FullBand(48_000, 1, above=False), recording, mixture, speech)[0]
    assert high(narrow[2000:46_000]) < 1e-5 * high(recording[0, 2000:46_000])


def test_memory_does_not_grow_with_length() -> None:
    full_band = FullBand(48_000, 2)
    block = noise(2, 4800)
    given = 0
    for _ in range(200):
        given += full_band(block, block[0, ::3], block[0, ::3]).shape[1]
        held = full_band._own.size + full_band._pair.size + full_band._sum.size
        assert held < 3 * 4 * 4800
    assert 0 <= 200 * 4800 - given <= 0.04 * 48_000  # 40 ms behind
    tracemalloc.start()
    assert given + full_band.rest().shape[1] == 200 * 4800
    assert tracemalloc.get_traced_memory()[1] < 2e6, "nor does that of the end"
    tracemalloc.stop()

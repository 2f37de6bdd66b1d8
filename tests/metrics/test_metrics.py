"""Every metric against a second implementation, and on sounds where it is not defined."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch

from avse import plugins
from avse.conformance import run_checks
from avse.errors import AvseError
from avse.metrics.wer import word_errors
from avse.signal.metrics import check_audio, si_sdr

RATE = 16_000
NAMES = ("si_sdr", "si_sdr_improvement", "pesq_wb", "stoi", "estoi")


def speech(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Syllables of a gliding harmonic voice."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 130 + 25 * np.sin(2 * np.pi * 0.6 * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.sin(k * phase + seed * k) / k for k in range(1, 30))
    return 0.1 * voice * np.clip(np.sin(2 * np.pi * 2.5 * time), 0, None)


def noisy_speech(snr: float, seconds: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    clean = speech(seconds, seed)
    noise = np.random.default_rng(seed).standard_normal(clean.size)
    return clean, clean + noise * np.sqrt((clean**2).mean() / (noise**2).mean() * 10 ** (-snr / 10))


def test_word_errors_against_all_alignments() -> None:
    def least(said: tuple[str, ...], heard: tuple[str, ...]) -> int:
        if not said or not heard:
            return len(said) + len(heard)
        return min(
            least(said[1:], heard[1:]) + (said[0] != heard[0]), least(said[1:], heard) + 1, least(said, heard[1:]) + 1
        )

    rng = np.random.default_rng(0)
    for _ in range(40):
        said, heard = (tuple(rng.choice(list("abc"), rng.integers(0, 6))) for _ in range(2))
        assert word_errors(said, heard) == least(said, heard)


def test_a_word_error_rate_needs_words_and_a_recogniser() -> None:
    metric = plugins.get("metric", "wer")
    clean, noisy = noisy_speech(0.0)
    limit = 0.9 * np.square(noisy).mean()
    by_power = metric(recogniser=lambda audio: "two words" if np.square(audio).mean() < limit else "")
    assert by_power(noisy, clean) == 100.0 and by_power(clean, clean) == 0.0
    with pytest.raises(AvseError, match="no word"):
        metric(recogniser=lambda audio: "")(noisy, clean)
    assert metric(recogniser=str).of_text("any words").applies(clean, noisy)
    if importlib.util.find_spec("pocketsphinx") is None:
        with pytest.raises(AvseError, match=r"avse\[wer\]"):
            metric()


@pytest.mark.parametrize("name", [*NAMES, "leakage"])
def test_takes_tensors_and_the_noisy_audio_only_where_it_is_used(name: str) -> None:
    metric = plugins.get("metric", name)()
    clean, noisy = noisy_speech(5.0)
    score = metric(noisy, clean, noisy)
    tensors = [torch.from_numpy(audio).requires_grad_() for audio in (noisy, clean, noisy)]
    assert metric(*tensors) == score
    assert metric(*(tensor.bfloat16() for tensor in tensors)) == pytest.approx(score, abs=0.3)
    if metric.relative_to_noisy:
        with pytest.raises(AvseError, match="third argument"):
            metric(noisy, clean)
    else:
        assert metric(noisy, clean) == score


@pytest.mark.parametrize("name", NAMES)
def test_keeps_its_contract(name: str) -> None:
    failed = [str(result) for result in run_checks(plugins.get("metric", name)) if not result.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5])
def test_si_sdr_is_the_projection(snr: float) -> None:
    clean, noisy = noisy_speech(snr)
    estimate = -3.7 * noisy + 0.01
    [scale], *_ = np.linalg.lstsq(clean[:, None], estimate, rcond=None)
    expected = 20 * np.log10(np.linalg.norm(scale * clean) / np.linalg.norm(estimate - scale * clean))
    assert plugins.get("metric", "si_sdr")()(estimate, clean, noisy) == pytest.approx(expected, abs=1e-6)
    [scale], *_ = np.linalg.lstsq(clean[:, None], noisy, rcond=None)
    before = 20 * np.log10(np.linalg.norm(scale * clean) / np.linalg.norm(noisy - scale * clean))
    improvement = plugins.get("metric", "si_sdr_improvement")()(estimate, clean, noisy)
    assert improvement == pytest.approx(expected - before, abs=1e-6)


def test_si_sdr_of_a_padded_batch_is_that_of_its_clips() -> None:
    pairs = [noisy_speech(0.0, seconds, seed) for seed, seconds in enumerate((0.5, 1.0, 0.75))]
    clean, noisy = torch.zeros(2, 3, RATE, dtype=torch.float64)
    for row, (one, two) in enumerate(pairs):
        clean[row, : one.size], noisy[row, : two.size] = torch.from_numpy(one), torch.from_numpy(two)
    alone = [si_sdr(torch.from_numpy(two), torch.from_numpy(one)) for one, two in pairs]
    torch.testing.assert_close(si_sdr(noisy, clean), torch.stack(alone))


def test_pesq_of_a_perfect_estimate_is_the_top_of_the_wide_band_scale() -> None:
    top = 0.999 + 4.0 / (1.0 + np.exp(-1.3669 * 4.5 + 3.8224))  # ITU-T P.862.2; narrow-band would give 4.549
    clean = speech()
    assert plugins.get("metric", "pesq_wb")()(clean, clean, clean) == pytest.approx(top, abs=1e-4)


def test_pesq_follows_the_noise_and_not_the_level() -> None:
    metric = plugins.get("metric", "pesq_wb")()
    scores = []
    for snr in (0.0, 10.0, 20.0, 30.0):
        clean, noisy = noisy_speech(snr)
        scores.append(metric(noisy, clean, noisy))
        assert metric(0.3 * noisy, clean, noisy) == pytest.approx(scores[-1], abs=0.05)
    assert scores == sorted(scores) and scores[-1] > scores[0] + 0.3


def test_pesq_of_a_long_clip_is_scored_apart_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = plugins.get("metric", "pesq_wb")
    clean, noisy = noisy_speech(10.0)
    here = cls()(noisy, clean, noisy)
    monkeypatch.setattr(sys.modules[cls.__module__], "_SAFE_SECONDS", 1)
    assert cls()(noisy, clean, noisy) == pytest.approx(here, abs=1e-6)


def test_pesq_survives_more_pauses_than_the_itu_code_has_room_for() -> None:
    rng = np.random.default_rng(0)
    clean = rng.standard_normal(30 * RATE) * (np.arange(30 * RATE) % int(0.42 * RATE) < 0.21 * RATE)
    with pytest.raises(AvseError, match="cut the clip"):
        plugins.get("metric", "pesq_wb")()(clean + 0.1 * rng.standard_normal(clean.size), clean, clean)


@pytest.mark.parametrize("name", ["stoi", "estoi"])
@pytest.mark.parametrize("snr", [-5.0, 5.0])
def test_stoi_is_that_of_the_papers(name: str, snr: float) -> None:
    clean, noisy = noisy_speech(snr)
    expected = naive_stoi(clean, noisy, extended=name == "estoi")
    assert plugins.get("metric", name)()(noisy, clean, noisy) == pytest.approx(expected, abs=1e-6)


def naive_stoi(clean: np.ndarray, noisy: np.ndarray, extended: bool) -> float:
    """Taal et al. 2011 and Jensen and Taal 2016, written out; only the resampling is shared."""
    from pystoi.utils import resample_oct

    clean, noisy = (resample_oct(one, 10_000, RATE) for one in (clean, noisy))
    window = np.hanning(258)[1:-1]
    starts = range(0, clean.size - 256, 128)
    levels = np.array([20 * np.log10(np.linalg.norm(window * clean[i : i + 256]) + 1e-16) for i in starts])
    kept = [i for i, level in zip(starts, levels) if level > levels.max() - 40]
    spectra = []
    for sound in (clean, noisy):
        joined = np.zeros(128 * (len(kept) - 1) + 256)
        for place, i in enumerate(kept):
            joined[128 * place : 128 * place + 256] += window * sound[i : i + 256]
        steps = range(0, joined.size - 256, 128)
        spectra.append(np.array([np.abs(np.fft.rfft(window * joined[i : i + 256], 512)) ** 2 for i in steps]))
    frequencies = np.arange(257) * 10_000 / 512
    bands = []
    for band in range(15):
        centre = 150 * 2 ** (band / 3)
        low, high = (int(np.argmin((frequencies - centre * 2**edge) ** 2)) for edge in (-1 / 6, 1 / 6))
        bands.append([np.sqrt(spectrum[:, low:high].sum(axis=1)) for spectrum in spectra])
    x, y = np.array(bands).transpose(1, 0, 2)
    scores = []
    for end in range(30, x.shape[1] + 1):
        a, b = x[:, end - 30 : end], y[:, end - 30 : end]
        if extended:
            for axis in (1, 0):
                a, b = (part - part.mean(axis=axis, keepdims=True) for part in (a, b))
                a, b = (part / np.linalg.norm(part, axis=axis, keepdims=True) for part in (a, b))
            scores.append((a * b).sum() / 30)
            continue
        for one, two in zip(a, b):
            two = np.minimum(two * np.linalg.norm(one) / np.linalg.norm(two), one * (1 + 10 ** (15 / 20)))
            scores.append(np.corrcoef(one, two)[0, 1])
    return float(np.mean(scores))


def test_dnsmos_is_that_of_its_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code runs beside ours; its second network, which needs librosa, is given silence."""
    for name in ("librosa", "requests"):
        if name not in sys.modules:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["requests"], "session", None, raising=False)
    theirs = pytest.importorskip("speechmos.dnsmos")
    monkeypatch.setattr(theirs.DNSMOS, "audio_melspec", lambda self, audio: np.zeros((900, 120)))
    _, noisy = noisy_speech(5.0, 9.7)
    expected = theirs.run(noisy.astype(np.float32), RATE)
    for name, key in (("dnsmos", "ovrl_mos"), ("dnsmos_sig", "sig_mos"), ("dnsmos_bak", "bak_mos")):
        assert plugins.get("metric", name)()(noisy, noisy, noisy) == pytest.approx(expected[key], abs=1e-4)


def test_dnsmos_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = plugins.get("metric", "dnsmos")
    session = sys.modules[cls.__module__]._session
    session.cache_clear()
    monkeypatch.setitem(sys.modules, "speechmos", None)
    with pytest.raises(AvseError, match=r"not installed: pip install 'avse\[dnsmos\]'"):
        cls()
    session.cache_clear()


@pytest.mark.parametrize(
    ("name", "seconds", "reason"), [("pesq_wb", 0.2, "0.25 s"), ("stoi", 0.2, "0.4 s"), ("estoi", 0.41, "0.4 s")]
)
def test_too_short_is_said(name: str, seconds: float, reason: str) -> None:
    clean, noisy = noisy_speech(0.0, seconds)
    with pytest.raises(AvseError, match=reason):
        plugins.get("metric", name)()(noisy, clean, noisy)


def test_check_audio_names_the_culprit() -> None:
    fine = np.ones(10)
    for bad, reason in (
        (np.zeros(10), "estimate is silent"),
        (np.array([]), "estimate is empty"),
        (np.array([1.0, np.nan, np.inf]), "estimate holds 2 NaN or infinite samples of 3"),
        (np.ones((2, 5)), "shape"),
        (np.ones(9), "lengths differ: clean 10, estimate 9"),
    ):
        with pytest.raises(AvseError, match=reason):
            check_audio(clean=fine, estimate=bad)


def test_leakage_is_of_silent_speakers() -> None:
    noisy = np.random.default_rng(0).standard_normal(1600)
    silence, metric = np.zeros(1600), plugins.get("metric", "leakage")()
    assert metric(0.1 * noisy, silence, noisy) == pytest.approx(-20)
    assert metric(silence, silence, noisy) == -80
    assert metric.applies(silence, noisy) and not metric.applies(noisy, noisy) and not metric.applies(silence, silence)
    for name in ("si_sdr", "stoi"):
        assert not plugins.get("metric", name)().applies(silence, noisy)
    improvement = plugins.get("metric", "si_sdr_improvement")()
    assert improvement.applies(0.5 * noisy, noisy) and not improvement.applies(noisy, noisy)

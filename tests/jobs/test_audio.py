"""What `enhance` writes: rate, channels and band of the input, mixed back, at a loudness; and what it reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import avse
from avse.contracts.types import Batch, Clip, Estimate
from avse.errors import AvseError
from avse.jobs.enhance import Report, enhance_file
from avse.jobs.separate import at_own_rate, quantised
from avse.media import open_clip
from avse.model import Model
from avse.signal.loudness import Loudness

RATE = 48_000


class Halving(torch.nn.Module):
    """Takes away a share of audio below a peak of 0.5, and nothing of the rest."""

    def __init__(self, kept: float = 1.0) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, batch: Batch) -> Estimate:
        soft = batch.noisy.abs().amax(dim=1, keepdim=True) < 0.5
        speech = torch.where(soft, self.kept * batch.noisy, batch.noisy)
        return Estimate(speech, batch.noisy - speech, torch.zeros(batch.valid.shape), batch.lengths)


def model(kept: float = 1.0) -> Model:
    return Model(Halving(kept), "", "halving")


def noise(channels: int, seconds: float = 2.0, level: float = 0.05) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, (round(seconds * RATE), channels)).astype(np.float32)


def low_noise(channels: int) -> np.ndarray:
    """Nothing above 6 kHz, where the gain is squared."""
    spectrum = np.fft.rfft(noise(channels), axis=0)
    spectrum[6000 * 2 :] = 0
    return np.fft.irfft(spectrum, 2 * RATE, axis=0).astype(np.float32)


def enhanced(path: Path, samples: np.ndarray, kept: float = 1.0, **options: Any) -> tuple[np.ndarray, Report]:
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    report = enhance_file(model(kept), path, path.with_name("out.wav"), **options)
    result, rate = soundfile.read(report.output, dtype="float32", always_2d=True)
    assert rate == RATE and len(result) == len(samples)
    return result, report


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    scaled = np.sum(estimate * target) / np.sum(target**2) * target
    return float(10 * np.log10(np.sum(scaled**2) / np.sum((estimate - scaled) ** 2)))


@pytest.mark.parametrize(("channels", "seconds"), [(1, 0.7), (6, 0.7), (2, 21.5)])
def test_a_clean_clip_stays_as_it_was_at_full_band(channels: int, seconds: float, tmp_path: Path) -> None:
    """Also over several chunks: SI-SDR far above 30 dB in each channel."""
    given = noise(channels, seconds)
    result, report = enhanced(tmp_path / "in.wav", given)
    assert result.shape == given.shape and (report.channels, report.sample_rate) == (channels, RATE)
    assert min(si_sdr(one, other) for one, other in zip(result.T, given.T)) > 60
    assert report.before == report.after and report.warnings == []


def test_mono_and_the_narrow_band_are_there_for_who_asks(tmp_path: Path) -> None:
    given = noise(2)
    mono, _ = enhanced(tmp_path / "in.wav", given, mono=True)
    narrow, _ = enhanced(tmp_path / "in.wav", given, band="8k")
    both, _ = enhanced(tmp_path / "in.wav", given, mono=True, band="8k")
    assert (mono.shape[1], narrow.shape[1], both.shape[1]) == (1, 2, 1)

    def above(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples)))) ** 2
        return float(power[len(power) * 85 // 240 :].sum() / power.sum())

    assert above(mono) == pytest.approx(above(given), rel=0.1)
    assert max(above(narrow), above(both)) < 1e-4
    speech = avse.Model.enhance(model(), tmp_path / "in.wav").speech.numpy()
    import soxr

    assert both[100:-100, 0] == pytest.approx(soxr.resample(speech, 16_000, RATE)[100:-100], abs=1e-4)


@pytest.mark.parametrize("voice", [(1, -1), (1, 0), (0, 1), (1, 1)])
def test_a_voice_on_any_side_comes_out_at_its_level(voice: tuple[int, int], tmp_path: Path) -> None:
    given = noise(1) * np.array(voice, np.float32)
    assert enhanced(tmp_path / "in.wav", given)[0] == pytest.approx(given, abs=1e-4)
    mono = enhanced(tmp_path / "in.wav", given, mono=True)[0]
    assert mono.std() == pytest.approx(np.abs(given).max(axis=1).std() and noise(1).std(), rel=0.01)


def test_the_centre_of_a_film_keeps_its_level(tmp_path: Path) -> None:
    given = noise(1) * np.array([0, 0, 1, 0, 0, 0], np.float32)
    assert enhanced(tmp_path / "in.wav", given)[0] == pytest.approx(given, abs=1e-4)


def test_how_much_is_taken_away(tmp_path: Path) -> None:
    """Noise that the model removes but for 1 % stays at -12 dB, or at a fifth; the rest is what is missing."""
    given, rest = low_noise(2), tmp_path / "rest.wav"
    for options, share in (
        ({}, 0.01),
        ({"mix": 0.8}, 0.2 + 0.8 * 0.01),
        ({"max_attenuation": 12.0}, 10**-0.6 + (1 - 10**-0.6) * 0.01),
        ({"mix": 0.0}, 1.0),
        ({"max_attenuation": 0}, 1.0),
    ):
        result, report = enhanced(tmp_path / "in.wav", given, 0.01, rest=rest, **options)
        assert result.std() == pytest.approx(share * given.std(), rel=0.01)
        taken = soundfile.read(rest, dtype="float32")[0]
        assert result + taken == pytest.approx(given, abs=1e-6)
        assert report.rest == str(rest)
        after = avse.enhance(given[:, 0], model=model(0.01), sample_rate=RATE, **options)
        assert float(after.speech.std()) == pytest.approx(share * float((after.speech + after.noise).std()), rel=0.01)
    assert result == pytest.approx(given, abs=1e-6)


def test_loudness_is_kept_or_set(tmp_path: Path) -> None:
    given = noise(2)
    meter = Loudness(RATE, ["FL", "FR"])
    meter.add(given.T)
    for loudness, expected in (("keep", meter.integrated()), (-30, -30.0), ("-16", -16.0)):
        result, report = enhanced(tmp_path / "in.wav", given, 0.1, loudness=loudness)
        after = Loudness(RATE, ["FL", "FR"])
        after.add(result.T)
        assert after.integrated() == pytest.approx(expected, abs=0.05)
        assert report.after.loudness == pytest.approx(expected, abs=0.05)
        assert report.after.peak == pytest.approx(20 * np.log10(np.abs(result).max()), abs=0.05)
        assert report.before.loudness == pytest.approx(meter.integrated(), abs=0.01)


def test_loudness_never_clips_and_silence_has_none(tmp_path: Path) -> None:
    given = noise(1, level=1e-3)
    given[1000] = 0.4
    result, report = enhanced(tmp_path / "in.wav", given, loudness=-14)
    assert np.abs(result).max() == pytest.approx(1, abs=1e-3) and "stays" in report.warnings[0]
    result, report = enhanced(tmp_path / "in.wav", 0 * given, loudness=-14)
    assert not result.any() and report.after == report.before and report.after.loudness is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mix": 1.2}, "mix 1.2"),
        ({"mix": float("nan")}, "mix nan"),
        ({"max_attenuation": -3}, "max_attenuation -3"),
        ({"mix": 0.5, "max_attenuation": 6}, "one of them"),
        ({"loudness": "loud"}, "loudness 'loud'"),
        ({"loudness": 3}, "loudness 3"),
        ({"band": "4k"}, "band '4k'"),
        ({"track": "first"}, "track 'first'"),
        ({"track": 1}, "no audio track 1"),
        ({"chunk_seconds": 0}, "chunk_seconds"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(1), RATE)
    with pytest.raises(AvseError, match=words):
        enhance_file(model(), tmp_path / "in.wav", tmp_path / "out.wav", **options)
    assert [one.name for one in tmp_path.iterdir()] == ["in.wav"]


def test_samples_above_full_scale(tmp_path: Path) -> None:
    """Stored as they are where the format can; else clipped with a warning."""
    loud = 1e6 * noise(1)
    assert enhanced(tmp_path / "in.wav", loud)[0] == pytest.approx(loud, rel=1e-3, abs=10)
    report = enhance_file(model(), tmp_path / "in.wav", tmp_path / "out.flac")
    assert "above full scale were clipped in out.flac" in report.warnings[0]
    report = enhance_file(model(), tmp_path / "in.wav", tmp_path / "out.flac", loudness="keep")
    assert "stays" in report.warnings[0] and np.abs(soundfile.read(report.output)[0]).max() <= 1


def test_arrays_of_integers_have_the_full_scale_of_their_type() -> None:
    samples = noise(1)[:, 0]
    expected = model().enhance(samples).speech
    for kind, scale in ((np.int16, 2**15), (np.int32, 2**31)):
        speech = model().enhance((samples * scale).astype(kind)).speech
        assert speech.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_clip_that_is_not_finite_is_refused() -> None:
    with pytest.raises(AvseError, match="NaN"):
        model().enhance(Clip(np.array([0.0, np.nan], np.float32)))
    with pytest.raises(AvseError, match="chunk_seconds"):
        model().enhance(np.zeros(16_000), chunk_seconds=0)


@pytest.mark.parametrize("speech", [0, 1, 2])
def test_the_track_with_the_speech_is_enhanced(speech: int, tmp_path: Path, make_tracks: Callable) -> None:
    """The model takes loud audio for speech; of tracks that all hold speech, the first."""
    levels = [0.02, 0.02, 0.02]
    levels[speech] = 0.3
    film = make_tracks(tmp_path / "film.mkv", levels)
    report = enhance_file(model(0.01), film, tmp_path / "out.mkv", reader=open_clip(film))  # of track 0
    assert report.track == speech and len(report.tracks) == 3
    assert report.warnings == ([] if not speech else [report.warnings[0]])
    if speech:
        assert f"audio track {speech} of 3 holds the speech" in report.warnings[0]
    for number, level in enumerate(levels):
        assert avse.read_clip(tmp_path / "out.mkv", track=number).audio.std() == pytest.approx(level, rel=0.1)
    chosen = enhance_file(model(0.01), film, tmp_path / "out.mkv", track=(speech + 1) % 3)
    assert chosen.track == (speech + 1) % 3 and chosen.tracks == []
    assert float(model(0.01).enhance(film).speech.std()) == pytest.approx(0.3, rel=0.1)
    again = enhance_file(model(0.01), make_tracks(film, [0.3, 0.25, 0.3]), tmp_path / "out.mkv")
    assert again.track == 0 and again.warnings == []


@pytest.fixture
def make_tracks() -> Callable[[Path, list[float]], Path]:
    """Writes a film that has only audio tracks, of these levels."""

    def make(path: Path, levels: list[float]) -> Path:
        import av

        with av.open(str(path), "w") as container:
            streams = [container.add_stream("flac", rate=16_000, layout="mono") for _ in levels]
            for number, (stream, level) in enumerate(zip(streams, levels)):
                samples = np.random.default_rng(number).normal(0, level, (1, 16_000)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16_000, 0
                container.mux([*stream.encode(frame), *stream.encode(None)])
        return path

    return make


def test_speakers_of_a_stereo_file_add_up_to_it(tmp_path: Path) -> None:
    given = low_noise(2)
    soundfile.write(tmp_path / "in.wav", given, RATE)
    mixture = avse.read_clip(tmp_path / "in.wav").audio
    parts = torch.from_numpy(np.stack([0.25 * mixture, 0.5 * mixture]))
    estimate = Estimate(parts, torch.from_numpy(mixture) - parts.sum(dim=0), torch.zeros(2, 1))
    recording, speech, rate = at_own_rate(tmp_path / "in.wav", estimate, mixture)
    assert rate == RATE and speech.shape == (2, 2, len(given))
    inner = slice(1000, -1000)
    assert speech[..., inner] == pytest.approx(np.stack([0.25 * given.T, 0.5 * given.T])[..., inner], abs=1e-4)
    files = quantised(recording, speech).astype(int)
    assert (files.sum(axis=0) == np.rint(recording * 32_767)).all()


def test_the_report_says_what_was_done(talk: Path, tiny_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    report = tmp_path / "report.json"
    options = ["--json", report, "--model", tiny_model, "--rest", tmp_path / "rest.wav", "--max-attenuation", "12"]
    outcome = avse_command("enhance", talk, "-o", tmp_path / "out.mp4", *options, "--loudness", "keep")
    assert outcome.status == 0, outcome.err
    [told] = json.loads(report.read_text())
    assert told["after"]["loudness"] == pytest.approx(told["before"]["loudness"], abs=0.1)
    assert told["before"]["peak"] < 0 and told["track"] == 0 and told["tracks"] == []
    assert told["rest"] == str(tmp_path / "rest.wav") and soundfile.info(told["rest"]).frames > 16_000
    assert len(told["boxes"]) == len(told["reliability"])
    x, y, width, height = told["boxes"][5]
    assert 0 <= x < x + width <= 1 and 0 <= y < y + height <= 1 and width > 0.2
    assert asdict(enhance_file(model(), talk, tmp_path / "again.wav", use_video=False))["boxes"] == []

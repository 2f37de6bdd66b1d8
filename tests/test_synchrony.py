"""How late the audio is: estimated, applied, reported; and what is said where nothing can be known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import avse
from avse.contracts.types import Clip, shift_video
from avse.data.mixing import mix_at_snr
from avse.errors import AvseError
from avse.media import open_clip, read_clip
from avse.synchrony import CONFIDENT, LAGS, SyncEstimate, _curve, estimate_offset, pooled


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clip]:
    """A synthetic speaker, whose lips and speech are in sync: the audio of this file is 0.16 s late; and the clip."""
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    audio, frames, _ = synthesize_clip(seed=6, speaker=3, seconds=3.0)
    path = tmp_path_factory.mktemp("late") / "late.mp4"
    write_video(path, frames, np.roll(audio, 4 * 640))
    late = read_clip(path)
    return path, Clip(np.roll(late.audio, -4 * 640), late.mouth, late.valid)


@pytest.mark.parametrize("frames", [-7, 0, 5])
def test_a_known_offset_is_found_in_noise(person: tuple[Path, Clip], frames: int) -> None:
    _, clip = person
    audio = np.roll(clip.audio, frames * 640)
    noise = np.random.default_rng(0).standard_normal(len(audio)).astype(np.float32)
    for clean, heard in ((True, audio), (False, mix_at_snr(audio, noise, 0.0)[0])):
        estimate = estimate_offset(Clip(heard, clip.mouth, clip.valid), clean=clean)
        assert abs(estimate.offset_frames - frames) <= 1 and estimate.confidence >= CONFIDENT
        assert estimate.lip_score > 0.35
        assert LAGS[np.nanargmax(estimate.curve)] == estimate.offset_frames == round(25 * estimate.applied)


def test_lips_of_another_speech_give_no_confidence(person: tuple[Path, Clip]) -> None:
    _, clip = person
    estimate = estimate_offset(Clip(clip.audio[::-1], clip.mouth, clip.valid), clean=True)
    assert estimate.confidence < CONFIDENT and estimate.applied == 0.0 and estimate.lip_score < 0.35


@pytest.mark.parametrize(
    "clip",
    [
        Clip(np.zeros(32000)),
        Clip(np.zeros(32000), np.zeros((50, 88, 88), np.uint8)),
        Clip(np.zeros(32000), np.arange(50, dtype=np.uint8)[:, None, None] * np.eye(88, dtype=np.uint8)),
        Clip(np.ones(1), np.eye(88, dtype=np.uint8)[None]),
        Clip(np.ones(6400), np.eye(88, dtype=np.uint8)[None].repeat(10, axis=0)),
    ],
    ids=["no video", "black crops", "silence", "one sample", "still and constant"],
)
def test_nothing_to_compare(clip: Clip) -> None:
    estimate = estimate_offset(clip)
    assert (estimate.applied, estimate.confidence < CONFIDENT) == (0.0, True)
    assert np.isfinite([estimate.confidence, estimate.lip_score]).all()


def test_curve_is_the_mean_cosine_of_windows() -> None:
    rng = np.random.default_rng(0)
    video, audio = rng.standard_normal((60, 4)), rng.standard_normal((60, 4))
    valid, active = rng.random(60) < 0.9, rng.random(60) < 0.6
    naive = []
    v, a = video - video[valid].mean(axis=0), audio - audio.mean(axis=0)
    for lag in LAGS:
        cosines = []
        for start in range(max(0, -lag), min(60, 60 - lag) - 24):
            rows = np.arange(start, start + 25)
            if valid[rows].sum() >= 20 and active[rows + lag].sum() >= 12.5:
                x, y = v[rows].ravel(), a[rows + lag].ravel()
                cosines.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        naive.append(np.mean(cosines) if cosines else np.nan)
    np.testing.assert_allclose(_curve(video, audio, valid, active), naive, atol=1e-8)


def test_clips_of_a_recording_are_taken_together() -> None:
    rng = np.random.default_rng(0)
    weak = [SyncEstimate.of_curve(rng.normal(0.0, 0.2, 31) + 0.2 * (LAGS == 2), frames=25) for _ in range(40)]
    assert np.mean([abs(estimate.offset_frames - 2) <= 1 for estimate in weak]) < 0.7
    nothing = SyncEstimate.of_curve(np.full(31, np.nan), 0)
    together = pooled([nothing, *weak])
    assert (together.offset_frames, together.frames) == (2, 1000) and together.confidence > 0.8
    assert pooled([nothing]).confidence == 0.0


def test_a_reader_gives_its_head_again_and_moves_the_video(person: tuple[Path, Clip]) -> None:
    path, _ = person
    whole = read_clip(path)
    for offset in (0.0, 0.16, -0.2, 9.0):
        with open_clip(path) as reader:
            head = reader.head(1.0)
            reader.offset = offset
            chunks = list(reader.chunks(1.2, 0.4))
        assert np.array_equal(head.audio, whole.audio[:16000]) and np.array_equal(head.mouth, whole.mouth[:25])
        mouth, valid = shift_video(whole.mouth, whole.valid, offset)
        given = np.concatenate([chunk.clip.valid[chunk.overlap // 640 :] for chunk in chunks])
        crops = np.concatenate([chunk.clip.mouth[chunk.overlap // 640 :] for chunk in chunks])
        known = slice(None, len(valid) + min(0, round(offset * 25)))  # the video may be longer than the audio
        assert np.array_equal(given[known], valid[known]) and np.array_equal(crops[known][valid[known]], mouth[valid])
        audio = np.concatenate([chunk.clip.audio[chunk.overlap :] for chunk in chunks])
        np.testing.assert_array_equal(audio, whole.audio)


def test_enhance_finds_the_offset_and_reports_it(
    person: tuple[Path, Clip], tiny_model: Path, tmp_path: Path, avse_command: Callable
) -> None:
    source, report, speech = shutil.copy(person[0], tmp_path / "talk.mp4"), tmp_path / "r.json", {}
    for offset in ("auto", "0.16", "0"):
        out = tmp_path / f"{offset}.wav"
        outcome = avse_command(
            "enhance", source, "-o", out, "--model", tiny_model, "--offset", offset, "--json", report
        )
        [found] = json.loads(report.read_text())
        speech[offset] = out.read_bytes()
        assert outcome.status == 0 and found["offset"] == (0.0 if offset == "0" else 0.16), outcome.err
        assert (found["offset_confidence"] is None) == (offset != "auto")
        assert ("audio 0.16 s late" in outcome.out) == (offset != "0")
    assert speech["auto"] == speech["0.16"] != speech["0"]
    aligned = avse.enhance(source, model=tiny_model, offset="auto").speech
    assert aligned.equal(avse.enhance(source, model=tiny_model, offset=0.16).speech)
    assert aligned.equal(avse.enhance(read_clip(source), model=tiny_model, offset=0.16).speech)


def test_an_offset_that_is_not_sure_is_left_at_zero(
    talk: Path, tiny_model: Path, tmp_path: Path, avse_command: Callable
) -> None:
    import soundfile

    noise = tmp_path / "noise.wav"
    soundfile.write(noise, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    for more, why in ((("--video", talk), "less than 90%"), ((), "no mouth is seen")):
        outcome = avse_command(
            "enhance", noise, *more, "-o", tmp_path / "o.wav", "--model", tiny_model, "--offset", "auto"
        )
        assert outcome.status == 0 and "the offset was left at 0: " in outcome.err and why in outcome.err


@pytest.mark.parametrize("offset", ["late", "nan", "inf", "61", "--", ""])
def test_offsets_that_make_no_sense(talk: Path, tmp_path: Path, avse_command: Callable, offset: str) -> None:
    outcome = avse_command("enhance", talk, "-o", tmp_path / "o.wav", f"--offset={offset}")
    assert "must be auto, or seconds between -60 and 60" in outcome.message
    assert not list(tmp_path.iterdir())


def test_the_network_is_no_enhancer(talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    outcome = avse_command("enhance", talk, "-o", tmp_path / "o.wav", "--model", "lip-synchrony")
    assert "lip-synchrony" in avse_command("models").out
    assert "lip-synchrony is no enhancer. Lip synchrony: which stretch of audio belongs" in outcome.message
    with pytest.raises(AvseError, match="holds no network of the kind lip_synchrony"):
        from avse import model_folder

        model_folder.read_network(model_folder.find("avse-small"), "lip_synchrony")


@pytest.mark.slow
def test_real_speakers_in_noise(data_folder: Path) -> None:
    from avse.data.manifest import read_manifest

    rows = read_manifest(data_folder / "manifest.csv", splits=["dev"])
    noise = next(row for row in rows if row.kind == "noise" and (row.duration or 0) > 3.2)
    for row in [row for row in rows if row.speaker in ("grid_s2", "grid_s22")][:2]:
        clip = read_clip(row.clean, video=row.video)
        masker = read_clip(noise.noise, use_video=False).audio[: len(clip.audio)]
        noisy = mix_at_snr(np.roll(clip.audio, 5 * 640), np.resize(masker, len(clip.audio)), 0.0)[0]
        estimate = estimate_offset(Clip(noisy, clip.mouth, clip.valid))
        assert abs(estimate.offset_frames - 5) <= 1 and estimate.confidence > CONFIDENT

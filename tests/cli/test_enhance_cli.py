"""`avse enhance` from end to end: files in, files out, what it prints and reports."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import avse
from avse import plugins
from avse.media import read_clip


def _packets(path: Path, kind: str) -> list[bytes]:
    import av

    with av.open(str(path)) as container:
        [stream] = [one for one in container.streams if one.type == kind]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def test_film_beside_itself(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    """Without -o the film goes beside the input; its pictures are the same bytes, its sound is another."""
    source = Path(shutil.copy(talk, tmp_path / "talk.mp4"))
    outcome = avse_command("enhance", source, "--model", tiny_model)
    assert outcome.status == 0, outcome.err
    out = tmp_path / "talk.enhanced.mp4"
    assert str(out) in outcome.out and re.search(r"mouth seen in (9\d|100)%", outcome.out)
    assert _packets(out, "video") == _packets(source, "video")
    assert _packets(out, "audio") != _packets(source, "audio")
    assert len(read_clip(out, use_video=False).audio) == pytest.approx(
        len(read_clip(source, use_video=False).audio), abs=1100
    )


@pytest.mark.parametrize("wrong", [(), ("--model", "nowhere"), ("--face", "lips"), ("--track", "x")], ids=" ".join)
def test_a_film_is_opened_once_and_closed_whatever_happens(
    wrong: tuple[str, ...],
    tiny_model: Path,
    talk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    avse_command: Callable,
) -> None:
    """The reader that reads ahead while code is imported is the one that is enhanced."""
    opened, open_clip, threads = [], avse.media.open_clip, threading.active_count()
    monkeypatch.setattr(avse.media, "open_clip", lambda *a, **b: opened.append(open_clip(*a, **b)) or opened[-1])
    outcome = avse_command("enhance", talk, "-o", tmp_path / "out.mp4", "--model", tiny_model, *wrong)
    assert outcome.status == bool(wrong), outcome.err
    assert sum(reader.info.video_path is not None for reader in opened) == (not wrong or "--model" in wrong)
    assert threading.active_count() == threads


def test_file_equals_array(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    out = tmp_path / "voice.wav"
    assert avse_command("enhance", talk, "-o", out, "--model", tiny_model).status == 0
    written, rate = soundfile.read(out, dtype="float32")
    estimate = avse.load(tiny_model).enhance(read_clip(talk))
    assert rate == 16_000
    np.testing.assert_allclose(written, estimate.speech.numpy(), atol=2e-4)


def test_report_and_picture(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    files = {name: tmp_path / name for name in ("voice.wav", "report.json", "plot.png")}
    options = ["--json", files["report.json"], "--plot", files["plot.png"], "--model", tiny_model]
    assert avse_command("enhance", talk, "-o", files["voice.wav"], *options).status == 0
    [report] = json.loads(files["report.json"].read_text())
    assert report["input"] == str(talk) and report["output"] == str(files["voice.wav"])
    assert report["licence"] == "licence not stated" and report["frame_rate"] == 25
    assert 0.9 < report["valid_share"] <= 1.0  # coded sound may end a frame after the pictures
    assert len(report["reliability"]) == -(-round(report["seconds"] * 16_000) // 640)
    assert set(report["timings"]) == {"read", "enhance", "write"}
    assert files["plot.png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_sound_keeps_its_rate_length_and_channels(
    rate: int, tiny_model: Path, tmp_path: Path, avse_command: Callable
) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "in.wav", 0.1 * rng.standard_normal((rate, 2)), rate)
    assert avse_command("enhance", tmp_path / "in.wav", "-o", tmp_path / "out.flac", "--model", tiny_model).status == 0
    info = soundfile.info(tmp_path / "out.flac")
    assert (info.samplerate, info.frames, info.channels) == (rate, rate, 2)


def test_sound_paired_with_a_film(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    """A sound file and `--video` give what the film with that sound gives; `--no-video` gives something else."""
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, read_clip(talk, use_video=False).audio, 16_000, subtype="FLOAT")
    results = {}
    for name, source, options in (
        ("film", talk, []),
        ("pair", sound, ["--video", talk]),
        ("alone", sound, []),
        ("film without", talk, ["--no-video"]),
    ):
        out = tmp_path / f"{name}.wav"
        assert avse_command("enhance", source, "-o", out, "--model", tiny_model, *options).status == 0
        results[name] = soundfile.read(out)[0]
    np.testing.assert_allclose(results["pair"], results["film"], atol=2e-4)
    np.testing.assert_allclose(results["alone"], results["film without"], atol=2e-4)
    assert np.abs(results["film"] - results["alone"]).max() > 1e-3


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_folder(jobs: int, tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    for name in ("in/a.mp4", "in/deep/b.mp4", "in/a.enhanced.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(talk, tmp_path / name)
    out, report = tmp_path / "out", tmp_path / "report.json"
    options = ["--jobs", jobs, "--json", report, "--model", tiny_model]
    outcome = avse_command("enhance", tmp_path / "in", "-o", out, *options)
    assert outcome.status == 0, outcome.err
    assert sorted(one.name for one in out.glob("[!.]*")) == ["a.enhanced.mp4", "b.enhanced.mp4"]
    assert [Path(one["input"]).name for one in json.loads(report.read_text())] == ["a.mp4", "b.mp4"]
    assert _packets(out / "a.enhanced.mp4", "audio") == _packets(out / "b.enhanced.mp4", "audio")


def test_pattern_and_names_that_collide(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(talk, tmp_path / folder / "talk.mp4")
    message = avse_command(
        "enhance", tmp_path / "*" / "talk.mp4", "-o", tmp_path / "out", "--model", tiny_model
    ).message
    assert "same name" in message
    assert "no file matches" in avse_command("enhance", tmp_path / "*.avi", "--model", tiny_model).message
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_go_together(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    other = shutil.copy(talk, tmp_path / "other.mp4")
    assert "--video" in avse_command("enhance", talk, other, "--video", talk, "--model", tiny_model).message
    assert "roi" in avse_command("enhance", other, "--roi", "lips", "--model", tiny_model).message
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other.mp4"]


@pytest.fixture(scope="module")
def noisy_grid(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path, np.ndarray]]:
    """Sound file, film and clean sound of three test talkers, each in another test noise at -5 dB."""
    from avse.data.audio import read_audio, write_audio
    from avse.data.manifest import read_manifest
    from avse.data.mixing import mix_at_snr
    from avse.data.noises import cut_or_loop

    utterances = read_manifest(data_folder / "manifest.csv", splits=["test"])
    talkers = {one.speaker: one for one in utterances if one.video is not None and "grid" in str(one.video)}
    noises = {one.label: one for one in utterances if one.kind == "noise"}
    folder = tmp_path_factory.mktemp("grid")
    made = []
    for target, noise in list(zip(talkers.values(), noises.values()))[:3]:
        clean = read_audio(target.clean)
        noisy, _ = mix_at_snr(clean, cut_or_loop(read_audio(noise.noise), len(clean), 0), -5.0)
        scale = np.float32(0.9 / np.abs(noisy).max())
        path = folder / f"{target.speaker}.wav"
        write_audio(path, scale * noisy)
        made.append((path, target.video, scale * clean))
    return made


@pytest.mark.parametrize("with_video", [True, False])
def test_embedded_model_on_real_clips(
    with_video: bool, noisy_grid: list[tuple[Path, Path, np.ndarray]], tmp_path: Path, avse_command: Callable
) -> None:
    """SI-SDR rises in each clip, and by 8 dB in the mean, from file to file."""
    si_sdr = plugins.get("metric", "si_sdr")()
    gains = []
    for noisy, video, clean in noisy_grid:
        options = ["--video", video] if with_video else []
        outcome = avse_command("enhance", noisy, "-o", tmp_path / "voice.wav", *options)
        assert outcome.status == 0, outcome.err
        enhanced, given = (soundfile.read(path)[0] for path in (tmp_path / "voice.wav", noisy))
        gains.append(si_sdr(enhanced, clean, given) - si_sdr(given, clean, given))
    assert min(gains) > 3 and np.mean(gains) > 8, gains


def test_another_mouth_tracker(tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    """A plugin that sees no face anywhere leaves the sound alone; a slip is told with the names there are."""
    plugin = tmp_path / "blind.py"
    plugin.write_text(
        "from avse.contracts.mouth_tracker import MouthTracker\nfrom avse.plugins import register\n\n\n"
        '@register("mouth_tracker", "blind")\nclass Blind(MouthTracker):\n'
        '    """Sees nothing."""\n\n    def detect(self, frame, min_size=0.0):\n        return []\n'
    )
    try:
        options = ["-o", tmp_path / "voice.wav", "--model", tiny_model]
        outcome = avse_command("--plugins", plugin, "enhance", talk, *options, "--tracker", "blind")
        assert outcome.status == 0 and "mouth seen in 0%" in outcome.out, outcome.err
        assert "mtcnn" in avse_command("enhance", talk, *options, "--tracker", "mtcn").message
    finally:
        plugins.forget("mouth_tracker", "blind")

"""A training item and a mixture of a scene file are, for ever, the same functions of their seeds: sample for sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avse import plugins
from avse.data.audio import read_audio, write_audio
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, read_manifest, write_manifest
from avse.data.separation_set import SeparationSet
from avse.data.speech_set import SpeechSet
from avse.data.training_set import MixtureSet, VideoDegradation

EXPECTED = Path(__file__).with_name("items.json")  # written before the training sets and renderers were made one
SCENES = """\
# avse-scenes {"version": 1, "split": "test", "seed": 0, "sample_rate": 16000}
id,target,condition,snr,sources,seed,rt60,direct
recorded,a/0,recorded,-5,n0 @ 700,1,,
babble,a/1,babble,0,b/0 + b/1 @ 2000 | e/0 @ 10,2,,
pink,b/0,pink,5,,3,0.3,4
"""
SPEAKERS = """\
# avse-separation-scenes {"version": 1, "split": "test", "seed": 0, "sample_rate": 16000}
id,talkers,sexes,noise,snr
two,a/0 | b/1,same,,
three,a/1 | b/0 | c/0,,n1 @ 900,5
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClipCache]:
    """Four speakers with a video, two without, two clips each, and two noises."""
    folder = tmp_path_factory.mktemp("corpus")
    cache = ClipCache(folder / "cache")
    rng = np.random.default_rng(11)
    rows = []
    for number, speaker in enumerate("abcdef"):
        for clip in range(2):
            samples = int(rng.integers(6000, 26000))
            time = np.arange(samples) / 16000
            audio = sum(
                np.sin(2 * np.pi * harmonic * (90 + 17 * number) * time) / harmonic for harmonic in range(1, 30)
            )
            path, video = folder / f"{speaker}{clip}.wav", folder / f"{speaker}{clip}.mp4"
            write_audio(path, 0.05 * audio * (1 + np.sin(2 * np.pi * (3 + clip) * time)))
            if speaker < "e":
                video.write_text(video.name)
                target = cache._path(video, cache._crops)
                target.parent.mkdir(parents=True, exist_ok=True)
                frames = samples // 640 + 1
                mouth = (
                    np.arange(88) * (number + 1) + np.arange(88)[:, None] + 3 * np.arange(frames)[:, None, None]
                ) % 251
                np.savez(target, mouth=mouth.astype(np.uint8), valid=np.arange(frames) % 9 > 0)
            rows.append(
                Utterance(f"{speaker}/{clip}", clean=path, video=video if speaker < "e" else None, speaker=speaker,
                          dataset="toy", duration=samples / 16000, extra={"sex": "mf"[number % 2]})
            )  # fmt: skip
    for number in range(2):
        path = folder / f"n{number}.wav"
        write_audio(path, 0.1 * np.cumsum(rng.standard_normal(9000 + 20000 * number)) / 50)
        rows.append(Utterance(f"n{number}", noise=path, kind="noise", recording=f"r{number}"))
    write_manifest(rows, folder / "manifest.csv")
    return folder / "manifest.csv", cache


def _degradation() -> VideoDegradation:
    blur = plugins.get("corruption", "blur")(3)
    other = plugins.get("corruption", "wrong_speaker")(4)
    return VideoDegradation(0.1, 0.3, 0.3, 0.2, 0.5, corruptions=[blur, other], severities=(1, 4))


def _sets(corpus: tuple[Path, ClipCache]) -> dict[str, Any]:
    manifest, cache = corpus
    parts = (read_manifest(manifest), cache)
    return {
        "mixture": MixtureSet(*parts, size=8, seconds=0.8, seed=3),
        "mixture, options": MixtureSet(
            *parts, size=8, seconds=1.2, snr=(-3, 2), conditions={"babble": 0.7, "coloured": 0.3}, rival_share=0.7,
            babble_without_video=True, as_recorded=0.4, speed=(0.9, 1.2), video_share=0.6, degradation=_degradation(),
            seed=4, leave_out=5,
        ),
        "speech": SpeechSet(*parts, size=8, seconds=1.2, speed=(0.8, 1.1), degradation=_degradation(), seed=5),
        "speakers": SeparationSet(
            *parts, size=8, seconds=1.2, interfering_speakers=[0.5, 0.5], degradation=_degradation(), seed=6
        ),
        "speakers, no video": SeparationSet(
            *parts, size=8, seconds=0.8, level_difference=8.0, noise_share=1.0, conditions={"recorded": 1.0},
            speed=(0.9, 1.1), use_video=False, seed=7, leave_out=5,
        ),
    }  # fmt: skip


def _numbers(*arrays: Any) -> list[float]:
    """Ten samples of each array, and its mean power."""
    found = []
    for array in arrays:
        flat = np.asarray(array, dtype=np.float64).ravel()
        found += [*flat[np.linspace(0, len(flat) - 1, 10).astype(int)], np.mean(flat**2)]
    return [float(f"{value:.7g}") for value in found]


def items(corpus: tuple[Path, ClipCache]) -> dict[str, list[float]]:
    found = {}
    for name, one in _sets(corpus).items():
        one.set_epoch(2)
        for index in range(4):
            batch = one.collate([one[index], one[index + 4]])
            clean = (batch.video_is_clean,) if batch.video_is_clean is not None else ()
            parts = [batch.noisy, batch.clean, batch.mouth, batch.valid, *clean]
            found[f"{name} {index}"] = _numbers(*parts, *([] if batch.noise is None else [batch.noise]))
            found[f"{name} {index}"] += [] if batch.mixture is None else batch.mixture.tolist()
    return found


def mixtures(corpus: tuple[Path, ClipCache], folder: Path) -> dict[str, list[float]]:
    from avse.data.rendering import render_scenes

    found = {}
    for name, text in (("scenes", SCENES), ("speakers", SPEAKERS)):
        (folder / f"{name}.csv").write_text(text)
        render_scenes(folder / f"{name}.csv", corpus[0], folder / name)
        for path in sorted([*(folder / name).rglob("*.wav"), *(folder / name).rglob("*.flac")]):
            found[path.relative_to(folder).as_posix()] = _numbers(read_audio(path))
    return found


def test_training_items_are_what_they_were(corpus: tuple[Path, ClipCache], tmp_path: Path) -> None:
    expected = json.loads(EXPECTED.read_text())
    assert items(corpus).keys() <= expected.keys()
    for name, values in items(corpus).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_mixtures_of_scene_files_are_what_they_were(corpus: tuple[Path, ClipCache], tmp_path: Path) -> None:
    expected = json.loads(EXPECTED.read_text())
    found = mixtures(corpus, tmp_path)
    assert found.keys() == {name for name in expected if "/" in name}
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)

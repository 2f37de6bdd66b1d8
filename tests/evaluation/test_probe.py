"""The linear probe of words: against leaving out clips one by one, and from features that tell or do not tell."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from avse import plugins
from avse.errors import AvseError
from avse.evaluation.studies import probe
from avse.evaluation.studies.probe import RidgeProbe, measure_probe, pool


def test_the_weight_decay_is_that_of_clips_left_out_one_by_one() -> None:
    rng = np.random.default_rng(1)
    labels = [str(one) for one in rng.integers(0, 3, 24)]
    features = rng.normal(size=(24, 10)) + np.array([float(one) for one in labels])[:, None]
    targets = np.array([[label == one for one in "012"] for label in labels], float)
    centred, aims = features - features.mean(axis=0), targets - targets.mean(axis=0)
    scale = (centred**2).sum() / 24
    errors, solutions = [], []
    for ridge in probe._RIDGES * scale:

        def solve(rows, ridge=ridge):
            inner = centred[rows].T @ centred[rows] + ridge * np.eye(10)
            return np.linalg.solve(inner, centred[rows].T @ aims[rows])

        left_out = [np.arange(24) != one for one in range(24)]
        errors.append(sum(np.square(aims[one] - centred[one] @ solve(rows)).sum() for one, rows in enumerate(left_out)))
        solutions.append(solve(np.ones(24, bool)))
    assert np.allclose(RidgeProbe(features, labels).weights, solutions[int(np.argmin(errors))], atol=1e-8)
    assert 0 < np.argmin(errors) < len(errors) - 1


def test_parts_of_short_clips_repeat_frames() -> None:
    assert pool(np.array([[1.0], [3.0]]), 4).tolist() == [1.0, 1.0, 3.0, 3.0]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = plugins.get("dataset", "synthetic")(clips=20, speakers=10, noises=3, seconds=(0.5, 0.6), noise_seconds=0.5)
    return made.prepare(tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
def test_words_are_told_from_features_that_hold_them(manifest: Path, tmp_path: Path, monkeypatch) -> None:
    """The sound tells the word, the mouth nothing."""
    from avse.data.manifest import read_manifest

    words = {one.id: one.text for one in read_manifest(manifest) if one.video is not None}
    kinds = sorted(set(words.values()))
    rng = np.random.default_rng(0)

    def mutants(model, clip):
        told = np.eye(len(kinds))[[kinds.index(words[clip.clip_id])] * 5]
        for kind in probe.FEATURES:
            yield kind, told if kind in ("both", "sound") else rng.normal(size=told.shape)

    monkeypatch.setattr(probe, "_features", mutants)
    monkeypatch.setattr(probe, "load", lambda model, device: type("Model", (), {"name": "x", "system": None}))
    monkeypatch.setattr(probe, "diffusion_prior", lambda system, name, sees: None)
    every = ["train", "dev", "test"]
    found = measure_probe("x", manifest, tmp_path, train=every, test=every, words=1, segments=2)
    means = {kind: score["mean"] for kind, score in found["scores"].items()}
    assert means["both"] == means["sound"] == 1.0 and found["clips"]["train"] > 5
    counts = [list(words.values()).count(kind) for kind in kinds]
    assert means["chance"] == max(counts) / sum(counts)
    with open(tmp_path / "probe.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["word"] for row in rows} == set(kinds) and all(row["sound"] == "1" for row in rows)
    assert json.loads((tmp_path / "probe.json").read_text())["scores"] == found["scores"]
    with pytest.raises(AvseError, match="fewer than two clips of 6 words"):
        measure_probe("x", manifest, tmp_path / "no")

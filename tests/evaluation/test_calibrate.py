"""Calibration of a reliability: the fit, and a model that is calibrated by a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import avse
from avse.contracts.types import Batch, Clip
from avse.enhancers.tf_masker import TFMasker
from avse.errors import AvseError
from avse.evaluation import calibrate
from avse.evaluation.rows import write_rows
from avse.evaluation.runner import model_hash
from avse.evaluation.studies.calibration import fit_log_odds
from avse.model import Model

RECIPE = """\
model: !new:avse.plugins.enhancer.tf_masker
    visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp {output_dim: 8, hidden_dim: 8, size: 11}
    fusion: !new:avse.plugins.fusion.FUSION {audio_dim: 16, video_dim: 8}
    channels: 16
    blocks: 2
    fusion_block: 1
    heads: 2
"""


def _clip() -> Clip:
    rng = np.random.default_rng(0)
    return Clip(0.1 * rng.standard_normal(12800), rng.integers(0, 255, (20, 88, 88), dtype=np.uint8))


def _model(folder: Path, fusion: str = "reliability_attention") -> Path:
    from avse import plugins

    torch.manual_seed(0)
    frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=8, hidden_dim=8, size=11)
    system = TFMasker(frontend, plugins.get("fusion", fusion)(16, 8), 16, 2, 1, 2)
    return Model(system, RECIPE.replace("FUSION", fusion), "small").save(folder, description={"seed": 7})


def _sweep(folder: Path, model: Path, clean: np.ndarray, corrupted: np.ndarray) -> Path:
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({"model_sha256": model_hash(model)}))
    rows = [
        {"id": "a", "video": "clean", "severity": None, "clean_frames": clean, "corrupted_frames": np.zeros(0)},
        {"id": "a", "video": "blur", "severity": 3.0, "clean_frames": np.zeros(0), "corrupted_frames": corrupted},
    ]
    write_rows(folder / "corrupted.csv", rows, list(rows[0]))
    return folder


def test_the_fit_finds_the_log_odds_that_truth_was_drawn_with() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0.02, 0.98, 200_000)
    odds = np.log(said / (1 - said))
    truth = rng.random(len(said)) < 1 / (1 + np.exp(-(0.6 * odds - 1.2)))
    assert fit_log_odds(said, truth) == pytest.approx((0.6, -1.2), abs=0.03)


def test_a_calibrated_model_says_what_the_fit_says_and_is_the_same_without_video(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    folder = _model(tmp_path / "model")
    sweep = _sweep(tmp_path / "sweep", folder, rng.uniform(0.5, 1.0, 300), rng.uniform(0.3, 0.9, 600))
    found = calibrate(folder, sweep, tmp_path / "new")
    assert found["after"] < found["before"] and found["shift"] < 0
    before, after, batch = avse.load(folder), avse.load(tmp_path / "new"), Batch.from_clips([_clip()])
    assert after.description["seed"] == 7 and after.description["reliability"] == found
    with torch.inference_mode():
        steps = []  # the reliability of each step, before it is averaged over those of a frame
        for model in (before, after):
            handle = model.system.video_input.fusions["main"].register_forward_hook(
                lambda _, __, result: steps.append(result[1])
            )
            model.system(batch)
            handle.remove()
        mask = steps[0] > 0
        expected = torch.sigmoid(found["scale"] * torch.logit(steps[0][mask].double()) + found["shift"])
        torch.testing.assert_close(steps[1][mask].double(), expected, rtol=1e-4, atol=1e-5)
        blind = batch.without_video()
        assert torch.equal(before.system(blind).speech, after.system(blind).speech)


def test_what_cannot_be_calibrated_is_said(tmp_path: Path) -> None:
    folder, rng = _model(tmp_path / "model"), np.random.default_rng(1)
    with pytest.raises(AvseError, match="holds no corrupted.csv"):
        calibrate(folder, tmp_path, tmp_path / "new")
    few = _sweep(tmp_path / "few", folder, rng.random(300), rng.random(20))
    with pytest.raises(AvseError, match="300 clean and 20 corrupted"):
        calibrate(folder, few, tmp_path / "new")
    other = _model(tmp_path / "other", "concat")
    with pytest.raises(AvseError, match="sweep of another model"):
        calibrate(other, few, tmp_path / "new")
    enough = _sweep(tmp_path / "enough", other, rng.random(300), rng.random(200))
    with pytest.raises(AvseError, match="Concat does not estimate"):
        calibrate(other, enough, tmp_path / "new")
    assert not (tmp_path / "new").exists()

"""Every recipe: trained small on the synthetic corpus, resumed, and its model used. `recipes.csv` has a row for each.

Columns: the recipe; flags that make it small; files that a run must leave, beside those that every run leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from avse.data.manifest import read_manifest

from .conftest import ROOT, ROWS

pytestmark = pytest.mark.slow

ALWAYS = ("recipe.yaml", "environment.json", "train_log.txt", "scores.json")


def test_every_recipe_has_a_row() -> None:
    there = {str(path.relative_to(ROOT)) for path in ROOT.glob("recipes/**/hparams/**/*.yaml")}
    assert there == set(ROWS)


@pytest.mark.parametrize("recipe", ROWS)
def test_trains_resumes_and_enhances(
    recipe: str, corpus: Path, tmp_path: Path, train_small: Callable, avse_command: Callable
) -> None:
    run = tmp_path / "run"
    for epochs in (1, 2):
        outcome = train_small(recipe, run, epochs=epochs)
        assert outcome.status == 0, outcome.err
    lines = (run / "train_log.txt").read_text().splitlines()
    assert [line.split(",")[0].split("-")[0].strip() for line in lines] == ["epoch: 1", "epoch: 2"]
    files = [*ALWAYS, *ROWS[recipe]["files"].split()]
    assert not [name for name in files if not (run / name).is_file()]
    assert json.loads((run / "scores.json").read_text())["epoch"] in (1, 2)
    if "model/recipe.yaml" not in files:
        return  # a network that is part of another recipe
    film = next(one.video for one in read_manifest(corpus, splits=["test"]) if one.video is not None)
    voice = tmp_path / "voice.wav"
    outcome = avse_command("enhance", film, "-o", voice, "--model", run)
    assert outcome.status == 0, outcome.err
    assert soundfile.info(voice).duration > 0.6


def test_stages_of_the_embedded_model_fit_together(tmp_path: Path, train_small: Callable) -> None:
    """The last stage starts from what the first leaves."""
    recipes = [f"recipes/Manifest/hparams/{name}.yaml" for name in ("lip_synchrony", "avse_small")]
    assert train_small(recipes[0], tmp_path / "first").status == 0
    outcome = train_small(recipes[1], tmp_path / "last", initial_weights=tmp_path / "first")
    assert outcome.status == 0, outcome.err

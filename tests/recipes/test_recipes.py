"""Every recipe: trained small on the synthetic corpus, resumed, and its model used. `recipes.csv` has a row for each.

Columns: the recipe; flags that make it small; files that a run must leave, beside those that every run leaves; and
figures that the README beside the recipe publishes, as they are written there, separated by `;`.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from avse.data.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--batch_size 2 --steps_per_epoch 2 --valid_size 2 --warmup_steps 1 --no-progress --device cpu"
ALWAYS = ("recipe.yaml", "environment.json", "train_log.txt", "scores.json")

with open(ROOT / "tests" / "recipes.csv", newline="", encoding="utf-8") as _file:
    ROWS = {row["recipe"]: row for row in csv.DictReader(_file)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of a small synthetic corpus, two speakers in a split."""
    from avse import plugins

    synthetic = plugins.get("dataset", "synthetic")
    made = synthetic(clips=10, speakers=10, noises=5, seconds=(0.7, 0.8), noise_seconds=1.0)
    return made.prepare(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _train(avse_command: Callable, recipe: str, folder: Path, corpus: Path, cache: Path, *more: object) -> None:
    flags = shlex.split(f"{ROWS[recipe]['flags']} {SMALL}")
    places = ["--manifest", corpus, "--cache_folder", cache, "--output_folder", folder]
    outcome = avse_command("train", ROOT / recipe, *flags, *places, *more)
    assert outcome.status == 0, outcome.err


def test_every_recipe_has_a_row() -> None:
    there = {str(path.relative_to(ROOT)) for path in ROOT.glob("recipes/*/hparams/**/*.yaml")}
    assert there == set(ROWS)


@pytest.mark.parametrize("recipe", ROWS)
def test_trains_resumes_and_enhances(
    recipe: str, corpus: Path, cache: Path, tmp_path: Path, avse_command: Callable
) -> None:
    run = tmp_path / "run"
    _train(avse_command, recipe, run, corpus, cache, "--epochs", 1)
    _train(avse_command, recipe, run, corpus, cache, "--epochs", 2)
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


def test_stages_of_the_embedded_model_fit_together(
    corpus: Path, cache: Path, tmp_path: Path, avse_command: Callable
) -> None:
    """The last stage starts from what the first two leave."""
    stages = [f"recipes/Manifest/hparams/{name}.yaml" for name in ("tf_masker_audio", "lip_to_spectrum")]
    for number, recipe in enumerate(stages):
        _train(avse_command, recipe, tmp_path / str(number), corpus, cache, "--epochs", 1)
    start = f"[{tmp_path / '0'}, {tmp_path / '1'}]"
    last = "recipes/Manifest/hparams/avse_small.yaml"
    _train(avse_command, last, tmp_path / "2", corpus, cache, "--epochs", 1, "--initial_weights", start)


def test_published_figures_stand_in_the_readme() -> None:
    for recipe, row in ROWS.items():
        readme = (ROOT / recipe).parents[1] / "README.md"
        text = readme.read_text(encoding="utf-8")
        lost = [figure for figure in row["figures"].split(";") if figure and figure.strip() not in text]
        assert not lost, f"{readme}: {lost}"

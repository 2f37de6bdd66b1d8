"""What the tests of recipes share: the rows of `recipes.csv`, a small corpus, and a way to train small."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"batch_size": 2, "steps_per_epoch": 2, "valid_size": 2, "warmup_steps": 1, "epochs": 1}

with open(ROOT / "tests" / "recipes.csv", newline="", encoding="utf-8") as _file:
    ROWS = {row["recipe"]: row for row in csv.DictReader(_file)}


@pytest.fixture(scope="package")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of a small synthetic corpus, two speakers in a split."""
    from avse import plugins

    synthetic = plugins.get("dataset", "synthetic")
    made = synthetic(clips=10, speakers=10, noises=5, seconds=(0.7, 0.8), noise_seconds=1.0)
    return made.prepare(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="package")
def train_small(avse_command: Callable, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Runs `avse train` on a recipe with the flags of its row and settings by key.

    Flags of the row that set arguments of a component are left out where a setting replaces that component.
    """
    cache = tmp_path_factory.mktemp("cache")

    def run(recipe: str, folder: Path, **settings: object) -> object:
        words = shlex.split(ROWS[recipe]["flags"])
        flags = {flag.removeprefix("--"): value for flag, value in zip(words[::2], words[1::2])}
        kept = {key: value for key, value in flags.items() if key.rpartition(".")[0] not in settings}
        places = {"manifest": corpus, "cache_folder": cache, "output_folder": folder}
        given = {**kept, **SMALL, **places, **settings}
        options = [word for key, value in given.items() for word in (f"--{key}", value)]
        return avse_command("train", ROOT / recipe, *options, "--no-progress", "--device", "cpu")

    return run

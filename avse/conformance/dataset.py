"""Checks of the kind `dataset`."""

from __future__ import annotations

import csv
import inspect
import tempfile
from pathlib import Path
from typing import Any

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.core import Checks, NotApplicable, build, expect
from avse.contracts.dataset import Dataset
from avse.errors import AvseError

CHECKS = Checks([DOCUMENTED])

_FILE_COLUMNS = ("clean", "noisy", "noise", "video")


def _rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _prepared(cls: type[Any], folder: Path) -> Path:
    cls.write_example(folder)
    return Path(build(cls).prepare(folder))


@CHECKS.add(
    "writes_manifest",
    hint="write paths relative to the manifest's folder; override write_example to make a tiny corpus",
)
def _writes_manifest(cls: type[Any]) -> None:
    """Prepare writes a manifest with unique ids and existing files, relative to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = _prepared(cls, folder)
        expect(path.is_file() and path.parent == folder, f"prepare returned {path.name} outside the folder")
        rows = _rows(path)
        expect(rows, "the manifest has no rows")
        expect("id" in rows[0], f"the manifest has the columns {', '.join(rows[0])}, but no id")
        expect(len({row["id"] for row in rows}) == len(rows), "two rows have one id")
        for row in rows:
            files = {column: row[column] for column in _FILE_COLUMNS if row.get(column)}
            expect(files, f"row {row['id']} names no file")
            for column, cell in files.items():
                expect(not Path(cell).is_absolute(), f"row {row['id']}: {column} is an absolute path")
                expect((folder / cell).is_file(), f"row {row['id']}: {column} {cell} does not exist")


@CHECKS.add("repeatable", hint="sort what is listed; seed what is drawn")
def _repeats(cls: type[Any]) -> None:
    """The same corpus gives the same manifest."""
    manifests = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            manifests.append(_prepared(cls, Path(name)).read_bytes())
    expect(manifests[0] == manifests[1], "the same corpus gave two different manifests")


@CHECKS.add("chosen_manifest", hint="make paths relative to manifest.parent with os.path.relpath")
def _chosen_manifest(cls: type[Any]) -> None:
    """Prepare(folder, manifest=FILE) writes FILE, with paths relative to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "corpus"
        folder.mkdir()
        cls.write_example(folder)
        target = Path(name) / "lists" / "all.csv"
        path = Path(build(cls).prepare(folder, manifest=target))
        expect(path == target and target.is_file(), f"manifest={target.name} was asked for, {path.name} written")
        for row in _rows(target):
            for column in _FILE_COLUMNS:
                if row.get(column):
                    expect((target.parent / row[column]).is_file(), f"{column} {row[column]} is not beside it")


@CHECKS.add("refuses_empty_folder", hint="raise AvseError that says which files were looked for")
def _refuses_empty_folder(cls: type[Any]) -> None:
    """A folder without the corpus raises AvseError and stays empty."""
    if inspect.getattr_static(cls, "write_example") is vars(Dataset)["write_example"]:
        raise NotApplicable("made by code")
    with tempfile.TemporaryDirectory() as name:
        try:
            build(cls).prepare(Path(name))
        except AvseError:
            expect(not list(Path(name).iterdir()), "a file was left in the empty folder")
            return
    expect(False, "an empty folder was accepted")


CHECKS.append(RECIPE_ROUND_TRIP)
_OF_TENSORS = ("padding", "batch_equals_singles", "no_video_is_audio_only", "invalid_frames_ignored", "precision")
DOES_NOT_APPLY = {
    "shapes": "writes a table: see writes_manifest",
    **dict.fromkeys((*_OF_TENSORS, "causal", "devices"), "reads and writes files"),
    **dict.fromkeys(("gradients", "weights_round_trip"), "nothing to learn"),
    "hostile_input": "see refuses_empty_folder",
    "complexity": "prepared once, file by file",
}

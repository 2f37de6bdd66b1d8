"""Datasets with one fault each."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from avse.contracts.dataset import Dataset
from avse.errors import AvseError
from mutants import Mutant, any_number


class Corpus(Dataset):
    """One sound for each file of a folder."""

    @classmethod
    def write_example(cls, folder: Path) -> None:
        for name in "ab":
            (folder / f"{name}.wav").write_bytes(b"")

    def files(self, folder: Path, manifest: Path) -> list[str]:
        return [os.path.relpath(path, manifest.parent) for path in sorted(folder.glob("*.wav"))]

    def row(self, number: int, file: str) -> list[str]:
        return [str(number), file]

    def prepare(self, folder, manifest=None):
        """See `Dataset.prepare`."""
        folder = Path(folder)
        manifest = Path(manifest or folder / "manifest.csv")
        files = self.files(folder, manifest)
        if not files:
            raise AvseError(f"{folder}: no .wav files")
        manifest.parent.mkdir(exist_ok=True)
        with manifest.open("w", newline="") as stream:
            rows = [self.row(number, file) for number, file in enumerate(files)]
            csv.writer(stream).writerows([("id", "clean", "gain"), *rows])
        return manifest


mutants = Mutant("dataset", Corpus)


@mutants("documented")
class Undocumented(Corpus):
    pass


@mutants("writes_manifest")
class OneId(Corpus):
    def row(self, number, file):
        return ["clip", file]


@mutants("repeatable")
class DrawsGains(Corpus):
    def row(self, number, file):
        return [str(number), file, str(any_number())]


@mutants("chosen_manifest")
class OldPaths(Corpus):
    def files(self, folder, manifest):
        return [path.name for path in sorted(folder.glob("*.wav"))]


@mutants("refuses_empty_folder")
class EmptyIsFine(Corpus):
    def files(self, folder, manifest):
        return super().files(folder, manifest) or ["nothing.wav"]


@mutants("recipe_round_trip")
class TakesAFunction(Corpus):
    """One sound for each file of a folder.

    Arguments
    ---------
    how : callable
    """

    def __init__(self, how) -> None:
        self.how = how

    @classmethod
    def example_arguments(cls):
        return {"how": abs}

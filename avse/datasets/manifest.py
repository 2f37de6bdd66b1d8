"""Dataset `manifest`: any corpus with a manifest, without code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avse.contracts.dataset import Dataset
from avse.data.audio import write_audio
from avse.data.manifest import SPLITS, Utterance, check_splits, read_manifest, write_manifest
from avse.errors import AvseError
from avse.plugins import register


@register("dataset", "manifest")
class Manifest(Dataset):
    """A corpus with a manifest, a CSV file with the columns of `avse.data.manifest`.

    `prepare` checks `folder/<file>` (or `folder` itself, if it is a CSV file) and returns it, or writes it to another
    file with paths relative to that one.

    Arguments
    ---------
    file : str
        Name of the manifest in the folder.
    allow_speakers : sequence of str
        Speakers that may be in more than one split, for speaker-dependent work.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Manifest.write_example(folder)
    >>> Manifest().prepare(folder).name
    'manifest.csv'
    """

    licence = "that of the corpus"

    def __init__(self, file: str = "manifest.csv", allow_speakers: Sequence[str] = ()) -> None:
        self.file, self.allow_speakers = file, allow_speakers

    @classmethod
    def write_example(cls, folder: Path) -> None:
        rng = np.random.default_rng(0)
        rows = []
        for split in SPLITS:
            for kind in ("speech", "noise"):
                path = folder / f"{kind}_{split}.wav"
                write_audio(path, 0.1 * rng.standard_normal(1600))
                if kind == "noise":
                    rows.append(Utterance(path.stem, noise=path, recording=split, kind=kind, split=split))
                else:
                    rows.append(Utterance(path.stem, clean=path, speaker=split, split=split))
        write_manifest(rows, folder / "manifest.csv")

    def prepare(self, folder: str | Path, manifest: str | Path | None = None) -> Path:
        """Check the manifest, and write it to `manifest` if that is another file.

        See `avse.contracts.dataset.Dataset.prepare`.
        """
        folder = Path(folder)
        source = folder if folder.is_file() else folder / self.file
        utterances = read_manifest(source)
        check_splits(utterances, self.allow_speakers)
        if manifest is None or os.path.realpath(manifest) == os.path.realpath(source):
            return source
        write_manifest(utterances, manifest)
        return Path(manifest)

    def report(self, folder: str | Path) -> str:
        """A table of hours, speakers and noise classes by split, as text."""
        utterances = read_manifest(self.prepare(folder))
        head = ("split", "speech", "with face", "hours", "speakers", "noises", "hours", "classes", "recordings")
        table = [head]
        for split in SPLITS:
            rows = [row for row in utterances if row.split == split]
            speech, noises = ([row for row in rows if row.kind == kind] for kind in ("speech", "noise"))
            faces = sum(row.video is not None for row in speech)
            of_speech = (f"{len(speech)}", f"{faces}", _hours(speech), _distinct(speech, "speaker"))
            of_noise = (f"{len(noises)}", _hours(noises), _distinct(noises, "label"), _distinct(noises, "recording"))
            if rows:
                table.append((split, *of_speech, *of_noise))
        widths = [max(map(len, column)) for column in zip(*table)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in table)


def _distinct(rows: Sequence[Utterance], column: str) -> str:
    return str(len({getattr(row, column) for row in rows} - {"", None}))


def _hours(rows: Sequence[Utterance]) -> str:
    return f"{sum(map(_seconds, rows)) / 3600:.2f}"


def _seconds(utterance: Utterance) -> float:
    if utterance.duration is not None:
        return utterance.duration
    import soundfile

    path = utterance.clean or utterance.noise or utterance.noisy
    try:
        return soundfile.info(str(path)).duration
    except (soundfile.SoundFileError, OSError) as error:
        raise AvseError(f"{utterance.place or utterance.id}: {path} cannot be read as audio ({error}).") from error

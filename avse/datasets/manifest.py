"""Dataset `manifest`: any corpus with a manifest, without code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avse.contracts.dataset import Dataset
from avse.data.audio import write_audio
from avse.data.manifest import SPLITS, Utterance, check_splits, read_manifest, write_manifest
from avse.errors import AvseError
from avse.plugins import register


@dataclass(frozen=True)
class SplitSummary:
    """Contents of one split.

    Arguments
    ---------
    split : str
    speech, talking_faces, noises : int
        Utterances in all, those of them with a video, and noise files.
    speech_hours, noise_hours : float
    speakers, classes, recordings : int
        Distinct speakers, noise classes and noise recordings.
    """

    split: str
    speech: int
    talking_faces: int
    noises: int
    speech_hours: float
    noise_hours: float
    speakers: int
    classes: int
    recordings: int


def summarize(utterances: Sequence[Utterance]) -> list[SplitSummary]:
    """Hours, speakers and noise classes of each split of the utterances.

    Example
    -------
    >>> summarize([Utterance("a", speaker="bob", split="train", duration=1800.0)])[0].speech_hours
    0.5
    """
    summaries = []
    for split in SPLITS:
        rows = [row for row in utterances if row.split == split]
        noises = [row for row in rows if row.kind == "noise"]
        speech = [row for row in rows if row.kind == "speech"]
        if rows:
            summaries.append(
                SplitSummary(
                    split=split,
                    speech=len(speech),
                    talking_faces=sum(row.video is not None for row in speech),
                    noises=len(noises),
                    speech_hours=sum(map(_seconds, speech)) / 3600,
                    noise_hours=sum(map(_seconds, noises)) / 3600,
                    speakers=len({row.speaker for row in speech} - {"", None}),
                    classes=len({row.label for row in noises} - {"", None}),
                    recordings=len({row.recording for row in noises} - {"", None}),
                )
            )
    return summaries


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
        rows = summarize(read_manifest(self.prepare(folder)))
        head = ("split", "speech", "with face", "hours", "speakers", "noises", "hours", "classes", "recordings")
        table = [head] + [
            (row.split, f"{row.speech}", f"{row.talking_faces}", f"{row.speech_hours:.2f}", f"{row.speakers}")
            + (f"{row.noises}", f"{row.noise_hours:.2f}", f"{row.classes}", f"{row.recordings}")
            for row in rows
        ]
        widths = [max(map(len, column)) for column in zip(*table)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in table)


def _seconds(utterance: Utterance) -> float:
    if utterance.duration is not None:
        return utterance.duration
    import soundfile

    path = utterance.clean or utterance.noise or utterance.noisy
    try:
        return soundfile.info(str(path)).duration
    except (soundfile.SoundFileError, OSError) as error:
        raise AvseError(f"{utterance.place or utterance.id}: {path} cannot be read as audio ({error}).") from error

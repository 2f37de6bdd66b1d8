"""What datasets share that read a corpus from its own layout: its files, their names, and what is told of them."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from avse.contracts.dataset import Dataset
from avse.data.audio import write_audio
from avse.data.manifest import Utterance, write_manifest
from avse.data.preparing import each
from avse.errors import AvseError

WRITTEN = ("audio_16k", "mouth_88", "noise_16k")  # folders that `prepare` of some corpus writes
_VIDEOS = (".mp4", ".mpg", ".mov")
_SHOWN = 3
_GRAMMAR = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


class Files:
    """The files of a corpus by their path below its folder, with slashes, sorted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths = folder, dict[str, Path]()
        for parent, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(name for name in folders if name not in WRITTEN and not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    path = Path(parent, name)
                    self.paths[path.relative_to(folder).as_posix()] = path

    def get(self, name: str | PurePosixPath) -> Path | None:
        """The file of this path below the folder."""
        return self.paths.get(str(name))

    def find(self, ending: str) -> Path | None:
        """The first file whose path ends in this name, or in these folders and this name."""
        return next((path for name, path in self.paths.items() if f"/{name}".endswith(f"/{ending}")), None)

    def lines(self, ending: str) -> list[str]:
        """Lines that are not blank of the file that `find` finds; none where there is no such file."""
        path = self.find(ending)
        return [] if path is None else [line for line in read_text(path).splitlines() if line.strip()]

    def table(self, ending: str) -> list[dict[str, str]]:
        """Rows of a CSV file with a header, such as `lines` reads."""
        rows = csv.DictReader(self.lines(ending), skipinitialspace=True)
        return [{str(key).strip(): str(cell).strip() for key, cell in row.items()} for row in rows]


class Corpus(Dataset):
    """A corpus whose clips are found by the names of their files.

    A subclass gives the class attributes below and `row`; `start` reads lists and tables first. `prepare` looks at
    each clip and reports, with names and numbers: files with other names, ids that come twice, clips of a list that are
    absent, and clips that cannot be read. Nothing is written where no clip is left.

    Attributes
    ----------
    layout : str
        Regular expression that the end of a clip's path below the folder matches, from the start of a name on.
    suffixes : tuple of str
        Of clips: another file with one of these is reported.
    looked_for : str
        An example of such a path, for messages.
    tree : mapping of str to str
        Files of a tiny corpus: text by path; audio and video are made.
    beside : Path
        While a corpus is prepared: the folder of the manifest.
    """

    beside: Path

    layout: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = (".mp4",)
    looked_for: ClassVar[str] = ""
    tree: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def write_example(cls, folder: Path) -> None:
        from avse.data.synthetic.recording import write_video

        for number, (name, text) in enumerate(cls.tree.items()):
            path, rng = folder / name, np.random.default_rng(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in _VIDEOS:
                frames = rng.integers(0, 255, (10, 48, 64, 3), dtype=np.uint8)
                write_video(path, frames, 0.1 * rng.standard_normal(6400))
            elif path.suffix == ".wav":
                write_audio(path, 0.1 * rng.standard_normal(6400))
            else:
                path.write_text(text, encoding="utf-8")

    def start(self, files: Files) -> Mapping[str, str] | None:
        """Read what `row` needs. Returns the ids that the corpus lists with the names to report, if it lists them."""
        return None

    @abstractmethod
    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        """The row of a clip, without `dataset` and `duration`; None: it is left out on purpose."""

    def finish(self, rows: list[Utterance], manifest: Path) -> list[Utterance]:
        """The rows that are written; a subclass may write other files first."""
        return rows

    def prepare(self, folder: str | Path, manifest: str | Path | None = None) -> Path:
        """See `avse.contracts.dataset.Dataset.prepare`. Clips that cannot be used are left out, with a warning."""
        folder = Path(folder)
        target = Path(manifest) if manifest is not None else folder / "manifest.csv"
        self.beside = target.parent
        files, pattern = Files(folder), re.compile(f"(?:^|.*/){self.layout}", re.DOTALL)
        listed = self.start(files)
        rows: dict[str, Utterance] = {}
        problems: dict[str, list[str]] = {}
        seen = False
        for name, path in files.paths.items():
            match = pattern.fullmatch(name)
            if match is None:
                if path.suffix.lower() in self.suffixes:
                    problems.setdefault("have names that are not of the corpus", []).append(name)
                continue
            seen = True
            try:
                row = self.row(path, match, files)
            except AvseError as error:
                problems.setdefault("cannot be used", []).append(str(error))
                continue
            if row is not None and row.id in rows:
                problems.setdefault("come twice, and the first is kept", []).append(name)
            elif row is not None:
                rows[row.id] = row
        if not seen:
            other = problems.get("have names that are not of the corpus", [])
            found = f" It holds {len(other)} files such as {other[0]}." if other else ""
            raise AvseError(
                f"{folder}: holds nothing of {self.plugin_name}.{found} Looked for files such as {self.looked_for}; "
                "name the folder that holds them, at any depth."
            )
        if listed is not None:
            problems["are listed and not there"] = [shown for name, shown in listed.items() if name not in rows]
        looked = each(_look, list(rows.values()), str(self.plugin_name))
        good = [row for row in looked if isinstance(row, Utterance)]
        problems.setdefault("cannot be used", []).extend(str(row) for row in looked if isinstance(row, AvseError))
        if good:
            good = self.finish([replace(row, dataset=str(self.plugin_name)) for row in good], target)
        self._report(folder, problems, len(good))
        write_manifest((replace(row, extra={"licence": self.licence, **row.extra}) for row in good), target)
        return target

    def _report(self, folder: Path, problems: Mapping[str, list[str]], good: int) -> None:
        told = [
            f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)}"
            for what, names in problems.items()
            if names
        ]
        text = "\n  ".join([f"{folder}: {good} clips of {self.plugin_name} can be used.", *told])
        if not good:
            raise AvseError(text)
        if told:
            logging.getLogger("avse").warning("%s", text)


def read_text(path: Path) -> str:
    """The text of a file of the corpus, UTF-8 or Latin-1."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AvseError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def split_of(name: str, dev: float = 0.2, test: float = 0.2) -> str:
    """The split that a name falls into, where a corpus publishes none: the same everywhere.

    Example
    -------
    >>> [split_of(name) for name in ("anna", "ben", "cleo")], split_of("anna", dev=1.0)
    (['test', 'train', 'train'], 'dev')
    """
    place = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8
    return "dev" if place < dev else "test" if place < dev + test else "train"


def words_of_grid(name: str) -> str:
    """The sentence that the six letters of a file of GRID spell; empty where they spell none.

    Example
    -------
    >>> words_of_grid("bbaf2n"), words_of_grid("interview")
    ('bin blue at f two now', '')
    """
    if len(name) == len(_GRAMMAR) and all(letter in words for letter, words in zip(name, _GRAMMAR)):
        return " ".join(words[letter] for letter, words in zip(name, _GRAMMAR))
    return ""


def seconds_of(path: Path) -> float:
    """Length of an audio file, or of the audio of a video, in seconds.

    Raises
    ------
    AvseError
        If it cannot be read or has no audio.
    """
    import av
    import soundfile

    from avse.media.decode import open_container

    try:
        return round(soundfile.info(os.fsencode(path)).duration, 6)
    except soundfile.SoundFileError:
        pass
    with open_container(path) as container:
        if not container.streams.audio:
            raise AvseError(f"{path}: has no audio, and there is no audio file of its name.")
        stream = container.streams.audio[0]
        known = stream.duration is not None and stream.time_base is not None
        seconds = stream.duration * stream.time_base if known else (container.duration or 0) / av.time_base
    return round(float(seconds), 6)


def _look(row: Utterance) -> Utterance:
    """The row with its duration."""
    from avse.media.decode import open_container, video_stream

    if row.video is not None:
        with open_container(row.video) as container:
            if video_stream(container) is None:
                raise AvseError(f"{row.video}: has no video.")
    lengths = [seconds_of(path) for path in (row.clean, row.noise, row.noisy) if path is not None]
    return replace(row, duration=lengths[0])

"""Manifests: a CSV file that lists a corpus, one utterance or noise a row.

========= =====================================================================================================
column    meaning
========= =====================================================================================================
id        a name that no other row has
clean     clean speech
noisy     the speech in noise, for corpora that are already mixed
noise     the noise alone
video     the speaker's face (a video file; its audio is not used)
speaker   who talks; splits must not share speakers
text      what is said
split     `train`, `dev` or `test`; a manifest without this column is all `test`
kind      `speech` or `noise`; without this column a row is `noise` if `noise` is its only audio
label     class of a noise
recording where a noise was cut from; splits must not share recordings
dataset   name of the corpus
duration  seconds (also `duration_s`)
snr       signal-to-noise ratio of `noisy` in dB
licence   on what terms the files may be used, for `keep_licences`
offset    seconds by which the audio is late relative to the video (negative: early); 0 where empty
weight    how much more often than others speech is drawn in training; 1 where empty, 0: never
========= =====================================================================================================

Only `id` and one audio column are required. Instead of `clean` and `noise`, a manifest may have `kind` and `audio`:
`audio` is clean speech where `kind` is `speech` or `av_speech` (speech with a video) and noise otherwise. Paths
are relative to the manifest's folder. Any other column is kept in `Utterance.extra`.

The CSV and JSON manifests of SpeechBrain are read as well: `ID`, `wav`, `noisy_wav`, `clean_wav`, `spk_id`, `wrd`,
`length`, with `{data_root}` or `$data_root` for the manifest's folder. The split is the name of such a file (`train`,
`valid`, `dev`, `test`).
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avse.errors import AvseError
from avse.files import write_csv

SPLITS = ("train", "dev", "test")
_PATHS = ("clean", "noisy", "noise", "video")
_TEXTS = ("speaker", "text", "split", "kind", "label", "recording", "dataset")
_COLUMNS = ("id", "kind", "split", *_PATHS, "speaker", "text", "label", "recording", "dataset", "duration", "snr")
_FOR_TRAINING = {"offset": 0.0, "weight": 1.0}  # columns that are written where a row has another value
_LATEST = 60.0  # seconds
_SPLIT_HINTS = {"val": "dev", "valid": "dev", "validation": "dev", "eval": "test", "training": "train", "tr": "train"}
_SHOWN = 5
# Columns of SpeechBrain's manifests.
_SPEECHBRAIN = {
    "ID": "id", "wav": "clean", "clean_wav": "clean", "noisy_wav": "noisy", "noise_wav": "noise", "spk_id": "speaker",
    "wrd": "text", "words": "text", "length": "duration", "mp4": "video",
}  # fmt: skip
_ROOT = re.compile(r"\{(?:data_root|data_folder)\}/?|\$(?:data_root|data_folder)/?")


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest.

    Arguments
    ---------
    id : str
    clean, noisy, noise, video : Path or None
        Files; see the table of columns above.
    speaker, text, split, label, recording, dataset : str
        Empty where unknown.
    kind : str
        `speech` (with a face where `video` is not None), `noise`, or what the manifest says.
    duration, snr : float or None
        Seconds, and dB.
    offset, weight : float
        See the table of columns above.
    extra : dict
        Other columns, as text.
    place : str
        `file:line` of the row, for messages.

    Attributes
    ----------
    audio : Path
        Its clean speech, else its noise, else its noisy speech.
    """

    id: str
    clean: Path | None = None
    noisy: Path | None = None
    noise: Path | None = None
    video: Path | None = None
    speaker: str = ""
    text: str = ""
    split: str = "test"
    kind: str = "speech"
    label: str = ""
    recording: str = ""
    dataset: str = ""
    duration: float | None = None
    snr: float | None = None
    offset: float = 0.0
    weight: float = 1.0
    extra: dict[str, str] = field(default_factory=dict, hash=False)
    place: str = field(default="", compare=False)

    @property
    def audio(self) -> Path:
        path = self.clean or self.noise or self.noisy
        if path is None:
            raise AvseError(f"{self.place or self.id}: {self.id!r} names no audio file.")
        return path


def read_manifest(
    path: str | Path | Sequence[str | Path],
    splits: Collection[str] | None = None,
    kinds: Collection[str] | None = None,
) -> list[Utterance]:
    """Read and check a manifest, or several that together describe one corpus.

    Arguments
    ---------
    path : path of a CSV file, or a list of them
    splits : collection of str, optional
        Keep these splits only.
    kinds : collection of str, optional
        Keep these kinds only: `speech`, `av_speech` (speech with a video), `noise`, or any other kind the manifest
        has. Default: all speech and noise.

    Returns
    -------
    list of Utterance
        In the order of the file; paths are joined to the manifest's folder.

    Raises
    ------
    AvseError
        If anything is wrong: all problems together, each with its line. Files are looked for in these rows only.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "a.wav").touch()
    >>> _ = (folder / "manifest.csv").write_text("id,clean,speaker,split\\na,a.wav,bob,train\\n")
    >>> [utterance] = read_manifest(folder / "manifest.csv")
    >>> utterance.id, utterance.speaker, utterance.clean.name
    ('a', 'bob', 'a.wav')
    """
    if not isinstance(path, str | Path):
        return [utterance for one in path for utterance in read_manifest(one, splits, kinds)]
    path = Path(path)
    problems: list[str] = []
    places: dict[str, int] = {}
    utterances = []
    wanted = ("speech", "noise") if kinds is None else tuple(kinds)
    for name in splits or ():
        if name not in SPLITS:
            raise AvseError(f"{path}: there is no split {name!r}; the splits are {', '.join(SPLITS)}.")
    for line, row in _rows(path):
        place = f"{path}:{line}"
        utterance = _utterance(row, path.parent, place, problems)
        if utterance.id in places:
            problems.append(f"{place}: id {utterance.id!r} is already used in line {places[utterance.id]}.")
        places.setdefault(utterance.id, line)
        av_speech = utterance.kind == "speech" and utterance.video is not None
        asked = utterance.kind in wanted or ("av_speech" in wanted and av_speech)
        if asked and (splits is None or utterance.split in splits):
            utterances.append(utterance)
    if not places:
        raise AvseError(f"{path}: has no rows below its header. Write one line for each utterance.")
    problems += _missing_files(utterances)
    raise_together(f"{path}: this manifest cannot be used.", problems)
    return utterances


def keep_licences(utterances: Iterable[Utterance], licences: Collection[str]) -> tuple[list[Utterance], Counter[str]]:
    """Keep the rows of some licences.

    Arguments
    ---------
    utterances : iterable of Utterance
    licences : collection of str
        What the column `licence` says, as a whole or before a remark in brackets: `CC BY 4.0` stands also for
        `CC BY 4.0 (VCTK)`, and not for `CC BY-NC 4.0`.

    Returns
    -------
    kept : list of Utterance
    left_out : Counter
        How many rows each other licence has; `not stated` where the column is empty or absent.

    Raises
    ------
    AvseError
        If no row is left; it names the licences that there are.

    Example
    -------
    >>> rows = [Utterance(str(i), extra={"licence": name}) for i, name in enumerate(["CC0 (bells)", "CC BY-NC 4.0"])]
    >>> kept, left_out = keep_licences(rows, ["CC0"])
    >>> [row.id for row in kept], dict(left_out)
    (['0'], {'CC BY-NC 4.0': 1})
    """
    kept, left_out = [], Counter[str]()
    for row in utterances:
        licence = row.extra.get("licence", "not stated")
        if {licence, licence.partition(" (")[0]} & set(licences):
            kept.append(row)
        else:
            left_out[licence] += 1
    if not kept:
        found = ", ".join(repr(licence) for licence, _ in left_out.most_common(2 * _SHOWN))
        raise AvseError(f"licences: no row of the manifest has a licence of {list(licences)}; there are {found}.")
    return kept, left_out


def described(utterances: Iterable[Utterance]) -> list[dict[str, Any]]:
    """What a model that learns from these rows says of its data: clips, hours and licence of each corpus.

    Example
    -------
    >>> described([Utterance("a", Path("a.wav"), dataset="grid", duration=36.0, extra={"licence": "CC BY 4.0"})])
    [{'dataset': 'grid', 'kind': 'speech', 'licence': 'CC BY 4.0', 'clips': 1, 'hours': 0.01}]
    """
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in utterances:
        kind = "faces" if row.kind == "speech" and row.video is not None else row.kind
        place = row.dataset, kind, row.extra.get("licence") or "not stated"
        groups.setdefault(place, []).append(row.duration or 0.0)
    return [
        {**dict(zip(("dataset", "kind", "licence"), place)), "clips": len(one), "hours": round(sum(one) / 3600, 3)}
        for place, one in sorted(groups.items())
    ]


def is_left_out(name: str, every: int) -> bool:
    """Whether an utterance is one of those that are left out of training, as its name alone decides.

    >>> [is_left_out(name, 2) for name in ("s1/bbaf5a", "s1/bbal8p", "s1/bbal9a")]
    [True, False, True]
    """
    return every > 0 and zlib.crc32(name.encode()) % every == 0


def nested_subset(
    utterances: Sequence[Utterance], speakers: int | None = None, share: float = 1.0, seed: int = 0
) -> list[Utterance]:
    """Speech of some speakers, or some speech of each, for learning curves: the smaller choice lies in the larger one.

    Arguments
    ---------
    utterances : sequence of Utterance
    speakers : int, optional
        Speakers that are kept, of each corpus the same share as nearly as can be. Default: all.
    share : float
        Share of the utterances of each speaker that is kept, on average; at least one.
    seed : int
        Of the random order.

    Example
    -------
    >>> rows = [Utterance(f"{who}{number}", speaker=who) for who in "abcd" for number in range(4)]
    >>> two, three = ({row.speaker for row in nested_subset(rows, speakers)} for speakers in (2, 3))
    >>> len(two), len(three), two < three, len(nested_subset(rows, share=0.5))
    (2, 3, True, 8)
    """
    rng = random.Random(seed)
    of_speaker: dict[tuple[str, str], list[Utterance]] = {}
    for row in sorted(utterances, key=lambda row: row.id):
        of_speaker.setdefault((row.dataset, row.speaker or row.id), []).append(row)
    in_corpus: dict[str, list[tuple[str, str]]] = {}
    for owner in sorted(of_speaker):
        in_corpus.setdefault(owner[0], []).append(owner)
    places: dict[tuple[str, str], float] = {}
    kept: set[str] = set()
    for owners in in_corpus.values():
        for rank, owner in enumerate(rng.sample(owners, len(owners))):
            places[owner] = (rank + 0.5) / len(owners)
    for owner in sorted(places, key=lambda owner: (places[owner], owner))[:speakers]:
        rows = of_speaker[owner]
        # Half a clip and more is one at random, so that the shares of speakers with few clips are right on average.
        count = max(1, math.floor(share * len(rows) + random.Random(f"{seed} {owner}").random()))
        order = random.Random(f"{owner} {seed}").sample(rows, len(rows))
        kept.update(row.id for row in order[:count])
    return [row for row in utterances if row.id in kept]


def check_splits(utterances: Iterable[Utterance], allow_speakers: Collection[str] = ()) -> None:
    """Refuse a corpus whose splits share a speaker or a noise recording.

    `allow_speakers` may appear in more than one split (speaker-dependent work).

    Raises
    ------
    AvseError
        Names each shared speaker and recording, with the lines where it first appears in each split.

    Example
    -------
    >>> check_splits([Utterance("a", speaker="bob", split="train"), Utterance("b", speaker="eve", split="test")])
    """
    first: dict[tuple[str, str], dict[str, Utterance]] = {}
    for row in utterances:
        noise = row.kind == "noise"
        name = row.recording if noise else row.speaker
        if name and (noise or name not in allow_speakers):
            first.setdefault(("noise recording" if noise else "speaker", name), {}).setdefault(row.split, row)
    problems = [
        f"{what} {name!r} is in " + " and ".join(f"{split} ({row.place or row.id})" for split, row in places.items())
        for (what, name), places in sorted(first.items(), key=lambda item: item[0][0], reverse=True)
        if len(places) > 1
    ]
    raise_together("The splits of this corpus are not apart; results on them would be too good.", problems)


def write_manifest(utterances: Iterable[Utterance], path: str | Path) -> None:
    """Write a manifest that `read_manifest` reads back; paths are written relative to its folder.

    Raises
    ------
    AvseError
        If two utterances have one id, or the file cannot be written.

    Example
    -------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "manifest.csv"
    >>> write_manifest([Utterance("a", clean=target.with_name("a.wav"), split="dev")], target)
    >>> target.read_text().splitlines()[1]
    'a,speech,dev,a.wav,,,,,,,,,,'
    """
    path = Path(path)
    listed = list(utterances)
    columns = [
        *_COLUMNS,
        *(name for name, usual in _FOR_TRAINING.items() if any(getattr(row, name) != usual for row in listed)),
    ]
    extras = list(dict.fromkeys(key for one in listed for key in one.extra))
    ids = [one.id for one in listed]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise AvseError(f"{path}: two rows would have the id {twice!r}. Give each utterance its own id.")
    folder = path.parent.resolve()
    cells = [
        [*(_cell(getattr(row, name), folder) for name in columns), *(row.extra.get(key, "") for key in extras)]
        for row in listed
    ]
    write_csv(path, [[*columns, *extras], *cells])


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row that is not blank."""
    if not path.is_file():
        raise AvseError(f"{path}: there is no such manifest. Name a CSV file; its columns are in avse.data.manifest.")
    if path.suffix.lower() == ".json":
        yield from _json_rows(path)
        return
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            theirs = "ID" in header and "id" not in header
            header = [_SPEECHBRAIN.get(name, name) for name in header] if theirs else header
            _check_header(path, header)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise AvseError(
                        f"{path}:{reader.line_num}: has {len(cells)} cells where the header has {len(header)} columns. "
                        "Put text that holds a comma in double quotes."
                    )
                row = {name: cell.strip() for name, cell in zip(header, cells)}
                yield reader.line_num, _of_speechbrain(path, row) if theirs else row
    except UnicodeDecodeError as error:
        raise AvseError(f"{path}: is not UTF-8 text (byte {error.start}). Save the manifest as UTF-8 CSV.") from error
    except (OSError, csv.Error) as error:
        raise AvseError(f"{path}: cannot be read as CSV ({error}).") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and columns of each entry of a JSON manifest of SpeechBrain."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
        rows = [{"ID": name, **{key: str(cell) for key, cell in entry.items()}} for name, entry in entries.items()]
    except (OSError, ValueError, AttributeError) as error:
        raise AvseError(f"{path}: is no manifest of SpeechBrain, an object of objects by id ({error}).") from error
    for number, row in enumerate(rows, start=1):
        yield number, _of_speechbrain(path, {_SPEECHBRAIN.get(key, key): cell for key, cell in row.items()})


def _of_speechbrain(path: Path, row: dict[str, str]) -> dict[str, str]:
    """A row with today's columns: paths below the manifest's folder, and the split by the name of the file."""
    split = next((name for name in (*SPLITS, *_SPLIT_HINTS) if path.stem.startswith(name)), "test")
    return {"split": _SPLIT_HINTS.get(split, split)} | {key: _ROOT.sub("", cell) for key, cell in row.items()}


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise AvseError(f"{path}: is empty. Its first line must name the columns, for example id,clean,speaker,split.")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise AvseError(f"{path}:1: column {', '.join(twice)} appears twice.")
    lacking = [] if "id" in header else ["id"]
    if "audio" in header:
        lacking += [] if "kind" in header else ["kind (what `audio` is: speech or noise)"]
    elif not {"clean", "noisy", "noise"} & set(header):
        lacking += ["one of clean, noisy, noise"]
    if lacking:
        hint = " Separate the columns by commas." if len(header) == 1 else ""
        raise AvseError(f"{path}:1: missing column {' and '.join(lacking)}; found {', '.join(header)}.{hint}")


def _utterance(row: dict[str, str], folder: Path, place: str, problems: list[str]) -> Utterance:
    row = dict(row)
    name = row.pop("id")
    if not name:
        problems.append(f"{place}: the id is empty.")
    split = row.get("split", "test")
    if split not in SPLITS:
        hint = f" Did you mean {_SPLIT_HINTS[split.lower()]!r}?" if split.lower() in _SPLIT_HINTS else ""
        problems.append(f"{place}: split {split!r} is none of {', '.join(SPLITS)}.{hint}")
    row["split"] = split
    audio = row.pop("audio", "")
    if not row.get("kind"):
        row["kind"] = "noise" if row.get("noise") and not row.get("clean") and not row.get("noisy") else "speech"
    if audio:
        row["clean" if row["kind"] in ("speech", "av_speech") else "noise"] = audio
    if row["kind"] == "av_speech":
        row["kind"] = "speech"
    if row["kind"] == "speech" and not (row.get("clean") or row.get("noisy")):
        problems.append(f"{place}: speech {name!r} names no audio (clean or noisy).")
    if row["kind"] == "noise" and not row.get("noise"):
        problems.append(f"{place}: noise {name!r} names no audio.")
    fields: dict[str, Any] = {column: _path(folder, row[column]) if row.get(column) else None for column in _PATHS}
    fields |= {column: row.get(column, "") for column in _TEXTS}
    row = {key: cell for key, cell in row.items() if key not in fields}
    if image := row.pop("image", ""):
        row["image"] = str(_path(folder, image))
    duration = row.pop("duration", "") or row.pop("duration_s", "")
    row.pop("duration_s", None)
    for column, (lowest, highest) in {"offset": (-_LATEST, _LATEST), "weight": (0.0, math.inf)}.items():
        value = _number(row.pop(column, ""), column, place, problems)
        fields[column] = _FOR_TRAINING[column] if value is None else value
        if not lowest <= fields[column] <= highest:
            problems.append(f"{place}: {column} {value:g} must be from {lowest:g} to {highest:g}.")
    return Utterance(
        id=name,
        **fields,
        duration=_number(duration, "duration", place, problems),
        snr=_number(row.pop("snr", ""), "snr", place, problems),
        extra={key: cell for key, cell in row.items() if key and cell},
        place=place,
    )


def _path(folder: Path, cell: str) -> Path:
    return Path(os.path.normpath(folder / cell))


def _number(cell: str, column: str, place: str, problems: list[str]) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (column == "duration" and value < 0):
        problems.append(f"{place}: {column} {cell!r} is not a number that can be used.")
        return None
    return value


def _missing_files(utterances: list[Utterance]) -> list[str]:
    missing = [
        f"{one.place}: {column} file {file} does not exist."
        for one in utterances
        for column in _PATHS
        if (file := getattr(one, column)) is not None
        and not file.is_file()
        and not Path(f"{file}.url").is_file()  # a shard elsewhere
    ]
    if len(missing) > _SHOWN:
        missing[_SHOWN:] = [f"{len(missing)} files do not exist in all; paths are relative to the manifest's folder."]
    return missing


def raise_together(title: str, problems: list[str], most: int = 4 * _SHOWN) -> None:
    """Raise one `AvseError` with the first problems below a title, if there are any."""
    if problems:
        more = [f"... and {len(problems) - most} more."] if len(problems) > most else []
        raise AvseError("\n  ".join([title, *problems[:most], *more]))


def _cell(value: object, folder: Path) -> str:
    if value is None:
        return ""
    if isinstance(value, Path):
        return Path(os.path.relpath(value.resolve(), folder)).as_posix()
    return f"{value:g}" if isinstance(value, float) else str(value)

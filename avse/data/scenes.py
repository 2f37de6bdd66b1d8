"""Scene files: what a noisy test set is made of, written down so that it is the same everywhere.

A scene names a target utterance, the noise to add by the ids of its sources and the places in them, and the SNR. The
file holds ids only, no sound. Its first line is a comment with the version of the format, the split and the seed; then
comes CSV:

========= ==========================================================================================================
column    meaning
========= ==========================================================================================================
id        name of the mixture
target    id of the utterance to hear
condition `recorded`, `babble` (two talkers; `babble4`: four; `babble_audio`: talkers of whom there is sound alone), or
          a colour: `white`, `pink`, `brown`, `blue`
snr       dB over the speech-active samples of the target
sources   `id @ offset` of a recording; for babble one entry a talker, joined by ` | `, each a chain of utterances
          joined by ` + ` with the offset (in samples at 16 kHz) into the chain; empty for a colour
seed      of the coloured noise and of the room
rt60      seconds of reverberation; empty for none
direct    energy of the direct path over the reflections in dB; empty without reverberation
========= ==========================================================================================================
"""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from avse.data.audio import read_audio
from avse.data.manifest import SPLITS, Utterance, read_manifest
from avse.data.noises import COLOURS, draw_offset
from avse.errors import AvseError
from avse.files import atomic_path

VERSION = 1
_COLUMNS = ["id", "target", "condition", "snr", "sources", "seed", "rt60", "direct"]
_MARK = "# avse-scenes "
_BABBLE = re.compile(r"babble(\d*)(_audio)?")


@dataclass(frozen=True)
class Source:
    """Utterances or one recording, one after the other, used from `offset` (samples) on."""

    ids: tuple[str, ...]
    offset: int = 0


@dataclass(frozen=True)
class Scene:
    """One mixture; the fields are the columns of the file."""

    id: str
    target: str
    condition: str
    snr: float
    sources: tuple[Source, ...] = ()
    seed: int = 0
    rt60: float | None = None
    direct: float | None = None


def make_scenes(
    speech: Sequence[Utterance],
    noises: Sequence[Utterance] = (),
    *,
    snrs: Sequence[float] = (-5.0, 0.0, 5.0),
    conditions: Sequence[str] = ("recorded", "babble"),
    per_condition: int | Mapping[str, int] | None = None,
    reverb: tuple[float, float] | None = None,
    seed: int = 0,
) -> list[Scene]:
    """Draw scenes from one split.

    Each target is used in every condition, with the same noise at every SNR. Recorded noise goes through all
    recordings in random order before one comes again. The talkers of babble are drawn uniformly over the other
    speakers.

    Arguments
    ---------
    speech : sequence of Utterance
        All speech of the split. Targets are those with a video (all, if none has one); all of it feeds babble.
    noises : sequence of Utterance
        Recorded noise of the same split.
    snrs : sequence of float
        In dB.
    conditions : sequence of str
        As in the table above.
    per_condition : int or {dataset: int}, optional
        How many targets, balanced over speakers; in all, or of each dataset named. Default: all.
    reverb : pair of float, optional
        Range of reverberation times in seconds; drawn for every target and condition.
    seed : int

    Returns
    -------
    list of Scene

    Raises
    ------
    AvseError
        If the split has too few targets, speakers or noises, or more than one split is given.
    """
    speech, noises = sorted(speech, key=lambda one: one.id), sorted(noises, key=lambda one: one.id)
    if len({one.split for one in [*speech, *noises]}) > 1:
        raise AvseError("Scenes are made from one split at a time; pass the speech and noise of one split.")
    utterances = {one.id: one for one in [*speech, *noises]}
    audio = lru_cache(maxsize=256)(lambda name: read_audio(sound_path(utterances[name])))
    targets = _pick_targets([one for one in speech if one.video] or speech, per_condition, seed)
    scenes = []
    for condition in conditions:
        talkers = _talkers(condition)
        order = _noise_order(noises, len(targets), seed) if condition == "recorded" else []
        for index, target in enumerate(targets):
            rng = np.random.default_rng([seed, zlib.crc32(target.id.encode()), zlib.crc32(condition.encode())])
            samples = len(audio(target.id))
            sources: tuple[Source, ...]
            if condition == "recorded":
                recording = order[index].id
                sources = (Source((recording,), draw_offset(audio(recording), samples, rng)),)
            else:
                heard = [one for one in speech if one.video is None] if condition.endswith("_audio") else speech
                sources = _draw_talkers(target, heard, talkers, samples, audio, rng)
            room: tuple[float | None, float | None] = (None, None)
            if reverb is not None:
                room = (round(float(rng.uniform(*reverb)), 3), round(float(rng.uniform(0, 10)), 2))
            noise_seed = int(rng.integers(2**31))
            for snr in snrs:
                name = f"{target.id.replace('/', '_')}__{condition}_{snr:+g}dB"
                scenes.append(Scene(name, target.id, condition, float(snr), sources, noise_seed, *room))
    return scenes


def make_scene_file(
    manifest: str | Path,
    split: str,
    out: str | Path,
    *,
    snrs: Sequence[float] = (-5.0, 0.0, 5.0),
    conditions: Sequence[str] = ("recorded", "babble"),
    per_condition: int | Mapping[str, int] | None = None,
    reverb: tuple[float, float] | None = None,
    seed: int = 0,
) -> list[Scene]:
    """Draw scenes from one split of a manifest and write them; arguments as in `make_scenes`."""
    utterances = read_manifest(manifest, splits=[split])
    scenes = make_scenes(
        [one for one in utterances if one.kind == "speech" and one.clean],
        [one for one in utterances if one.kind == "noise"],
        snrs=snrs,
        conditions=conditions,
        per_condition=per_condition,
        reverb=reverb,
        seed=seed,
    )
    write_scenes(scenes, out, split=split, seed=seed)
    return scenes


def write_scenes(scenes: Iterable[Scene], path: str | Path, *, split: str = "test", seed: int = 0) -> None:
    """Write a scene file."""
    header = {"version": VERSION, "split": split, "seed": seed, "sample_rate": 16000}
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(_MARK + json.dumps(header) + "\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for scene in scenes:
            room = ["" if value is None else f"{value:g}" for value in (scene.rt60, scene.direct)]
            writer.writerow(
                [scene.id, scene.target, scene.condition, f"{scene.snr:g}", _pack(scene.sources), scene.seed, *room]
            )


def read_scenes(path: str | Path) -> tuple[list[Scene], dict]:
    """Read a scene file.

    Returns
    -------
    scenes : list of Scene
    header : dict
        `version`, `split`, `seed`.

    Raises
    ------
    AvseError
        If it is no scene file, was written by a later version, or a row is wrong; names file and line.

    Example
    -------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "scenes.csv"
    >>> write_scenes([Scene("m", "a", "babble", -5.0, (Source(("b", "c"), 7), Source(("d",))))], target)
    >>> read_scenes(target)[0][0].sources[0]
    Source(ids=('b', 'c'), offset=7)
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            first = file.readline()
            header = _header(path, first)
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise AvseError(f"{path}:2: the columns must be {','.join(_COLUMNS)}.")
            scenes: list[Scene] = []
            names: set[str] = set()
            for row in reader:
                place = f"{path}:{reader.line_num + 1}"
                scenes.append(_scene(row, place))
                if scenes[-1].id in names:
                    raise AvseError(f"{place}: scene id {scenes[-1].id!r} appears twice.")
                names.add(scenes[-1].id)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AvseError(f"{path}: cannot be read as a scene file ({error}).") from error
    if not scenes:
        raise AvseError(f"{path}: holds no scenes.")
    return scenes, header


def _header(path: Path, line: str) -> dict:
    try:
        header: dict = json.loads(line.removeprefix(_MARK)) if line.startswith(_MARK) else {}
        version, split = int(header["version"]), header["split"]
    except (ValueError, KeyError, TypeError):
        raise AvseError(
            f"{path}:1: is no scene file; its first line must begin with '{_MARK}'. "
            "Make one with avse.data.scenes.make_scene_file."
        ) from None
    if version > VERSION or split not in SPLITS:
        raise AvseError(f"{path}:1: version {version}, split {split!r}: this avse reads version {VERSION}.")
    return header


def _scene(row: dict, place: str) -> Scene:
    try:
        scene = Scene(
            id=row["id"],
            target=row["target"],
            condition=row["condition"],
            snr=float(row["snr"]),
            sources=_unpack(row["sources"]),
            seed=int(row["seed"]),
            rt60=float(row["rt60"]) if row["rt60"] else None,
            direct=float(row["direct"]) if row["direct"] else None,
        )
        wanted = 1 if scene.condition == "recorded" else _talkers(scene.condition)
        if not np.isfinite(scene.snr) or len(scene.sources) != wanted or (scene.rt60 is None) != (scene.direct is None):
            raise ValueError(f"{scene.condition} needs {wanted} source(s), a finite SNR and rt60 with direct")
    except (ValueError, TypeError, AttributeError) as error:
        raise AvseError(f"{place}: this scene cannot be read ({error}).") from error
    return scene


def _talkers(condition: str) -> int:
    if condition == "recorded" or condition in COLOURS:
        return 0
    if match := _BABBLE.fullmatch(condition):
        return int(match[1] or 2)
    raise AvseError(
        f"There is no condition {condition!r}; there are recorded, babble, babbleN, babbleN_audio and "
        f"{', '.join(COLOURS)}."
    )


def _pack(sources: Iterable[Source]) -> str:
    for source in sources:
        if any(mark in name for name in source.ids for mark in (" + ", " | ", " @ ")):
            raise AvseError(f"Source id among {source.ids} holds ' + ', ' | ' or ' @ '; rename it in the manifest.")
    return " | ".join(f"{' + '.join(source.ids)} @ {source.offset}" for source in sources)


def _unpack(cell: str) -> tuple[Source, ...]:
    parts = [part.rsplit(" @ ", 1) for part in cell.split(" | ")] if cell else []
    return tuple(Source(tuple(names.split(" + ")), int(offset)) for names, offset in parts)


def sound_path(utterance: Utterance) -> Path:
    """The file with what an utterance brings to a mixture: a noise, or a voice alone."""
    path = utterance.noise if utterance.kind == "noise" else utterance.clean
    if path is None:
        raise AvseError(f"{utterance.place or utterance.id}: {utterance.id!r} has no clean voice to mix.")
    return path


def _pick_targets(targets: list[Utterance], count: int | Mapping[str, int] | None, seed: int) -> list[Utterance]:
    """`count` utterances in the order given, one speaker after the other so that all have nearly as many."""
    if isinstance(count, Mapping):
        return [
            one
            for dataset, number in count.items()
            for one in _pick_targets([t for t in targets if t.dataset == dataset], number, seed)
        ]
    if count is None:
        return targets
    if count > len(targets):
        raise AvseError(f"{count} targets were asked for, but the split has {len(targets)}. Ask for fewer.")
    rng = np.random.default_rng(seed)
    ranked: list[tuple[int, int, int]] = []
    speakers: dict[str, list[int]] = {}
    for index, one in enumerate(targets):
        speakers.setdefault(one.speaker or one.id, []).append(index)
    for indices in speakers.values():
        shuffled = rng.permutation(indices)
        tie = int(rng.integers(2**31))
        ranked += [(rank, tie, int(index)) for rank, index in enumerate(shuffled)]
    chosen = sorted(index for _, _, index in sorted(ranked)[:count])
    return [targets[index] for index in chosen]


def _noise_order(noises: list[Utterance], count: int, seed: int) -> list[Utterance]:
    """A noise for each target: every recording once before any comes again."""
    if not noises:
        raise AvseError("Condition 'recorded' needs noise, and the split has none. Add noise rows to the manifest.")
    recordings: dict[str, list[Utterance]] = {}
    for one in noises:
        recordings.setdefault(one.recording or one.id, []).append(one)
    rng = np.random.default_rng([seed, 1])
    names = sorted(recordings)
    order: list[Utterance] = []
    while len(order) < count:
        for index in rng.permutation(len(names)):
            clips = recordings[names[index]]
            order.append(clips[rng.integers(len(clips))])
    return order[:count]


def _draw_talkers(
    target: Utterance,
    speech: list[Utterance],
    talkers: int,
    samples: int,
    audio: Callable[[str], np.ndarray],
    rng: np.random.Generator,
) -> tuple[Source, ...]:
    if not talkers:
        return ()
    others: dict[str, list[Utterance]] = {}
    for one in speech:
        if one.id != target.id and (not one.speaker or one.speaker != target.speaker):
            others.setdefault(one.speaker or one.id, []).append(one)
    if len(others) < talkers:
        raise AvseError(
            f"Babble of {talkers} needs as many speakers besides {target.speaker!r}; the split has {len(others)}. "
            "Give the split more speakers, or leave out babble (--condition white)."
        )
    names = sorted(others)
    sources = []
    for index in rng.choice(len(names), talkers, replace=False):
        utterances = others[names[index]]
        chain: list[str] = []
        sounds: list[np.ndarray] = []
        for pick in rng.permutation(len(utterances)):
            chain.append(utterances[pick].id)
            sounds.append(audio(chain[-1]))
            if sum(map(len, sounds)) >= samples:
                break
        sources.append(Source(tuple(chain), draw_offset(np.concatenate(sounds), samples, rng)))
    return tuple(sources)

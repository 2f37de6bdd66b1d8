"""Scene files: what a test set is made of, written down so that it is the same everywhere.

A scene names the utterances of its speakers, the noise to add by the ids of its sources and the places in them, and the
SNR. The file holds ids only, no audio. Its first line is a comment with the version of the format, the split and the
seed; then comes CSV, in one of two layouts. Scenes with one speaker, for enhancement:

========= ==========================================================================================================
column    meaning
========= ==========================================================================================================
id        name of the mixture
target    id of the utterance to enhance
condition `recorded`, `babble` (two interfering speakers; `babble4`: four; `babble_audio`: speakers without a video),
          or a colour: `white`, `pink`, `brown`, `blue`
snr       dB over the speech-active samples of the target
sources   `id @ offset` of a recording; for babble one entry a speaker, joined by ` | `, each a chain of utterances
          joined by ` + ` with the offset (in samples at 16 kHz) into the chain; empty for a colour
seed      of the coloured noise and of the room
rt60      seconds of reverberation; empty for none
direct    energy of the direct path over the reflections in dB; empty without reverberation
========= ==========================================================================================================

Scenes with several speakers, for separation. The speakers are different people of one corpus with a video. They are
equally loud over their active samples, begin together, and are cut to the shortest:

========= ==========================================================================================================
column    meaning
========= ==========================================================================================================
id        name of the mixture
talkers   ids of the utterances, joined by ` | `
sexes     `same` or `different`; empty where the manifest (column `sex`) does not say
noise     `id @ offset` of a recording; empty for none
snr       of all speech over the noise, in dB over its active samples; empty without noise
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
from typing import Any

import numpy as np

from avse.data.audio import read_audio
from avse.data.manifest import SPLITS, Utterance, is_left_out, read_manifest
from avse.data.noises import COLOURS, draw_offset
from avse.errors import AvseError
from avse.files import write_csv

VERSION = 1
_ONE = ("# avse-scenes ", ["id", "target", "condition", "snr", "sources", "seed", "rt60", "direct"])
_SEVERAL = ("# avse-separation-scenes ", ["id", "talkers", "sexes", "noise", "snr"])
_BABBLE = re.compile(r"babble(\d*)(_audio)?")
_SEPARATION = re.compile(r"separation(\d*)")
_TRIES = 200


@dataclass(frozen=True)
class Source:
    """Utterances or one recording, one after the other, used from `offset` (samples) on."""

    ids: tuple[str, ...]
    offset: int = 0


@dataclass(frozen=True)
class Scene:
    """One mixture: the ids of its speakers' utterances in `targets`, and columns of the file as above.

    `condition` is empty where there is no noise. `snr` is None then.
    """

    id: str
    targets: tuple[str, ...]
    condition: str = ""
    snr: float | None = None
    sources: tuple[Source, ...] = ()
    seed: int = 0
    rt60: float | None = None
    direct: float | None = None
    sexes: str = ""

    @property
    def target(self) -> str:
        """The utterance of the first speaker."""
        return self.targets[0]


def speakers_of(condition: str) -> int:
    """How many speakers a condition asks to separate: N of `separationN`, two of `separation`, one of all others.

    >>> speakers_of("separation"), speakers_of("separation3"), speakers_of("babble")
    (2, 3, 1)
    """
    match = _SEPARATION.fullmatch(condition)
    return int(match[1] or 2) if match else 1


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
    """Draw scenes with one speaker from one split.

    Each target is used in every condition, with the same noise at every SNR. Recorded noise goes through all
    recordings in random order before one comes again. The speakers of babble are drawn uniformly over the others.

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

    Raises
    ------
    AvseError
        If the split has too few targets, speakers or noises, or more than one split is passed.
    """
    speech, noises = sorted(speech, key=lambda row: row.id), sorted(noises, key=lambda row: row.id)
    if len({row.split for row in [*speech, *noises]}) > 1:
        raise AvseError("Scenes are made from one split at a time; pass the speech and noise of one split.")
    utterances = {row.id: row for row in [*speech, *noises]}
    audio = lru_cache(maxsize=256)(lambda name: read_audio(audio_path(utterances[name])))
    targets = _pick_targets([row for row in speech if row.video] or speech, per_condition, seed)
    scenes = []
    for condition in conditions:
        number = _babble_speakers(condition)
        order = _noise_order(noises, len(targets), seed) if condition == "recorded" else []
        for index, target in enumerate(targets):
            rng = np.random.default_rng([seed, zlib.crc32(target.id.encode()), zlib.crc32(condition.encode())])
            samples = len(audio(target.id))
            sources: tuple[Source, ...]
            if condition == "recorded":
                recording = order[index].id
                sources = (Source((recording,), draw_offset(audio(recording), samples, rng)),)
            else:
                pool = [row for row in speech if row.video is None] if condition.endswith("_audio") else speech
                sources = _draw_babble(target, pool, number, samples, audio, rng)
            room: tuple[float | None, float | None] = (None, None)
            if reverb is not None:
                room = (round(float(rng.uniform(*reverb)), 3), round(float(rng.uniform(0, 10)), 2))
            noise_seed = int(rng.integers(2**31))
            for snr in snrs:
                name = f"{target.id.replace('/', '_')}__{condition}_{snr:+g}dB"
                scenes.append(Scene(name, (target.id,), condition, float(snr), sources, noise_seed, *room))
    return scenes


def make_separation_scenes(
    speech: Sequence[Utterance],
    noises: Sequence[Utterance] = (),
    *,
    speakers: Sequence[int] = (2, 3),
    snrs: Sequence[float] = (5.0,),
    count: int = 20,
    seed: int = 0,
) -> list[Scene]:
    """Draw scenes with several speakers from one split.

    For each number of speakers there are `count` groups, half of one sex where the manifest says so; each is mixed
    without noise, and with the same noise at each SNR.

    Arguments
    ---------
    speech, noises : sequence of Utterance
        Of the split. Speech counts that has a video and a speaker.
    snrs : sequence of float
        In dB; none: all mixtures are without noise.
    count : int
        Groups for each number of speakers.

    Raises
    ------
    AvseError
        If the split has too few speakers with a video, or no noise.
    """
    speech = sorted((row for row in speech if row.video and row.speaker), key=lambda row: row.id)
    noises = sorted(noises, key=lambda row: row.id)
    if snrs and not noises:
        raise AvseError("The split holds no noise. Add noise rows to the manifest.")
    rng = np.random.default_rng(seed)
    audio = lru_cache(maxsize=64)(lambda row: read_audio(audio_path(row)))
    scenes = []
    for number in speakers:
        for index in range(count):
            group = _group(speech, number, index % 2 == 0, rng)
            names, sexes = tuple(row.id for row in group), _sexes(group)
            base = f"{number}talkers_{index:03d}"
            scenes.append(Scene(base, names, sexes=sexes))
            if snrs:
                recording = noises[rng.integers(len(noises))]
                offset = draw_offset(audio(recording), min(len(audio(row)) for row in group), rng)
                source = Source((recording.id,), int(offset))
                scenes += [
                    Scene(f"{base}_{snr:+g}dB", names, "recorded", float(snr), (source,), sexes=sexes) for snr in snrs
                ]
    return scenes


def make_scene_file(
    manifest: str | Path,
    split: str,
    out: str | Path,
    *,
    snrs: Sequence[float] | None = None,
    conditions: Sequence[str] = ("recorded", "babble"),
    per_condition: int | Mapping[str, int] | None = None,
    reverb: tuple[float, float] | None = None,
    leave_out: int = 0,
    seed: int = 0,
) -> list[Scene]:
    """Draw scenes from one split of a manifest and write them.

    Arguments are those of `make_scenes`, or, where the conditions are `separation2`, `separation3`, ..., those of
    `make_separation_scenes`. Default SNRs: -5, 0 and 5 dB; of separation 5 dB.

    Arguments
    ---------
    leave_out : int
        Of separation: draw only from the clips that training left out, for tests of known speakers; see `SpeechSet`.
    """
    utterances = read_manifest(manifest, splits=[split])
    speech = [row for row in utterances if row.kind != "noise" and row.clean]
    noises = [row for row in utterances if row.kind == "noise"]
    numbers = [speakers_of(condition) for condition in conditions]
    if max(numbers, default=1) == 1:
        snrs = (-5.0, 0.0, 5.0) if snrs is None else snrs
        drawing: Any = {"conditions": conditions, "per_condition": per_condition, "reverb": reverb, "seed": seed}
        scenes = make_scenes(speech, noises, snrs=snrs, **drawing)
    elif min(numbers) == 1 or isinstance(per_condition, Mapping) or reverb is not None:
        raise AvseError("Scenes of separation go into a file of their own; give no other --condition with them.")
    else:
        if leave_out:
            speech = [row for row in speech if is_left_out(row.id, leave_out)]
        count = 20 if per_condition is None else per_condition
        snrs = (5.0,) if snrs is None else snrs
        try:
            scenes = make_separation_scenes(speech, noises, speakers=numbers, snrs=snrs, count=count, seed=seed)
        except AvseError as error:
            raise AvseError(f"{manifest}, split {split}: {error}") from None
    write_scenes(scenes, out, split=split, seed=seed)
    return scenes


def write_scenes(scenes: Iterable[Scene], path: str | Path, *, split: str = "test", seed: int = 0) -> None:
    """Write a scene file, in the layout for the number of speakers of its scenes."""
    scenes = list(scenes)
    several = any(len(scene.targets) > 1 for scene in scenes)
    mark, columns = _SEVERAL if several else _ONE
    header = {"version": VERSION, "split": split, "seed": seed, "sample_rate": 16000}
    rows: list[list[Any]] = [columns]
    for scene in scenes:
        snr, sources = _number(scene.snr), _pack(scene.sources)
        if several:
            rows.append([scene.id, " | ".join(scene.targets), scene.sexes, sources, snr])
        else:
            room = [_number(scene.rt60), _number(scene.direct)]
            rows.append([scene.id, scene.target, scene.condition, snr, sources, scene.seed, *room])
    write_csv(path, rows, mark + json.dumps(header) + "\n")


def read_scenes(path: str | Path) -> tuple[list[Scene], dict]:
    """Read a scene file of either layout.

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
    >>> write_scenes([Scene("m", ("a",), "babble", -5.0, (Source(("b", "c"), 7), Source(("d",))))], target)
    >>> read_scenes(target)[0][0].sources[0]
    Source(ids=('b', 'c'), offset=7)
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            first = file.readline()
            mark, columns = next((layout for layout in (_ONE, _SEVERAL) if first.startswith(layout[0])), ("", []))
            header = _header(path, first.removeprefix(mark) if mark else "")
            reader = csv.DictReader(file)
            if reader.fieldnames != columns:
                raise AvseError(f"{path}:2: the columns must be {','.join(columns)}.")
            scenes: list[Scene] = []
            names: set[str] = set()
            for row in reader:
                place = f"{path}:{reader.line_num + 1}"
                try:
                    scenes.append(_scene(row))
                except (ValueError, TypeError, AttributeError) as error:
                    raise AvseError(f"{place}: this scene cannot be read ({error}).") from error
                if scenes[-1].id in names:
                    raise AvseError(f"{place}: scene id {scenes[-1].id!r} appears twice.")
                names.add(scenes[-1].id)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AvseError(f"{path}: cannot be read as a scene file ({error}).") from error
    if not scenes:
        raise AvseError(f"{path}: holds no scenes.")
    return scenes, header


def _header(path: Path, text: str) -> dict:
    try:
        header: dict = json.loads(text)
        version, split = int(header["version"]), header["split"]
    except (ValueError, KeyError, TypeError):
        raise AvseError(
            f"{path}:1: is no scene file; its first line must begin with '{_ONE[0]}' or '{_SEVERAL[0]}'. "
            "`avse scenes` makes one."
        ) from None
    if version > VERSION or split not in SPLITS:
        raise AvseError(f"{path}:1: version {version}, split {split!r}: this avse reads version {VERSION}.")
    return header


def _scene(row: dict) -> Scene:
    snr = _float(row["snr"])
    if "talkers" in row:
        sources = _unpack(row["noise"])
        condition = "recorded" if sources else ""
        scene = Scene(row["id"], tuple(row["talkers"].split(" | ")), condition, snr, sources, sexes=row["sexes"])
        if len(scene.targets) < 2 or (not sources) != (snr is None):
            raise ValueError("it needs two speakers, and an SNR if there is noise")
        return scene
    sources, room = _unpack(row["sources"]), (_float(row["rt60"]), _float(row["direct"]))
    scene = Scene(row["id"], (row["target"],), row["condition"], snr, sources, int(row["seed"]), *room)
    needed = 1 if scene.condition == "recorded" else _babble_speakers(scene.condition)
    finite = snr is not None and bool(np.isfinite(snr))
    if not finite or len(scene.sources) != needed or (scene.rt60 is None) != (scene.direct is None):
        raise ValueError(f"{scene.condition} needs {needed} source(s), a finite SNR and rt60 with direct")
    return scene


def _babble_speakers(condition: str) -> int:
    if condition == "recorded" or condition in COLOURS:
        return 0
    if match := _BABBLE.fullmatch(condition):
        return int(match[1] or 2)
    raise AvseError(
        f"There is no condition {condition!r}; there are recorded, babble, babbleN, babbleN_audio, separationN and "
        f"{', '.join(COLOURS)}."
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _float(cell: str) -> float | None:
    return float(cell) if cell else None


def _pack(sources: Iterable[Source]) -> str:
    for source in sources:
        if any(mark in name for name in source.ids for mark in (" + ", " | ", " @ ")):
            raise AvseError(f"Source id among {source.ids} holds ' + ', ' | ' or ' @ '; rename it in the manifest.")
    return " | ".join(f"{' + '.join(source.ids)} @ {source.offset}" for source in sources)


def _unpack(cell: str) -> tuple[Source, ...]:
    parts = [part.rsplit(" @ ", 1) for part in cell.split(" | ")] if cell else []
    return tuple(Source(tuple(names.split(" + ")), int(offset)) for names, offset in parts)


def audio_path(utterance: Utterance) -> Path:
    """The file with what an utterance adds to a mixture: a noise, or clean speech."""
    path = utterance.noise if utterance.kind == "noise" else utterance.clean
    if path is None:
        raise AvseError(f"{utterance.place or utterance.id}: {utterance.id!r} has no clean speech to mix.")
    return path


def _by_speaker(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.speaker or utterance.id, []).append(utterance)
    return speakers


def _pick_targets(
    targets: Sequence[Utterance], count: int | Mapping[str, int] | None, seed: int
) -> Sequence[Utterance]:
    """`count` utterances in the order of `targets`, one speaker after the other so that all have nearly as many."""
    if isinstance(count, Mapping):
        return [
            target
            for dataset, number in count.items()
            for target in _pick_targets([row for row in targets if row.dataset == dataset], number, seed)
        ]
    if count is None:
        return targets
    if count > len(targets):
        raise AvseError(f"{count} targets were asked for, but the split has {len(targets)}. Ask for fewer.")
    rng = np.random.default_rng(seed)
    place = {target.id: index for index, target in enumerate(targets)}
    ranked: list[tuple[int, int, int]] = []
    for utterances in _by_speaker(targets).values():
        shuffled = rng.permutation([place[row.id] for row in utterances])
        tie = int(rng.integers(2**31))
        ranked += [(rank, tie, int(index)) for rank, index in enumerate(shuffled)]
    return [targets[index] for index in sorted(index for _, _, index in sorted(ranked)[:count])]


def _noise_order(noises: Sequence[Utterance], count: int, seed: int) -> list[Utterance]:
    """A noise for each target: every recording once before any comes again."""
    if not noises:
        raise AvseError("Condition 'recorded' needs noise, and the split has none. Add noise rows to the manifest.")
    recordings: dict[str, list[Utterance]] = {}
    for noise in noises:
        recordings.setdefault(noise.recording or noise.id, []).append(noise)
    rng = np.random.default_rng([seed, 1])
    names = sorted(recordings)
    order: list[Utterance] = []
    while len(order) < count:
        for index in rng.permutation(len(names)):
            clips = recordings[names[index]]
            order.append(clips[rng.integers(len(clips))])
    return order[:count]


def _draw_babble(
    target: Utterance,
    speech: Sequence[Utterance],
    number: int,
    samples: int,
    audio: Callable[[str], np.ndarray],
    rng: np.random.Generator,
) -> tuple[Source, ...]:
    if not number:
        return ()
    others = _by_speaker(row for row in speech if row.id != target.id and row.speaker not in {target.speaker} - {""})
    if len(others) < number:
        raise AvseError(
            f"Babble of {number} needs as many speakers besides {target.speaker!r}; the split has {len(others)}. "
            "Give the split more speakers, or leave out babble (--condition white)."
        )
    names = sorted(others)
    sources = []
    for index in rng.choice(len(names), number, replace=False):
        utterances = others[names[index]]
        chain: list[str] = []
        parts: list[np.ndarray] = []
        for pick in rng.permutation(len(utterances)):
            chain.append(utterances[pick].id)
            parts.append(audio(chain[-1]))
            if sum(map(len, parts)) >= samples:
                break
        sources.append(Source(tuple(chain), draw_offset(np.concatenate(parts), samples, rng)))
    return tuple(sources)


def _group(speech: Sequence[Utterance], number: int, same: bool, rng: np.random.Generator) -> list[Utterance]:
    """Utterances of different speakers of one corpus; of one sex or not, where that is known and possible."""
    corpora = {name: _by_speaker(row for row in speech if row.dataset == name) for name in {r.dataset for r in speech}}
    enough = [name for name, speakers in sorted(corpora.items()) if len(speakers) >= number]
    if not enough:
        most = max((len(speakers) for speakers in corpora.values()), default=0)
        raise AvseError(
            f"a mixture of {number} needs as many speakers of one corpus, with a video and clean speech; there are at "
            f"most {most}."
        )
    group: list[Utterance] = []
    for _ in range(_TRIES):
        speakers = corpora[enough[rng.integers(len(enough))]]
        names = rng.permutation(sorted(speakers))[:number]
        group = [speakers[name][rng.integers(len(speakers[name]))] for name in names]
        if _sexes(group) in ("", "same" if same else "different"):
            break
    return group


def _sexes(group: Sequence[Utterance]) -> str:
    sexes = {row.extra.get("sex", "") for row in group}
    return "" if "" in sexes else "same" if len(sexes) == 1 else "different"

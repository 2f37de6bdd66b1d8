"""Scene files: what a test set is made of, written down so that it is the same everywhere.

A scene names the utterances of its speakers, the noise to add by the ids of its sources and the places in them, and the
SNR. The file holds ids only, no audio. Its first line is a comment with the version of the format, the split and the
seed; then comes CSV, in one of two layouts. Scenes with one speaker, for enhancement:

========= ==========================================================================================================
column    meaning
========= ==========================================================================================================
id        name of the mixture
target    id of the utterance to enhance, whole or a span of its video frames: `id @ 25:125`
condition `recorded`, `babble` (two interfering speakers; `babble4`: four; `babble_audio`: speakers without a video),
          a colour: `white`, `pink`, `brown`, `blue`; `clean`: nothing is added; or `silent` (two interfering speakers;
          `silent1`: one): the target shows a mouth at rest, `id @ 30:42/100`, and says nothing
snr       dB over the speech-active samples of the target; empty for `clean` and `silent`
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
talkers   ids of the utterances, joined by ` | `; of each a span as above
sexes     `same` or `different`; empty where the manifest (column `sex`) does not say
noise     `id @ offset` of a recording; empty for none
snr       of all speech over the noise, in dB over its active samples; empty without noise
========= ==========================================================================================================
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME
from avse.data.audio import read_audio
from avse.data.cache import ClipCache
from avse.data.manifest import SPLITS, Utterance, is_left_out, read_manifest
from avse.data.noises import COLOURS, draw_offset
from avse.data.still import at_rest, pause_of
from avse.errors import AvseError
from avse.files import write_csv

VERSION = 2
_ONE = ("# avse-scenes ", ["id", "target", "condition", "snr", "sources", "seed", "rt60", "direct"])
_SEVERAL = ("# avse-separation-scenes ", ["id", "talkers", "sexes", "noise", "snr"])
_BABBLE = re.compile(r"(?:babble|silent)(\d*)(_audio)?")
_SPAN = re.compile(r"(\d+):(\d+)(?:/(\d+))?")
_SILENT, _CLEAN, _REVERBERANT = "silent", "clean", "reverberant_"
_SEPARATION = re.compile(r"separation(\d*)")
_RT60 = (0.2, 0.8)
_TRIES = 200


@dataclass(frozen=True)
class Span:
    """Video frames `first` to `last - 1` of an utterance; with `frames`, a mouth at rest that shows them for so long.

    Example
    -------
    >>> Span.parse("3:6").rows().tolist(), str(Span(3, 6, 100)), len(Span(3, 6, 100).rows())
    ([3, 4, 5], '3:6/100', 100)
    """

    first: int
    last: int
    frames: int | None = None

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read what `str` gives."""
        match = _SPAN.fullmatch(text)
        if match is None or int(match[2]) <= int(match[1]):
            raise ValueError(f"{text!r} is no span of video frames, such as 25:125 or 30:42/100")
        return cls(int(match[1]), int(match[2]), int(match[3]) if match[3] else None)

    @classmethod
    def of(cls, utterance: Utterance) -> Span | None:
        """What of an utterance's video goes with a mixture, where that is not all of it: its column `video_span`."""
        text = utterance.extra.get("video_span")
        return cls.parse(text) if text else None

    def __str__(self) -> str:
        return f"{self.first}:{self.last}" + (f"/{self.frames}" if self.frames else "")

    def __len__(self) -> int:
        return self.frames or self.last - self.first

    def rows(self) -> np.ndarray:
        """Places of the frames in the video, shape (video_frames,)."""
        if self.frames:
            return at_rest(slice(self.first, self.last), self.frames, np.random.default_rng([self.first, self.last]))
        return np.arange(self.first, self.last)

    def cut(self, audio: np.ndarray) -> np.ndarray:
        """The audio of these frames, shape (samples,); silence where a mouth at rest is shown."""
        if self.frames:
            return np.zeros(self.frames * SAMPLES_PER_FRAME, dtype=np.float32)
        return audio[self.first * SAMPLES_PER_FRAME : self.last * SAMPLES_PER_FRAME]


@dataclass(frozen=True)
class Source:
    """Utterances or one recording, one after the other, used from `offset` (samples) on."""

    ids: tuple[str, ...]
    offset: int = 0


@dataclass(frozen=True)
class Scene:
    """One mixture: the ids of its speakers' utterances in `targets`, and columns of the file as above.

    `condition` is empty where there is no noise. `snr` is None then. `spans` are those of the targets; none: all whole.
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
    spans: tuple[Span | None, ...] = ()

    @property
    def target(self) -> str:
        """The utterance of the first speaker."""
        return self.targets[0]

    @property
    def shown(self) -> list[tuple[str, Span | None]]:
        """Each utterance with its span."""
        return list(zip(self.targets, self.spans or [None] * len(self.targets)))

    @property
    def kind(self) -> str:
        """What tables call the condition: with `reverberant_` before it in a room."""
        return _REVERBERANT * (self.rt60 is not None) + self.condition

    @property
    def is_silent(self) -> bool:
        """Whether the target says nothing."""
        return self.condition.startswith(_SILENT)


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
    seconds: float | None = None,
    same_corpus: bool = False,
    pause: Callable[[Utterance], slice | None] | None = None,
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
        As in the table above; in a room with `reverberant_` before it.
    per_condition : int or {dataset: int}, optional
        How many targets, balanced over speakers; in all, or of each dataset named, whose utterances then serve again
        where there are fewer. Default: all.
    reverb : pair of float, optional
        Range of reverberation times in seconds, drawn for every target and condition. Default: 0.2 to 0.8 in
        conditions that are `reverberant_`, none in others.
    seconds : float, optional
        Longest target, cut from a random place that is not silent. Default: whole utterances.
    same_corpus : bool
        Interfering speakers have a video and are of the target's corpus, so that the recording does not tell who the
        target is. Where a corpus has too few, they come from all corpora, which a warning says.
    pause : callable, optional
        Video frames of an utterance in which its speaker is seen and silent, or None; for `silent`, whose target is
        another utterance of the speaker, or else of the corpus, where it has none.

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
    visible = [row for row in speech if row.video]
    targets = _pick_targets(visible or speech, per_condition, seed)
    few: set[str] = set()
    scenes = []
    for condition in conditions:
        plain = condition.removeprefix(_REVERBERANT)
        number, silent, uses = _babble_speakers(plain), plain.startswith(_SILENT), Counter[str]()
        order = _noise_order(noises, len(targets), seed) if plain == "recorded" else []
        for index, target in enumerate(targets):
            uses[target.id] += 1
            name = target.id + f"_{uses[target.id]}" * (uses[target.id] > 1)
            rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(condition.encode())])
            span: Span | None
            if silent:
                length = round((seconds or len(audio(target.id)) / SAMPLE_RATE) * SAMPLE_RATE / SAMPLES_PER_FRAME)
                target, span = _silent_target(target, visible, pause, length, rng)
            else:
                span = _draw_span(audio(target.id), seconds, rng)
            samples = len(span) * SAMPLES_PER_FRAME if span else len(audio(target.id))
            sources: tuple[Source, ...]
            if plain == "recorded":
                recording = order[index].id
                sources = (Source((recording,), draw_offset(audio(recording), samples, rng)),)
            else:
                pool = [row for row in speech if row.video is None] if plain.endswith("_audio") else speech
                if same_corpus:
                    pool = [row for row in visible if row.dataset == target.dataset]
                    if len(_by_speaker(pool)) <= number:
                        few.add(target.dataset)
                        pool = visible
                sources = _draw_babble(target, pool, number, samples, audio, rng)
            room: tuple[float | None, float | None] = (None, None)
            if reverb is not None or plain != condition:
                room = (round(float(rng.uniform(*(reverb or _RT60))), 3), round(float(rng.uniform(0, 10)), 2))
            noise_seed = int(rng.integers(2**31))
            for snr in [None] if silent or plain == _CLEAN else snrs:
                scene_id = f"{name.replace('/', '_')}__{condition}" + ("" if snr is None else f"_{snr:+g}dB")
                given = None if snr is None else float(snr)
                spans = (span,) if span else ()
                scenes.append(Scene(scene_id, (target.id,), plain, given, sources, noise_seed, *room, spans=spans))
    if few:
        warnings.warn(
            f"{', '.join(sorted(few))}: too few speakers for babble of one corpus; it is drawn from all.", stacklevel=2
        )
    return scenes


def make_separation_scenes(
    speech: Sequence[Utterance],
    noises: Sequence[Utterance] = (),
    *,
    speakers: Sequence[int] = (2, 3),
    snrs: Sequence[float] = (5.0,),
    count: int = 20,
    per_corpus: bool = False,
    seconds: float | None = None,
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
    per_corpus : bool
        As many of each corpus that has so many speakers, instead of in all.
    seconds : float, optional
        Longest mixture, of utterances cut at random places that are not silent. Default: whole utterances.

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
        pools = [speech]
        if per_corpus:
            corpora = [[row for row in speech if row.dataset == name] for name in sorted({r.dataset for r in speech})]
            pools = [corpus for corpus in corpora if len(_by_speaker(corpus)) >= number] or pools
        for index in range(count * len(pools)):
            group = _group(pools[index // count], number, index % 2 == 0, rng)
            names, sexes = tuple(row.id for row in group), _sexes(group)
            drawn = [_draw_span(audio(row), seconds, rng) for row in group]
            spans = tuple(drawn) if any(drawn) else ()
            base = f"{number}talkers_{index:03d}"
            scenes.append(Scene(base, names, sexes=sexes, spans=spans))
            if snrs:
                recording = noises[rng.integers(len(noises))]
                whole = [SAMPLES_PER_FRAME * len(span) if span else len(audio(row)) for row, span in zip(group, drawn)]
                source = Source((recording.id,), int(draw_offset(audio(recording), min(whole), rng)))
                noisy: Any = {"condition": "recorded", "sources": (source,), "sexes": sexes, "spans": spans}
                scenes += [Scene(f"{base}_{snr:+g}dB", names, snr=float(snr), **noisy) for snr in snrs]
    return scenes


def make_scene_file(
    manifest: str | Path | Sequence[str | Path],
    split: str,
    out: str | Path,
    *,
    snrs: Sequence[float] | None = None,
    conditions: Sequence[str] = ("recorded", "babble"),
    per_condition: int | Mapping[str, int] | None = None,
    per_corpus: int | None = None,
    reverb: tuple[float, float] | None = None,
    seconds: float | None = None,
    same_corpus: bool = False,
    unseen: bool = False,
    leave_out: int = 0,
    crops: str | Path | None = None,
    seed: int = 0,
) -> list[Scene]:
    """Draw scenes from one split of a manifest and write them.

    Arguments are those of `make_scenes`, or, where the conditions are `separation2`, `separation3`, ..., those of
    `make_separation_scenes`. Default SNRs: -5, 0 and 5 dB; of separation 5 dB.

    Arguments
    ---------
    per_corpus : int, optional
        In place of `per_condition`: so many targets or groups of each corpus that has a video.
    unseen : bool
        Leave out all speakers of the training split.
    leave_out : int
        Of separation: draw only from the clips that training left out, for tests of known speakers; see `SpeechSet`.
    crops : path, optional
        Folder that keeps tracked mouths, among which `silent` looks for mouths at rest.
    """
    utterances = read_manifest(manifest, splits=[split])
    if unseen:
        known = {row.speaker for row in read_manifest(manifest, splits=["train"])} - {""}
        utterances = [row for row in utterances if row.speaker not in known]
    speech = [row for row in utterances if row.kind != "noise" and row.clean]
    noises = [row for row in utterances if row.kind == "noise"]
    numbers = [speakers_of(condition) for condition in conditions]
    if per_corpus is not None and per_condition is not None:
        raise AvseError("Give either per_condition or per_corpus.")
    if max(numbers, default=1) == 1:
        if per_corpus is not None:
            per_condition = {name: per_corpus for name in sorted({row.dataset for row in speech if row.video})}
        drawing: Any = {"conditions": conditions, "per_condition": per_condition, "reverb": reverb, "seed": seed}
        drawing |= {"seconds": seconds, "same_corpus": same_corpus, "snrs": (-5.0, 0.0, 5.0) if snrs is None else snrs}
        with tempfile.TemporaryDirectory(prefix="avse-crops-") if crops is None else nullcontext(crops) as folder:
            scenes = make_scenes(speech, noises, pause=partial(pause_of, ClipCache(folder)), **drawing)
    elif min(numbers) == 1 or isinstance(per_condition, Mapping) or reverb is not None:
        raise AvseError("Scenes of separation go into a file of their own; give no other --condition with them.")
    else:
        if leave_out:
            speech = [row for row in speech if is_left_out(row.id, leave_out)]
        drawing = {"speakers": numbers, "snrs": (5.0,) if snrs is None else snrs, "seconds": seconds, "seed": seed}
        drawing |= {"count": per_corpus or per_condition or 20, "per_corpus": per_corpus is not None}
        try:
            scenes = make_separation_scenes(speech, noises, **drawing)
        except AvseError as error:
            named = manifest if isinstance(manifest, str | Path) else " with ".join(map(str, manifest))
            raise AvseError(f"{named}, split {split}: {error}") from None
    write_scenes(scenes, out, split=split, seed=seed)
    return scenes


def write_scenes(scenes: Iterable[Scene], path: str | Path, *, split: str = "test", seed: int = 0) -> None:
    """Write a scene file, in the layout for the number of speakers of its scenes."""
    scenes = list(scenes)
    several = any(len(scene.targets) > 1 for scene in scenes)
    mark, columns = _SEVERAL if several else _ONE
    version = VERSION if any(scene.spans or scene.is_silent for scene in scenes) else 1
    header = {"version": version, "split": split, "seed": seed, "sample_rate": 16000}
    rows: list[list[Any]] = [columns]
    for scene in scenes:
        snr, sources = _number(scene.snr), _pack(scene.sources)
        targets = " | ".join(name + (f" @ {span}" if span else "") for name, span in scene.shown)
        if several:
            rows.append([scene.id, targets, scene.sexes, sources, snr])
        else:
            room = [_number(scene.rt60), _number(scene.direct)]
            rows.append([scene.id, targets, scene.condition, snr, sources, scene.seed, *room])
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
        targets, spans = _targets(row["talkers"])
        scene = Scene(row["id"], targets, condition, snr, sources, sexes=row["sexes"], spans=spans)
        if len(scene.targets) < 2 or (not sources) != (snr is None):
            raise ValueError("it needs two speakers, and an SNR if there is noise")
        return scene
    sources, room = _unpack(row["sources"]), (_float(row["rt60"]), _float(row["direct"]))
    targets, spans = _targets(row["target"])
    scene = Scene(row["id"], targets, row["condition"], snr, sources, int(row["seed"]), *room, spans=spans)
    needed = 1 if scene.condition == "recorded" else _babble_speakers(scene.condition)
    finite, without_snr = snr is not None and bool(np.isfinite(snr)), scene.is_silent or scene.condition == _CLEAN
    if finite == without_snr or len(scene.sources) != needed or (scene.rt60 is None) != (scene.direct is None):
        snr_needed = "no SNR" if without_snr else "a finite SNR"
        raise ValueError(f"{scene.condition} needs {needed} source(s), {snr_needed} and rt60 with direct")
    if scene.is_silent != any(span is not None and span.frames is not None for span in spans):
        raise ValueError("a mouth at rest (30:42/100) goes with silent")
    return scene


def _targets(cell: str) -> tuple[tuple[str, ...], tuple[Span | None, ...]]:
    parts = [part.partition(" @ ") for part in cell.split(" | ")]
    spans = tuple(Span.parse(span) if at else None for _, at, span in parts)
    return tuple(name for name, _, _ in parts), spans if any(spans) else ()


def _babble_speakers(condition: str) -> int:
    if condition in ("recorded", _CLEAN, *COLOURS):
        return 0
    if match := _BABBLE.fullmatch(condition):
        return int(match[1] or 2)
    raise AvseError(
        f"There is no condition {condition!r}; there are recorded, babble, babbleN, babbleN_audio, silent, silentN, "
        f"clean, {', '.join(COLOURS)}, these with reverberant_ before, and separationN."
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
            for target in _pick_of_dataset([row for row in targets if row.dataset == dataset], dataset, number, seed)
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


def _pick_of_dataset(targets: Sequence[Utterance], dataset: str, count: int, seed: int) -> Sequence[Utterance]:
    """`_pick_targets`, with utterances that serve again where there are fewer: each speaker in turn."""
    if count <= len(targets):
        return _pick_targets(targets, count, seed)
    if not targets:
        raise AvseError(f"{count} targets of {dataset!r} were asked for, but the split has none.")
    rng = np.random.default_rng(seed)
    speakers = list(_by_speaker(targets).values())
    orders = [[rows[place] for place in rng.permutation(len(rows))] for rows in speakers]
    turns = [divmod(turn, len(orders)) for turn in range(count)]
    return [orders[speaker][rank % len(orders[speaker])] for rank, speaker in turns]


def _draw_span(audio: np.ndarray, seconds: float | None, rng: np.random.Generator) -> Span | None:
    """So many seconds at a random place that is not nearly silent; None where the whole is no longer."""
    frames = round((seconds or 0.0) * SAMPLE_RATE / SAMPLES_PER_FRAME)
    if seconds is None or frames * SAMPLES_PER_FRAME >= len(audio):
        return None
    first = draw_offset(audio, frames * SAMPLES_PER_FRAME, rng) // SAMPLES_PER_FRAME
    return Span(first, first + frames)


def _silent_target(
    target: Utterance,
    speech: Sequence[Utterance],
    pause: Callable[[Utterance], slice | None] | None,
    frames: int,
    rng: np.random.Generator,
) -> tuple[Utterance, Span]:
    """An utterance with a pause, and the mouth at rest: the target, or another of its speaker, or of its corpus."""
    own = [row for row in speech if row.speaker == target.speaker and row.id != target.id]
    others = [row for row in speech if row.dataset == target.dataset and row.speaker != target.speaker]
    shuffled = [group[place] for group in (own, others) for place in rng.permutation(len(group))]
    for row in [target, *shuffled]:
        found = pause(row) if pause is not None else None
        if found is not None:
            return row, Span(int(found.start), int(found.stop), frames)
    raise AvseError(f"No speaker of {target.dataset or 'the split'!r} is seen and silent for long enough (`silent`).")


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

"""Scene files of separation: who talks at once, and in which noise, written down so that it is the same everywhere.

A scene names its talkers by the ids of their utterances. All of them are equally loud over their active samples, begin
together, and are cut to the shortest. Talkers of one scene are different speakers of one corpus, seen on video. The
file begins with a comment, as that of other scenes; then comes CSV:

========= ==========================================================================================================
column    meaning
========= ==========================================================================================================
id        name of the mixture
talkers   ids of the utterances, joined by ` | `
sexes     `same` or `different`; empty where the manifest (column `sex`) does not say
noise     `id @ offset` (in samples at 16 kHz) of a recording; empty for none
snr       of all voices over the noise, in dB over their active samples; empty without noise
========= ==========================================================================================================
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from avse.data.audio import read_audio, write_audio
from avse.data.manifest import SPLITS, Utterance, is_left_out, read_manifest
from avse.data.mixing import active_samples, mix_at_snr
from avse.data.noises import cut_or_loop, draw_offset
from avse.data.scenes import sound_path
from avse.errors import AvseError
from avse.files import atomic_path

VERSION = 1
MANIFEST = "mixtures.csv"
_MARK = "# avse-separation-scenes "
_COLUMNS = ["id", "talkers", "sexes", "noise", "snr"]
_FILES = ["id", "mixture", "talkers", "clean", "video", "speaker", "sexes", "snr"]
_CONDITION = re.compile(r"separation(\d*)")
_LEVEL, _PEAK = 0.05, 0.99
_TRIES = 200


@dataclass(frozen=True)
class SeparationScene:
    """One mixture; the fields are the columns of the file."""

    id: str
    talkers: tuple[str, ...]
    sexes: str = ""
    noise: tuple[str, int] | None = None
    snr: float | None = None


@dataclass(frozen=True)
class Mixture:
    """One mixture that was written: its files, and who talks in it."""

    id: str
    mixture: Path
    talkers: tuple[str, ...]
    clean: tuple[Path, ...]
    video: tuple[Path, ...]
    speaker: tuple[str, ...]
    sexes: str = ""
    snr: float | None = None


def talkers_of(condition: str) -> int | None:
    """How many talk in a condition such as `separation3`; None for one of other scenes.

    >>> talkers_of("separation"), talkers_of("separation3"), talkers_of("babble")
    (2, 3, None)
    """
    match = _CONDITION.fullmatch(condition)
    return int(match[1] or 2) if match else None


def make_separation_scenes(
    manifest: str | Path,
    split: str,
    out: str | Path,
    *,
    talkers: Sequence[int] = (2, 3),
    snrs: Sequence[float] = (5.0,),
    count: int = 20,
    leave_out: int = 0,
    seed: int = 0,
) -> list[SeparationScene]:
    """Draw scenes from one split of a manifest and write them.

    For each number of talkers there are `count` groups, half of one sex where the manifest says so; each is mixed
    without noise, and with the same noise at each SNR.

    Arguments
    ---------
    manifest : path
    split : str
    out : path
        The file to write.
    talkers : sequence of int
    snrs : sequence of float
        In dB; none: all mixtures are without noise.
    count : int
        Groups for each number of talkers.
    leave_out : int
        Draw from the clips that training left out alone, for tests of known speakers: see `SpeechSet`. 0: from all.
    seed : int

    Returns
    -------
    list of SeparationScene

    Raises
    ------
    AvseError
        If the split has too few speakers that are seen, or no noise.
    """
    utterances = sorted(read_manifest(manifest, splits=[split]), key=lambda one: one.id)
    speech = [one for one in utterances if one.kind != "noise" and one.clean and one.video and one.speaker]
    speech = [one for one in speech if is_left_out(one.id, leave_out) or not leave_out]
    noises = [one for one in utterances if one.kind == "noise"]
    if snrs and not noises:
        raise AvseError(f"{manifest}: the split {split} holds no noise. Add some.")
    rng = np.random.default_rng(seed)
    sounds = lru_cache(maxsize=64)(lambda one: read_audio(sound_path(one)))
    scenes = []
    for number in talkers:
        for index in range(count):
            group = _group(speech, number, index % 2 == 0, rng, f"{manifest}, split {split}")
            sexes = _sexes(group)
            names = tuple(one.id for one in group)
            base = f"{number}talkers_{index:03d}"
            scenes.append(SeparationScene(base, names, sexes))
            if snrs:
                recording = noises[rng.integers(len(noises))]
                offset = draw_offset(sounds(recording), min(len(sounds(one)) for one in group), rng)
                scenes += [
                    SeparationScene(f"{base}_{snr:+g}dB", names, sexes, (recording.id, int(offset)), float(snr))
                    for snr in snrs
                ]
    with atomic_path(out) as path, open(path, "w", newline="", encoding="utf-8") as file:
        file.write(_MARK + json.dumps({"version": VERSION, "split": split, "seed": seed, "sample_rate": 16000}) + "\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for scene in scenes:
            noise = "" if scene.noise is None else f"{scene.noise[0]} @ {scene.noise[1]}"
            snr = "" if scene.snr is None else f"{scene.snr:g}"
            writer.writerow([scene.id, " | ".join(scene.talkers), scene.sexes, noise, snr])
    return scenes


def is_separation_file(path: str | Path) -> bool:
    """Whether a scene file is one of separation."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().startswith(_MARK)
    except (OSError, UnicodeDecodeError):
        return False


def read_separation_scenes(path: str | Path) -> tuple[list[SeparationScene], dict]:
    """Read a scene file of separation: the scenes, and its header (`version`, `split`, `seed`).

    Raises
    ------
    AvseError
        If it is none, was written by a later version, or a row is wrong; names file and line.
    """
    path = Path(path)
    scenes: list[SeparationScene] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header = json.loads(file.readline().removeprefix(_MARK))
            if header["version"] > VERSION or header["split"] not in SPLITS:
                raise AvseError(f"{path}:1: this avse reads version {VERSION}, and the splits {', '.join(SPLITS)}.")
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise AvseError(f"{path}:2: the columns must be {','.join(_COLUMNS)}.")
            for row in reader:
                try:
                    scenes.append(_scene(row))
                except (ValueError, AttributeError) as error:
                    place = f"{path}:{reader.line_num + 1}"
                    raise AvseError(f"{place}: this scene cannot be read ({error}).") from error
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, KeyError, TypeError) as error:
        raise AvseError(f"{path}: cannot be read as a scene file of separation ({error}).") from error
    if not scenes or len({one.id for one in scenes}) < len(scenes):
        raise AvseError(f"{path}: holds no scenes, or one id twice.")
    return scenes, header


def render_separation(
    scene_file: str | Path,
    manifest: str | Path,
    out: str | Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the mixtures of a scene file and the voices in them, and a list of them all.

    Arguments
    ---------
    scene_file, manifest : path
    out : path
        Folder.
    on_progress : callable, optional
        Called with how many are done, and of how many.

    Returns
    -------
    Path
        `mixtures.csv` in the folder.

    Raises
    ------
    AvseError
        If a scene names what the manifest lacks.
    """
    scenes, header = read_separation_scenes(scene_file)
    out = Path(out)
    known = {one.id: one for one in read_manifest(manifest, splits=[header["split"]])}
    rows = []
    for done, scene in enumerate(scenes, start=1):
        missing = [name for name in [*scene.talkers, *(scene.noise or ())[:1]] if name not in known]
        if missing:
            raise AvseError(f"{scene_file}: {scene.id} needs {missing[0]!r}, which {manifest} does not have.")
        talkers = [known[name] for name in scene.talkers]
        noise = None if scene.noise is None else (read_audio(sound_path(known[scene.noise[0]])), scene.noise[1])
        voices, mixture = mix_voices([read_audio(sound_path(one)) for one in talkers], noise, scene.snr)
        write_audio(out / f"{scene.id}.wav", mixture)
        files = [f"{scene.id}.talker{number}.wav" for number in range(1, len(talkers) + 1)]
        for file, voice in zip(files, voices):
            write_audio(out / file, voice)
        videos = [os.path.relpath(one.video, out) for one in talkers if one.video]
        snr = "" if scene.snr is None else f"{scene.snr:g}"
        joined = [" | ".join(part) for part in (scene.talkers, files, videos, [one.speaker for one in talkers])]
        rows.append([scene.id, f"{scene.id}.wav", *joined, scene.sexes, snr])
        if on_progress is not None:
            on_progress(done, len(scenes))
    with atomic_path(out / MANIFEST) as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_FILES)
        writer.writerows(rows)
    return out / MANIFEST


def mix_voices(
    voices: Sequence[np.ndarray], noise: tuple[np.ndarray, int] | None = None, snr: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Voices at one active level, cut to the shortest, in noise.

    Arguments
    ---------
    voices : sequence of array, shape (samples,)
    noise : (array, int), optional
        A recording, and where to begin in it.
    snr : float, optional

    Returns
    -------
    voices : array, shape (talkers, samples)
    mixture : array, shape (samples,)

    Example
    -------
    >>> voices, mixture = mix_voices([np.ones(3200), 5 * np.ones(1600)])
    >>> voices.shape, round(float(mixture[0]), 3)
    ((2, 1600), 0.1)
    """
    samples = min(map(len, voices))
    cut = np.stack([np.asarray(voice[:samples], dtype=np.float32) for voice in voices])
    levels = [np.sqrt(np.mean(voice[active_samples(voice)] ** 2)) + 1e-9 for voice in cut]
    cut = (_LEVEL * cut / np.array(levels)[:, None]).astype(np.float32)
    mixture = cut.sum(axis=0)
    if noise is not None and snr is not None:
        mixture, _ = mix_at_snr(mixture, cut_or_loop(noise[0], samples, noise[1]), snr)
    gain = np.float32(min(1.0, _PEAK / max(float(np.abs(mixture).max()), 1e-9)))
    return gain * cut, gain * mixture


def read_mixtures(path: str | Path) -> list[Mixture]:
    """The list of mixtures that `render_separation` wrote."""
    path = Path(path)
    path = path / MANIFEST if path.is_dir() else path
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _FILES:
                raise AvseError(
                    f"{path}: is no list of mixtures; its columns must be {','.join(_FILES)}. `avse scenes --condition "
                    "separation` and `avse mix` make one."
                )
            found = [_mixture(row, path) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, AttributeError, TypeError) as error:
        raise AvseError(f"{path}: cannot be read as a list of mixtures ({error}).") from error
    if not found:
        raise AvseError(f"{path}: lists no mixture.")
    return found


def _mixture(row: dict, path: Path) -> Mixture:
    talkers, clean, video, speaker = (tuple(row[name].split(" | ")) for name in _FILES[2:6])
    if not len(talkers) == len(clean) == len(video) == len(speaker):
        raise ValueError(f"{row['id']} has not as many files as talkers")
    folder = path.parent
    return Mixture(
        row["id"],
        folder / row["mixture"],
        talkers,
        tuple(folder / one for one in clean),
        tuple(folder / one for one in video),
        speaker,
        row["sexes"],
        float(row["snr"]) if row["snr"] else None,
    )


def _scene(row: dict) -> SeparationScene:
    noise = None
    if row["noise"]:
        name, offset = row["noise"].rsplit(" @ ", 1)
        noise = (name, int(offset))
    talkers = tuple(row["talkers"].split(" | "))
    if len(talkers) < 2 or (noise is None) != (not row["snr"]):
        raise ValueError("it needs two talkers, and an SNR with noise and only then")
    return SeparationScene(row["id"], talkers, row["sexes"], noise, float(row["snr"]) if row["snr"] else None)


def _group(
    speech: Sequence[Utterance], number: int, same: bool, rng: np.random.Generator, where: str
) -> list[Utterance]:
    """Utterances of different speakers of one corpus; of one sex or not, where that is known and possible."""
    corpora: dict[str, dict[str, list[Utterance]]] = {}
    for one in speech:
        corpora.setdefault(one.dataset, {}).setdefault(one.speaker, []).append(one)
    enough = [name for name, speakers in sorted(corpora.items()) if len(speakers) >= number]
    if not enough:
        most = max((len(speakers) for speakers in corpora.values()), default=0)
        raise AvseError(
            f"{where}: a mixture of {number} needs as many speakers of one corpus, with a video and a clean sound; "
            f"there are at most {most}."
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
    sexes = {one.extra.get("sex", "") for one in group}
    return "" if "" in sexes else "same" if len(sexes) == 1 else "different"

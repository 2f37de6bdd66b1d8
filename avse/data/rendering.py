"""Scenes to audio: the mixtures of a scene file, and the list of them.

Scenes with one speaker give `clean/`, `noise/` and `noisy/` (24-bit FLAC at 16 kHz) and `manifest.csv`, a manifest of
mixtures; its column `video_span` says which frames of the video go with one, where not all do. Scenes with several give
`<id>.wav`, `<id>.talker1.wav`, ... (32-bit) and `mixtures.csv`:

========== ======================================================================
column     meaning
========== ======================================================================
id         name of the mixture
mixture    its file
talkers    ids of the utterances, joined by ` | `
clean      their speech in the mixture, likewise
video      their videos, likewise
video_span which frames of these, likewise; empty for all; see `avse.data.scenes.Span`
speaker    who they are, likewise
sexes      `same`, `different` or empty
dataset    of the first speaker
snr        of all speech over the noise in dB; empty without noise
========== ======================================================================
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import read_audio, write_audio
from avse.data.manifest import Utterance, raise_together, read_manifest, write_manifest
from avse.data.mixing import mix_at_snr, speakers_at_one_level, sum_at_one_level
from avse.data.noises import COLOURS, coloured_noise, cut_or_loop
from avse.data.rooms import reverberate, room_response
from avse.data.scenes import Scene, audio_path, read_scenes
from avse.errors import AvseError
from avse.files import check_apart, file_below, write_csv

MANIFEST, MIXTURES = "manifest.csv", "mixtures.csv"
_OLD_COLUMNS = ["id", "mixture", "talkers", "clean", "video", "speaker", "sexes", "snr"]
_COLUMNS = [*_OLD_COLUMNS, "video_span", "dataset"]
_LEVEL = 0.05  # root mean square of each interfering speaker where the target is silent
_PEAK = 0.99
_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]  # clean, noise, noisy


@dataclass(frozen=True)
class Mixture:
    """One mixture to enhance or to separate: an utterance for each of its speakers, all with its audio as `noisy`.

    `utterances` have ids of their own; `extra["target"]` names the clean utterance.
    """

    id: str
    utterances: tuple[Utterance, ...]
    sexes: str = ""

    @property
    def first(self) -> Utterance:
        """The utterance of the first speaker, which tells what all share: noisy audio and SNR."""
        return self.utterances[0]


def render_scene(scene: Scene, audio: Callable[[str], np.ndarray]) -> _Parts:
    """Mix one scene; `audio` gives the audio of an id, an array of shape (samples,).

    Returns
    -------
    clean : array, shape (sources, samples), float32
    noise, noisy : array, shape (samples,), float32
        `noisy` is the sum of `clean` and `noise`, scaled together where they would clip. In a room, `clean` holds the
        first 50 ms of reflections, `noise` also the later ones, and the SNR counts all the reverberant speech.
    """
    speech = [span.cut(audio(name)) if span else audio(name) for name, span in scene.shown]
    clean = speakers_at_one_level(speech) if len(speech) > 1 else speech[0][None]
    heard = clean.sum(axis=0) if len(speech) > 1 else speech[0]
    samples = len(heard)
    chains = [(np.concatenate([audio(name) for name in source.ids]), source.offset) for source in scene.sources]
    cuts = [cut_or_loop(chain, samples, offset) for chain, offset in chains]
    rng = np.random.default_rng(scene.seed)
    noise = None
    if scene.condition in COLOURS:
        noise = coloured_noise(scene.condition, samples, rng)
    elif cuts:
        noise = cuts[0] if scene.condition == "recorded" else sum_at_one_level(cuts)
    if scene.rt60 is not None:
        heard, early = reverberate(heard, room_response(scene.rt60, scene.direct or 0.0, rng))
        clean = early[None]
    noisy = heard
    if noise is not None and scene.snr is not None:
        noisy = mix_at_snr(heard, noise, scene.snr)[0]
    elif noise is not None:
        noisy = heard + np.float32(_LEVEL) * noise
    peak = max(float(np.abs(part).max()) for part in (noisy, clean, noisy - clean.sum(axis=0)))
    gain = np.float32(min(1.0, _PEAK / peak) if peak > 0 else 1.0)
    clean, noisy = gain * clean, gain * noisy
    return clean, noisy - clean.sum(axis=0), noisy


def render_scenes(
    scene_file: str | Path,
    manifest: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the mixtures of a scene file and the list of them; see above. The audio is the same on every run.

    Arguments
    ---------
    manifest : path, or a list of them
        Lists the utterances and noises that the scenes name.
    jobs : int
        Scenes mixed at once.
    on_progress : callable, optional
        Called with the number of mixtures done and in all.

    Returns
    -------
    Path
        `manifest.csv` or `mixtures.csv` in the folder.

    Raises
    ------
    AvseError
        If scenes name ids that the manifest's split lacks or mix a speaker with himself; all of them together, with
        lines.
    """
    out_dir = Path(out_dir)
    scenes, header = read_scenes(scene_file)
    manifests = [manifest] if isinstance(manifest, str | Path) else manifest
    utterances = {row.id: row for row in read_manifest(manifests, splits=[header["split"]])}
    _check(scenes, utterances, scene_file, " with ".join(map(str, manifests)), header["split"])
    several = len(scenes[0].targets) > 1
    listed = out_dir / (MIXTURES if several else MANIFEST)
    files = [path for row in utterances.values() for path in (row.clean, row.noise, row.noisy, row.video) if path]
    outputs = [path for scene in scenes for path in _files_of(scene, out_dir)]
    check_apart([scene_file, *manifests, *files], [listed, *outputs])
    audio = lru_cache(maxsize=256)(lambda name: read_audio(audio_path(utterances[name])))
    write = _write_several if several else _write_one

    def render(scene: Scene) -> Any:
        return write(scene, utterances, out_dir, render_scene(scene, audio))

    rows: list[Any] = []
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            for row in pool.map(render, scenes):
                rows.append(row)
                if on_progress is not None:
                    on_progress(len(rows), len(scenes))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if several:
        write_csv(listed, [_COLUMNS, *rows])
    else:
        write_manifest(rows, listed)
    return listed


def mixture_list(path: str | Path) -> Path:
    """The list of mixtures in a folder that `render_scenes` wrote; a file as it is."""
    path = Path(path)
    if path.is_dir():
        return path / (MIXTURES if (path / MIXTURES).is_file() else MANIFEST)
    return path


def read_mixtures(path: str | Path, splits: Collection[str] | None = None) -> list[Mixture]:
    """Read a list of mixtures: a file or folder that `render_scenes` wrote, or any manifest with a column `noisy`.

    With `splits`, only these of a manifest are kept.

    Raises
    ------
    AvseError
        If the file cannot be read, or lists no mixture.
    """
    path, several = mixture_list(path), False
    mixtures: list[Mixture] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            several = reader.fieldnames in (_COLUMNS, _OLD_COLUMNS)
            mixtures = [_mixture(row, path.parent) for row in reader] if several else []
    except (OSError, csv.Error, ValueError, AttributeError, TypeError) as error:
        if several:
            raise AvseError(f"{path}: cannot be read as a list of mixtures ({error}).") from error
    if not several:
        utterances = read_manifest(path, splits=splits, kinds=["speech"])
        if not any(row.noisy for row in utterances):
            raise AvseError(
                f"{path}: no row names noisy audio, so there is nothing to enhance. Mix one with a scene file "
                "(`avse scenes`, `avse mix`), or add a column `noisy`."
            )
        return [Mixture(row.id, (row,)) for row in utterances]
    if not mixtures:
        raise AvseError(f"{path}: lists no mixture.")
    return mixtures


def _mixture(row: dict, folder: Path) -> Mixture:
    targets, clean, video, speakers = (row[name].split(" | ") for name in _COLUMNS[2:6])
    frames = row["video_span"].split(" | ") if row.get("video_span") else [""] * len(targets)
    if not len(targets) == len(clean) == len(video) == len(speakers) == len(frames):
        raise ValueError(f"{row['id']} has not as many files as speakers")
    utterances = tuple(
        Utterance(
            f"{row['id']}.voice{place}",
            clean=folder / files[0],
            noisy=folder / row["mixture"],
            video=folder / files[1],
            speaker=speakers[place - 1],
            snr=float(row["snr"]) if row["snr"] else None,
            dataset=row.get("dataset", ""),
            extra={"target": targets[place - 1], **({"video_span": frames[place - 1]} if frames[place - 1] else {})},
        )
        for place, files in enumerate(zip(clean, video), start=1)
    )
    return Mixture(row["id"], utterances, row["sexes"])


def _check(
    scenes: Sequence[Scene],
    utterances: Mapping[str, Utterance],
    scene_file: str | Path,
    manifest: str,
    split: str,
) -> None:
    problems = []
    for line, scene in enumerate(scenes, start=3):
        names = [*scene.targets, *(name for source in scene.sources for name in source.ids)]
        unknown = [name for name in names if name not in utterances]
        if unknown:
            problems.append(f"{scene_file}:{line}: {manifest} has no {unknown[0]!r} in its {split} split.")
            continue
        for target in (utterances[name] for name in scene.targets):
            if target.kind == "noise" or target.clean is None or (len(scene.targets) > 1 and target.video is None):
                problems.append(f"{scene_file}:{line}: target {target.id!r} is no clean speech (with a video).")
        speakers = {utterances[name].speaker for name in scene.targets} - {""}
        interfering = [utterances[name] for name in names[len(scene.targets) :] if utterances[name].kind != "noise"]
        if any(row.speaker in speakers for row in interfering):
            speaker = utterances[scene.target].speaker
            problems.append(f"{scene_file}:{line}: the babble holds speech of its target, {speaker!r}.")
    raise_together(f"{scene_file}: does not fit {manifest}.", problems, most=10)


def _files_of(scene: Scene, folder: Path) -> list[Path]:
    """The files of a scene: its clean, noise and noisy audio; of several speakers the mixture, then each of them."""
    if len(scene.targets) == 1:
        return [file_below(folder / part, scene.id, ".flac") for part in ("clean", "noise", "noisy")]
    marks = ["", *(f".talker{number}" for number in range(1, len(scene.targets) + 1))]
    return [file_below(folder, scene.id, f"{mark}.wav") for mark in marks]


def _write_one(scene: Scene, utterances: Mapping[str, Utterance], folder: Path, parts: _Parts) -> Utterance:
    """Write the files of a mixture of one speaker; its row of `manifest.csv`."""
    clean, noise, noisy = parts
    files = _files_of(scene, folder)
    for path, audio in zip(files, (clean[0], noise, noisy)):
        write_audio(path, audio)
    target = utterances[scene.target]
    recording = utterances[scene.sources[0].ids[0]] if scene.condition == "recorded" else None
    return Utterance(
        scene.id,
        clean=files[0],
        noise=files[1],
        noisy=files[2],
        video=target.video,
        speaker=target.speaker,
        text=target.text,
        split=target.split,
        label=recording.label if recording else scene.kind,
        recording=recording.recording if recording else "",
        dataset=target.dataset,
        duration=len(noisy) / SAMPLE_RATE,
        snr=scene.snr,
        offset=target.offset,
        extra={
            "condition": scene.kind,
            "target": scene.target,
            **({"video_span": str(scene.spans[0])} if scene.spans else {}),
        },
    )


def _write_several(scene: Scene, utterances: Mapping[str, Utterance], folder: Path, parts: _Parts) -> list[str]:
    """Write the files of a mixture of several speakers; its row of `mixtures.csv`."""
    clean, _, noisy = parts
    targets = [utterances[name] for name in scene.targets]
    paths = _files_of(scene, folder)
    for path, audio in zip(paths, [noisy, *clean]):
        write_audio(path, audio)
    mixture, *files = [path.relative_to(folder).as_posix() for path in paths]
    videos = [os.path.relpath(row.video, folder) for row in targets if row.video]
    joined = [" | ".join(cells) for cells in (scene.targets, files, videos, [row.speaker for row in targets])]
    snr = "" if scene.snr is None else f"{scene.snr:g}"
    frames = " | ".join(str(span or "") for _, span in scene.shown) if scene.spans else ""
    return [scene.id, mixture, *joined, scene.sexes, snr, frames, targets[0].dataset]

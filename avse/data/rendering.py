"""Scenes to sound: the noisy files of a written scene file, and their manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import read_audio, write_audio
from avse.data.manifest import Utterance, read_manifest, write_manifest
from avse.data.mixing import mix_at_snr
from avse.data.noises import COLOURS, coloured_noise, cut_or_loop, sum_voices
from avse.data.rooms import reverberate, room_response
from avse.data.scenes import Scene, read_scenes, sound_path
from avse.errors import AvseError

_PEAK = 0.99


def render_scene(scene: Scene, audio: Callable[[str], np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mix one scene.

    Arguments
    ---------
    scene : Scene
    audio : callable
        Gives the sound of an id, an array of shape (samples,).

    Returns
    -------
    clean, noise, noisy : array, shape (samples,), float32
        `noisy = clean + noise`, scaled together where they would clip. In a room, `clean` holds the first 50 ms of
        reflections, `noise` also the later ones, and the SNR counts all the reverberant speech.
    """
    speech = audio(scene.target)
    samples = len(speech)
    cuts = [
        cut_or_loop(np.concatenate([audio(name) for name in source.ids]), samples, source.offset)
        for source in scene.sources
    ]
    rng = np.random.default_rng(scene.seed)
    if scene.condition in COLOURS:
        noise = coloured_noise(scene.condition, samples, rng)
    elif scene.condition == "recorded":
        noise = cuts[0]
    else:
        noise = sum_voices(cuts)
    heard, clean = speech, speech
    if scene.rt60 is not None:
        heard, clean = reverberate(speech, room_response(scene.rt60, scene.direct or 0.0, rng))
    noisy, _ = mix_at_snr(heard, noise, scene.snr)
    peak = max(float(np.abs(part).max()) for part in (noisy, clean, noisy - clean))
    gain = np.float32(min(1.0, _PEAK / peak) if peak > 0 else 1.0)
    clean, noisy = gain * clean, gain * noisy
    return clean, noisy - clean, noisy


def render_scenes(
    scene_file: str | Path,
    manifest: str | Path,
    out_dir: str | Path,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the mixtures of a scene file.

    Arguments
    ---------
    scene_file : path
        From `avse.data.scenes`.
    manifest : path
        Lists the utterances and noises that the scenes name.
    out_dir : path
        Gets `clean/`, `noise/`, `noisy/` (24-bit FLAC at 16 kHz) and `manifest.csv`, which also names the original
        videos. The sound is the same on every run.
    jobs : int
        Scenes mixed at once.
    on_progress : callable, optional
        Called with the number of mixtures done and in all.

    Returns
    -------
    Path
        The new manifest.

    Raises
    ------
    AvseError
        If scenes name ids that the manifest's split lacks or mix a voice with itself; all of them together, with lines.
    """
    out_dir = Path(out_dir)
    scenes, header = read_scenes(scene_file)
    utterances = {one.id: one for one in read_manifest(manifest, splits=[header["split"]])}
    _check(scenes, utterances, scene_file, manifest, header["split"])
    audio = lru_cache(maxsize=256)(lambda name: read_audio(sound_path(utterances[name])))

    def render(scene: Scene) -> Utterance:
        parts = dict(zip(("clean", "noise", "noisy"), render_scene(scene, audio)))
        files = {part: out_dir / part / f"{scene.id}.flac" for part in parts}
        for part, sound in parts.items():
            write_audio(files[part], sound)
        return _row(scene, utterances, files, len(parts["clean"]) / SAMPLE_RATE)

    rows = []
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            for row in pool.map(render, scenes):
                rows.append(row)
                if on_progress is not None:
                    on_progress(len(rows), len(scenes))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    write_manifest(rows, out_dir / "manifest.csv")
    return out_dir / "manifest.csv"


def _check(
    scenes: Sequence[Scene],
    utterances: Mapping[str, Utterance],
    scene_file: str | Path,
    manifest: str | Path,
    split: str,
) -> None:
    problems = []
    for line, scene in enumerate(scenes, start=3):
        names = [scene.target, *(name for source in scene.sources for name in source.ids)]
        unknown = [name for name in names if name not in utterances]
        if unknown:
            problems.append(f"{scene_file}:{line}: {manifest} has no {unknown[0]!r} in its {split} split.")
            continue
        target = utterances[scene.target]
        if target.kind == "noise" or target.clean is None:
            problems.append(f"{scene_file}:{line}: target {target.id!r} is no clean speech.")
        voices = [utterances[name] for name in names[1:]]
        if any(one.speaker and one.speaker == target.speaker for one in voices if one.kind != "noise"):
            problems.append(f"{scene_file}:{line}: the babble holds the voice of its target, {target.speaker!r}.")
    if problems:
        more = [f"... and {len(problems) - 10} more."] if len(problems) > 10 else []
        raise AvseError("\n  ".join([f"{scene_file}: does not fit {manifest}.", *problems[:10], *more]))


def _row(scene: Scene, utterances: Mapping[str, Utterance], files: Mapping[str, Path], duration: float) -> Utterance:
    target = utterances[scene.target]
    recording = utterances[scene.sources[0].ids[0]] if scene.condition == "recorded" else None
    return Utterance(
        scene.id,
        clean=files["clean"],
        noise=files["noise"],
        noisy=files["noisy"],
        video=target.video,
        speaker=target.speaker,
        text=target.text,
        split=target.split,
        label=recording.label if recording else scene.condition,
        recording=recording.recording if recording else "",
        dataset=target.dataset,
        duration=duration,
        snr=scene.snr,
        extra={"condition": scene.condition, "target": scene.target},
    )

"""Enhancing files: one at a time in bounded memory, or many with several workers."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse.contracts.plugin import Plugin
from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, VIDEO_RATE, video_frames
from avse.devices import AUTO
from avse.errors import AvseError, AvseWarning
from avse.files import append_line, check_apart, named, read_lines, remove_stale, write_json, write_text
from avse.jobs.audio import Audio, Level, Treatment, check_treatment
from avse.jobs.faces import SPEAKING, SeenFace, rounded_frames, seen_faces, speaking_face
from avse.jobs.files import clock, default_output, find_media, rounded, targets_of, timed
from avse.model import Model, check_told, is_described, load, told_overrides
from avse.overlap import CHUNK_SECONDS, OVERLAP_SECONDS, check_seconds
from avse.synchrony import CONFIDENT, LONGEST_SECONDS, SyncEstimate, estimate_offset, offset_of
from avse.tracks import AudioTrack, audio_tracks, parse_track, speech_track
from avse.workers import is_pooled, run_all

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress
    from typing_extensions import Unpack

    from avse.media.reader import Chunk, ClipReader
    from avse.model import Asked
    from avse.scene import Description
    from avse.sources import Decoding

    class Options(Asked, Treatment, total=False):
        """How a file is read, what its noise is, and what is made of its speech."""


# A longer plot is unreadable, and would need the whole clip in memory.
PLOT_SECONDS = 120
_NOTES = ".avse.json"  # in a folder of outputs: by what each was made, and since when
_CLOCK = 20_000_000  # nanoseconds by which the times of files may lag behind
_Task = tuple[Path, dict[str, Any]]  # a file, and arguments of `enhance_file`


@dataclass
class ToldNoise:
    """What was understood of a description of the noise.

    Arguments
    ---------
    nearest : list of (str, float)
        The known classes of noise that are closest to it, and their cosines.
    trust : float or None
        How far it was trusted after the audio was heard, in [0, 1]; None if the system does not tell.
    """

    nearest: list[tuple[str, float]]
    trust: float | None


@dataclass
class Report:
    """What was done with one file.

    Arguments
    ---------
    input, output : str
    model, licence : str
        Its name, and on what terms its weights may be used.
    seconds : float
        Length of the audio.
    sample_rate, channels : int
        Of the input and, unless asked otherwise, of the output.
    before, after : Level
        Peak and loudness of the audio that was given, and of that which was written.
    video : str or None
        File of the video.
    valid_share : float
        Share of frames in which the mouth was seen.
    offset : float
        Seconds by which the audio was taken to be late relative to the video.
    offset_confidence : float or None
        Probability that the estimated offset is right within one video frame; None: it was given.
    reliability : list of float
        By video frame (25 per second): how far the video was trusted.
    timings : dict
        Seconds of wall time for reading (decoding and tracking), enhancing, and writing; and for choosing the face that
        speaks and finding the offset, where they were asked for, with the reading of the first minute.
    real_time_factor : float
        Their sum over `seconds`; loading the model is not in it.
    warnings : list of str
    audio_reliability : list of float or None
        By video frame: how far the audio was trusted; None if the model does not tell.
    speaking : list of float or None
        By video frame: the probability that the person seen speaks; None if the model does not tell.
    frame_rate : int
        Video frames per second of `reliability`, `speaking` and `boxes`; frame i lasts from i to i + 1 over this,
        in seconds.
    faces : list of SeenFace
        Where the face that speaks was asked for and there are several: what the model says of each.
    face : str or None
        Name of the one of them that was followed.
    boxes : list of (list of float or None)
        By video frame, on the clock of the audio without the offset: the face that was followed, as x, y, width and
        height relative to the width and height of the frame. Empty where the video shows mouth crops, or there is none.
    track : int
        The audio track that was enhanced, from 0.
    tracks : list of AudioTrack
        Where it was chosen among several: what the model says of each.
    rest : str or None
        File of what was taken away.
    noise : ToldNoise or None
        Where the noise was described: what was understood.
    """

    input: str
    output: str
    model: str
    licence: str
    seconds: float
    sample_rate: int
    channels: int
    before: Level
    after: Level
    video: str | None
    valid_share: float
    offset: float
    offset_confidence: float | None
    reliability: list[float]
    timings: dict[str, float]
    real_time_factor: float
    warnings: list[str] = field(default_factory=list)
    audio_reliability: list[float] | None = None
    speaking: list[float] | None = None
    frame_rate: int = VIDEO_RATE
    faces: list[SeenFace] = field(default_factory=list)
    face: str | None = None
    boxes: list[tuple[float, ...] | None] = field(default_factory=list)
    track: int = 0
    tracks: list[AudioTrack] = field(default_factory=list)
    rest: str | None = None
    noise: ToldNoise | None = None


def enhance_file(
    model: Model,
    source: str | Path,
    output: str | Path | None = None,
    *,
    plot: str | Path | None = None,
    rest: str | Path | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
    progress: Progress | None = None,
    watch: Callable[[Chunk], None] = lambda chunk: None,
    offset: float | str = 0.0,
    track: int | str = AUTO,
    mono: bool = False,
    band: str = "full",
    mix: float = 1.0,
    max_attenuation: float | None = None,
    loudness: str | float | None = None,
    noise: Description | Sequence[Description] = (),
    not_noise: Description | Sequence[Description] = (),
    reader: ClipReader | None = None,
    **reading: Unpack[Decoding],
) -> Report:
    """Enhance a file of any length in bounded memory.

    Arguments
    ---------
    model : Model
    source : path
        A video with audio, or audio alone.
    output : path, optional
        File to write: .wav, .flac or another audio format for the speech alone; a video format for the unchanged
        video with the new audio. Default: `<name>.enhanced<suffix>` beside the source. It has the rate and the
        channels of the source, and all that a file of its format can hold of the source: see `ClipWriter`.
    plot : path, optional
        Plot of the spectrograms over the reliability (of the first two minutes).
    rest : path, optional
        File of what was taken away, at the rate and with the channels of the output.
    chunk_seconds : float
        Length of the chunks in which a longer file is processed.
    progress : rich.progress.Progress, optional
        Where to show how far it is.
    watch : callable, optional
        Takes each chunk as it is read, with the mouths that the model sees.
    video, use_video, roi, face, tracker :
        How the video of the face is read: see `avse.media.read_clip`. Of several faces, `speaking` follows the one
        whose lips go with the audio, by what the model says of each over the whole file; it takes one more pass for
        each face.
    offset : float or "auto"
        Seconds by which the audio is late relative to the video; see `avse.synchrony.offset_of`. The model's view of
        the video is moved; what is written is not.
    track : int or "auto"
        Which audio track, from 0; "auto": the one that holds speech, by the model's estimate of it.
    mono, band, mix, max_attenuation, loudness :
        See `avse.jobs.audio.Audio`.
    noise, not_noise : description or several
        What the noise is, and what it is not: see `avse.scene.describe`. `auto` is the first minute of the file.
    reader : ClipReader, optional
        The source, opened and not yet read, in place of the options of reading; it is closed. Where it has another
        track than the one to enhance, the source is opened again.

    Returns
    -------
    Report

    Raises
    ------
    AvseError
        If the file cannot be read or the output cannot be written; nothing half-written is left.
    """
    from avse.media import ClipWriter, open_clip

    check_treatment(band, mix, max_attenuation, loudness)
    check_seconds(chunk_seconds)
    source = Path(source)
    output = default_output(source) if output is None else Path(output)
    timings = {"read": 0.0, "enhance": 0.0, "write": 0.0}
    shown: dict[str, list[np.ndarray]] = {"noisy": [], "enhanced": []}
    reliability: list[float] = []
    of_audio: list[float] = []
    speaking: list[float] = []
    trust: list[float] = []
    valid: list[bool] = []
    seconds_late = offset_of(offset)
    faces: list[SeenFace] = []
    number, tracks = parse_track(track), list[AudioTrack]()
    if number is None:
        if reader is None or reader.info.tracks > 1:
            tracks = audio_tracks(model.enhance_batch, source)
        number = speech_track(tracks)
    if reading.get("face") == SPEAKING:
        with clock(timings, "choose"):
            faces = seen_faces(model, source, seconds_late, chunk_seconds=chunk_seconds, track=number, **reading)
        reading["face"] = speaking_face(faces)
    if reader is not None and reader.info.track != number:
        reader.close()
        reader = None
    with reader or open_clip(source, track=number, **reading) as reader:
        if number and tracks:
            reader.info.warnings.append(
                f"audio track {number} of {len(tracks)} holds the speech, and is enhanced; --track chooses another"
            )
        audio = Audio(reader, mono=mono, band=band, mix=mix, max_attenuation=max_attenuation, loudness=loudness)
        estimate = None
        if seconds_late is None:
            with clock(timings, "align"):
                estimate = estimate_offset(reader.head(LONGEST_SECONDS), model.device)
            seconds_late = estimate.applied

        def itself() -> tuple[np.ndarray, Path | None]:
            head = reader.head(LONGEST_SECONDS)
            return head.audio, reader.info.video_path if head.valid.any() else None

        scene = model.scene_of(noise, not_noise, itself)
        reader.offset = seconds_late
        task = None if progress is None else progress.add_task(source.name, total=reader.info.duration, unit="s")

        def chunks() -> Iterator[Any]:
            parts = reader.chunks(chunk_seconds, overlap_seconds=min(OVERLAP_SECONDS, chunk_seconds / 2))
            for chunk in timed(parts, timings, "read"):
                valid.extend(chunk.clip.valid[chunk.overlap // SAMPLES_PER_FRAME :].tolist())
                audio.hear(chunk.clip.audio[chunk.overlap :])
                watch(chunk)
                if plot is not None and chunk.start < PLOT_SECONDS * SAMPLE_RATE:
                    shown["noisy"].append(chunk.clip.audio[chunk.overlap :])
                yield chunk

        def speech() -> Iterator[np.ndarray]:
            written = 0
            for piece in timed(model.stream(chunks(), None if scene is None else scene.vector), timings, "enhance"):
                reliability.extend(rounded_frames(piece.reliability))
                of_audio.extend([] if piece.audio_reliability is None else rounded_frames(piece.audio_reliability))
                speaking.extend([] if piece.speaking is None else rounded_frames(piece.speaking))
                trust.extend([] if piece.scene_trust is None else [float(piece.scene_trust)])
                if plot is not None and written < PLOT_SECONDS * SAMPLE_RATE:
                    shown["enhanced"].append(piece.speech.numpy())
                written += len(piece.speech)
                if progress is not None and task is not None:
                    progress.update(task, completed=written / SAMPLE_RATE)
                yield piece.speech.numpy()

        try:
            with clock(timings, "write"), ExitStack() as stack:
                made = {"channels": audio.channels, "given_rate": audio.rate}
                writer = stack.enter_context(ClipWriter(output, reader, **made))
                other = None if rest is None else stack.enter_context(ClipWriter(rest, reader, **made))
                for block in audio.treated(speech(), None if other is None else other.write):
                    writer.write(block)
        finally:
            if progress is not None and task is not None:
                progress.remove_task(task)
        seconds = reader.samples / reader.info.sample_rate
        if plot is not None:
            _plot(plot, shown, {"reliability": reliability, "audio_reliability": of_audio, "valid": valid}, source.name)
        before, after = audio.levels()
        return Report(
            input=named(source),
            output=named(output),
            model=model.name,
            licence=model.licence,
            seconds=seconds,
            sample_rate=reader.info.sample_rate,
            channels=reader.info.channels,
            before=before,
            after=after,
            video=None if reader.info.video_path is None else named(reader.info.video_path),
            valid_share=sum(valid) / max(1, len(valid)),
            offset=reader.offset,
            offset_confidence=None if estimate is None else round(estimate.confidence, 4),
            reliability=reliability,
            timings=rounded(timings),
            real_time_factor=round(sum(timings.values()) / max(seconds, 1e-9), 4),
            warnings=[*reader.info.warnings, *_left_alone(estimate)],
            audio_reliability=of_audio or None,
            speaking=speaking or None,
            faces=faces,
            face=faces[int(reading["face"])].name if faces else None,
            boxes=reader.boxes[: len(valid)] if any(reader.boxes) else [],
            track=number,
            tracks=tracks,
            rest=None if rest is None else named(rest),
            noise=None if scene is None else ToldNoise(scene.nearest, _mean(trust)),
        )


def enhance_files(
    inputs: Sequence[str | Path],
    *,
    output: str | Path | None = None,
    model: str | Path = "avse-small",
    plot: str | Path | None = None,
    rest: str | Path | None = None,
    json_path: str | Path | None = None,
    device: str = AUTO,
    jobs: int = 1,
    overrides: dict[str, Any] | None = None,
    resume: bool = False,
    on_done: Callable[[Report], None] = lambda report: None,
    show_progress: bool = True,
    reader: ClipReader | None = None,
    **options: Unpack[Options],
) -> tuple[list[Report], dict[str, str]]:
    """Enhance files, folders and patterns.

    Arguments
    ---------
    inputs : sequence of paths
        Files, folders (all media in them), and patterns such as `talks/*.mp4`.
    output : path, optional
        For one file: the file to write, or a folder. For several: a folder.
    model : str or path
        See `avse.load`.
    plot : path, optional
        For one file: the plot. For several: a folder.
    rest : path, optional
        What was taken away; for several files: a folder.
    json_path : path, optional
        Where to write the reports: a `.json` file gets the list of all at the end; a `.jsonl` file gets a line for each
        input as soon as it is done, or has failed (`input` and `error`); a folder gets a file for each input.
    device : str
    jobs : int
        Worker processes.
    overrides : dict, optional
        Changes of the model's recipe: see `avse.load`.
    resume : bool
        Pass over inputs whose output is there, not older, and by the same model and options, and keep their lines of
        the `.jsonl` file. A hidden file beside the outputs, `.avse.json`, tells by what they were made; it is written
        where there are several inputs, or with `resume`.
    on_done : callable, optional
        Takes each report as soon as its file is done.
    show_progress : bool
    reader : ClipReader, optional
        For one file: see `enhance_file`.
    video, use_video, roi, face, tracker, offset, track, mono, band, mix, max_attenuation, loudness, noise, not_noise :
        As in `enhance_file`; `video` goes with one input only. Where the noise is described, a model with a noise model
        has `conditioned_nmf` for it, unless `overrides` name another.

    Returns
    -------
    reports : list of Report
    failures : dict
        Message by input that failed. The others are enhanced all the same.

    Raises
    ------
    AvseError
        If nothing matches, the model cannot be loaded, options do not go together, or an output is an input.
    """
    sources = find_media(inputs)
    offset_of(options.get("offset", 0.0))
    parse_track(options.get("track", AUTO))
    check_treatment(**options)
    several = len(sources) > 1
    if several and options.get("video") is not None:
        raise AvseError(f"--video goes with one input; {len(sources)} were given.")
    targets = targets_of(sources, output, lambda source: default_output(source).name, "output")
    plots = targets_of(sources, plot, lambda source: f"{source.stem}.png", "plot") if plot is not None else {}
    rests = targets_of(sources, rest, lambda source: f"{source.stem}.wav", "rest") if rest is not None else {}
    if plots:
        from avse.evaluation.plots.figure import check_format

        for path in plots.values():
            check_format(path)
    whole = [] if json_path is None or not Path(json_path).suffix or Path(json_path).is_dir() else [Path(json_path)]
    lines = whole[0] if whole and whole[0].suffix == ".jsonl" else None
    each = json_path is not None and not whole
    files = targets_of(sources, json_path, lambda source: f"{source.stem}.json", "json") if each else {}
    video = options.get("video")
    written = [*targets.values(), *plots.values(), *rests.values(), *files.values(), *whole]
    described = is_described(options)
    given: list[Any] = [*sources, *([] if video is None else [video])]
    if described:
        from avse import scene

        given += scene.files_of(options.get("noise", ())) + scene.files_of(options.get("not_noise", ()))
        overrides = dict(told_overrides(model, overrides))
    check_apart(given, written)
    named_inputs = [Path(item) for item in inputs if Path(item).is_file()]  # also those that are passed over
    loaded = load(model, device, overrides)  # a model that cannot be loaded is told once, here
    made_by = _fingerprint(loaded, {**options, "plot": plot is not None, "rest": rest is not None})
    if resume:
        remove_stale(targets.values())
        others = [
            source for source in sources if _is_new(source, targets[source]) and not _is_by(targets[source], made_by)
        ]
        sources = [source for source in sources if source in others or not _is_new(source, targets[source])]
        if others:
            count = f"{len(others)} of {len(targets)} files"
            anew = (
                f"{count} are there by another model or other options, or nothing says by which, and are enhanced anew"
            )
            warnings.warn(anew, AvseWarning, stacklevel=2)
    if resume and len(sources) < len(targets):
        done_before = f"{len(targets) - len(sources)} of {len(targets)} files are enhanced already, and passed over"
        warnings.warn(done_before, AvseWarning, stacklevel=2)
    check_apart([*given, *named_inputs], [targets[source] for source in sources])
    if described:  # so is a description that cannot be read
        check_told(loaded)
        options["noise"] = scene.read_once(options.get("noise", ()))
        options["not_noise"] = scene.read_once(options.get("not_noise", ()))
    tasks: list[_Task] = [
        (source, {**options, "output": targets[source], "plot": plots.get(source), "rest": rests.get(source)})
        for source in sources
    ]
    if lines is not None:
        passed = {str(source): {"input": str(source), "output": str(targets[source])} for source in targets}
        for source in sources:
            del passed[str(source)]
        known = {row.get("input"): row for row in read_lines(lines) if "error" not in row}
        kept = [known.get(source, facts) for source, facts in passed.items()]
        write_text(lines, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    parallel = is_pooled(jobs) and len(sources) > 1
    reports: dict[Path, Report] = {}
    failures: dict[str, str] = {}
    with _progress_bar(show_progress) as progress, _noted(several or resume, tasks, made_by):
        done: Iterable[tuple[_Task, Any]]
        if parallel:
            done = run_all(_Worker, (model, device, overrides), tasks, jobs)
        else:
            done = _one_by_one(tasks, loaded, progress, reader)
        overall = None
        if progress is not None:
            unit = f"of {len(tasks)} files"
            overall = progress.add_task("Enhancing", total=len(tasks), unit=unit, visible=several)
        for (source, _), result in done:
            if progress is not None and overall is not None:
                progress.advance(overall)
            if isinstance(result, Report):
                reports[source] = result
                if source in files:
                    write_json(files[source], [asdict(result)])
                on_done(result)
            else:
                failures[str(source)] = str(result)
            if lines is not None:
                row = (
                    asdict(result)
                    if isinstance(result, Report)
                    else {"input": named(source), "error": named(str(result))}
                )
                append_line(lines, row)
    ordered = [reports[source] for source in sources if source in reports]
    if whole and lines is None:
        write_json(whole[0], [asdict(report) for report in ordered])
    return ordered, failures


def _is_new(source: Path, target: Path) -> bool:
    """Whether an output is there and not older than its input; what is there is whole."""
    try:
        return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False


def _fingerprint(model: Model, options: dict[str, Any]) -> str:
    """What outputs depend on, beside their inputs."""
    digest = hashlib.sha256(model.recipe.encode())
    for name, value in model.system.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    for name, value in sorted(options.items()):
        for part in value if isinstance(value, (list, tuple)) else [value]:
            told = name, None if part is None else str(part)
            digest.update(json.dumps(told).encode())
            with suppress(OSError, ValueError):  # what is no file
                digest.update(Path(part).read_bytes() if isinstance(part, (str, Path)) else b"")
    return digest.hexdigest()[:16]


def _notes(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _NOTES).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_by(target: Path, made_by: str) -> bool:
    """Whether an output was made by a model with options: after the note which says that it was to be."""
    made, began = (*_notes(target.parent).get(target.name, ()), None, 0)[:2]
    return bool(made == made_by and target.stat().st_mtime_ns >= began)


@contextmanager
def _noted(is_noted: bool, tasks: Sequence[_Task], made_by: str) -> Iterator[None]:
    """Note by what outputs will be made, before they are: what is older than the note is of another run.

    In the end, also of a run that is interrupted, notes of outputs that are not there are removed.
    """
    targets = [Path(arguments["output"]) for _, arguments in tasks] if is_noted else []
    folders = {target.parent for target in targets}
    for folder in folders:
        began = time.time_ns() - _CLOCK
        fresh = {target.name: [made_by, began] for target in targets if target.parent == folder}
        write_json(folder / _NOTES, {**_notes(folder), **fresh})
    try:
        yield
    finally:
        for folder in folders:
            known = _notes(folder)
            there = {name: note for name, note in known.items() if (folder / name).is_file()}
            with suppress(OSError, AvseError):  # a full disk, and a folder that is gone
                if not there:
                    (folder / _NOTES).unlink(missing_ok=True)
                elif there != known:
                    write_json(folder / _NOTES, there)


@contextmanager
def _progress_bar(shown: bool) -> Iterator[Progress | None]:
    """Bars on stderr: seconds of audio of each file that is enhanced, and files."""
    if not shown:  # nor imported
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from avse.progress import RateColumn

    unit = TextColumn("{task.completed:.0f} {task.fields[unit]}")
    columns = TextColumn("{task.description}"), BarColumn(), unit, RateColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


class _Worker:
    """What a process does: it loads the model once and enhances files."""

    def __init__(self, *model: Any) -> None:
        self.model = load(*model)

    def __call__(self, task: _Task) -> Report:
        with _told(task[0]):
            return enhance_file(self.model, task[0], **task[1])


def _one_by_one(
    tasks: Sequence[_Task], model: Model, progress: Progress | None, reader: ClipReader | None
) -> Iterator[tuple[_Task, Any]]:
    for source, arguments in tasks:
        result: Report | AvseError
        try:
            with _told(source) if len(tasks) > 1 else nullcontext():
                result = enhance_file(model, source, progress=progress, reader=reader, **arguments)
        except AvseError as error:
            result = error
        yield (source, arguments), result


@contextmanager
def _told(source: Path) -> Iterator[None]:
    """Any error is an `AvseError` that names the file and the plugin, so that the others go on."""
    try:
        yield
    except AvseError:
        raise
    except Exception as error:
        owner, place = "", ""
        for frame, line in traceback.walk_tb(error.__traceback__):
            part = frame.f_locals.get("self")
            if isinstance(part, Plugin) and part.plugin_kind:
                owner = f"the plugin {part.plugin_kind}/{part.plugin_name} failed: "
                place = f" ({Path(frame.f_code.co_filename).name}, line {line})"
        raise AvseError(f"{source}: {owner}{type(error).__name__}: {error}{place}") from error


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _left_alone(estimate: SyncEstimate | None) -> list[str]:
    """What to say where an offset was looked for and none was sure enough."""
    if estimate is None or estimate.confidence >= CONFIDENT:
        return []
    if not estimate.frames:
        return ["the offset was left at 0: no mouth is seen, or too little of it"]
    return [
        f"the offset was left at 0: the best guess, {estimate.offset_seconds:+.2f} s, has a confidence of "
        f"{estimate.confidence:.0%}, less than {CONFIDENT:.0%}"
    ]


def _plot(path: str | Path, shown: dict[str, list[np.ndarray]], by_frame: dict[str, list[Any]], title: str) -> None:
    import numpy as np

    from avse.evaluation.plots.spectrograms import plot_estimate

    noisy, enhanced = np.concatenate(shown["noisy"]), np.concatenate(shown["enhanced"])
    samples = min(len(noisy), len(enhanced), PLOT_SECONDS * SAMPLE_RATE)
    frames = video_frames(samples)
    known = {name: np.asarray(values[:frames]) for name, values in by_frame.items() if values}
    plot_estimate(path, noisy[:samples], enhanced[:samples], **known, title=title)

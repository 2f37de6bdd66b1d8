"""Enhancing files: one at a time in bounded memory, or many with several workers."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse import plugins
from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.files import atomic_path
from avse.model import Model, load
from avse.overlap import CHUNK_SECONDS, OVERLAP_SECONDS

if TYPE_CHECKING:
    from rich.progress import Progress

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".wma", ".aiff")
MEDIA_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".ts", ".flv", *AUDIO_SUFFIXES)
_MARK = ".enhanced"
# A picture of more than this is unreadable, and would need the whole clip in memory.
_PLOT_SECONDS = 120


@dataclass
class Report:
    """What was done with one file.

    Arguments
    ---------
    input, output : str
    model : str
    seconds : float
        Length of the sound.
    sample_rate : int
        Of input and output, in Hz.
    video : str or None
        File of the pictures.
    valid_share : float
        Share of frames in which the mouth was seen.
    reliability : list of float
        By video frame (25 per second): how far the video was trusted.
    timings : dict
        Seconds of wall time for reading (decoding and tracking), enhancing, and writing.
    real_time_factor : float
        Their sum over `seconds`; loading the model is not in it.
    warnings : list of str
    """

    input: str
    output: str
    model: str
    seconds: float
    sample_rate: int
    video: str | None
    valid_share: float
    reliability: list[float]
    timings: dict[str, float]
    real_time_factor: float
    warnings: list[str] = field(default_factory=list)


def enhance_file(
    model: Model,
    source: str | Path,
    output: str | Path | None = None,
    *,
    video: str | Path | None = None,
    use_video: bool = True,
    roi: str = "auto",
    face: str | int = "largest",
    tracker: str | None = None,
    plot: str | Path | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
    progress: Progress | None = None,
) -> Report:
    """Enhance a file of any length in bounded memory.

    Arguments
    ---------
    model : Model
    source : path
        A video with sound, or sound alone.
    output : path, optional
        File to write: .wav, .flac or another sound format for the voice alone; a video format for the untouched
        video with the new sound. Default: `<name>.enhanced<suffix>` beside the source.
    video : path, optional
        A separate video of the talking face.
    use_video : bool
        False: sound only.
    roi, face, tracker : str
        See `avse.media.read_clip`.
    plot : path, optional
        Picture of the spectrograms over the reliability (of the first two minutes).
    chunk_seconds : float
        Length of the chunks in which a longer file is processed.
    progress : rich.progress.Progress, optional
        Where to show how far it is.

    Returns
    -------
    Report

    Raises
    ------
    AvseError
        If the file cannot be read or the output cannot be written; nothing half-written is left.
    """
    from avse.media import open_clip, write_enhanced

    source = Path(source)
    output = default_output(source) if output is None else Path(output)
    timings = {"read": 0.0, "enhance": 0.0, "write": 0.0}
    shown: dict[str, list[Any]] = {"noisy": [], "enhanced": [], "valid": []}
    reliability: list[float] = []
    seen: list[bool] = []
    with open_clip(source, video=video, use_video=use_video, roi=roi, face=face, tracker=tracker) as reader:
        task = None
        if progress is not None:
            task = progress.add_task(source.name, total=reader.info.duration)

        def chunks() -> Iterable[Any]:
            iterator = iter(reader.chunks(chunk_seconds, overlap_seconds=OVERLAP_SECONDS))
            while True:
                began = time.perf_counter()
                chunk = next(iterator, None)
                timings["read"] += time.perf_counter() - began
                if chunk is None:
                    return
                new = chunk.clip.valid[chunk.overlap // 640 :]
                seen.extend(new.tolist())
                if plot is not None and chunk.start < _PLOT_SECONDS * SAMPLE_RATE:
                    shown["noisy"].append(chunk.clip.audio[chunk.overlap :])
                yield chunk

        def voice() -> Iterable[Any]:
            written = 0
            pieces = iter(model.stream(chunks()))
            while True:
                began, reading = time.perf_counter(), timings["read"]
                piece = next(pieces, None)
                timings["enhance"] += time.perf_counter() - began - (timings["read"] - reading)
                if piece is None:
                    return
                reliability.extend(piece.reliability.tolist())
                if plot is not None and written < _PLOT_SECONDS * SAMPLE_RATE:
                    shown["enhanced"].append(piece.speech.numpy())
                written += len(piece.speech)
                if progress is not None and task is not None:
                    progress.update(task, completed=written / SAMPLE_RATE)
                yield piece.speech.numpy()

        began = time.perf_counter()
        write_enhanced(reader, output, voice())
        timings["write"] = time.perf_counter() - began - timings["read"] - timings["enhance"]
        seconds = reader.samples / reader.info.sample_rate
        if plot is not None:
            _plot(plot, shown, reliability, seen, title=source.name)
        return Report(
            input=str(source),
            output=str(output),
            model=model.name,
            seconds=seconds,
            sample_rate=reader.info.sample_rate,
            video=None if reader.info.video_path is None else str(reader.info.video_path),
            valid_share=sum(seen) / max(1, len(seen)),
            reliability=[round(value, 4) for value in reliability],
            timings={name: round(value, 4) for name, value in timings.items()},
            real_time_factor=round(sum(timings.values()) / max(seconds, 1e-9), 4),
            warnings=list(reader.info.warnings),
        )


def enhance_files(
    inputs: Sequence[str | Path],
    *,
    output: str | Path | None = None,
    model: str | Path = "avse-small",
    video: str | Path | None = None,
    use_video: bool = True,
    roi: str = "auto",
    face: str | int = "largest",
    tracker: str | None = None,
    plot: str | Path | None = None,
    json_path: str | Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    overrides: dict[str, Any] | None = None,
    show_progress: bool = True,
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
    video, use_video, roi, face, tracker :
        As in `enhance_file`; `video` goes with one input only.
    plot : path, optional
        For one file: the picture. For several: a folder.
    json_path : path, optional
        Where to write the reports, as a list.
    device : str
    jobs : int
        Worker processes.
    overrides : dict, optional
        Changes of the model's recipe: see `avse.load`.
    show_progress : bool

    Returns
    -------
    reports : list of Report
    failures : dict
        Message by input that failed. The others are enhanced all the same.

    Raises
    ------
    AvseError
        If nothing matches, the model cannot be loaded, or options do not go together.
    """
    sources = find_media(inputs)
    several = len(sources) > 1
    if several and video is not None:
        raise AvseError(f"--video goes with one input; {len(sources)} were given.")
    targets = _targets(sources, output, lambda source: default_output(source).name, "output")
    plots = _targets(sources, plot, lambda source: f"{source.stem}.png", "plot") if plot is not None else {}
    options: list[tuple[Path, dict[str, Any]]] = [
        (
            source,
            {
                "output": targets[source],
                "video": video,
                "use_video": use_video,
                "roi": roi,
                "face": face,
                "tracker": tracker,
                "plot": plots.get(source),
            },
        )
        for source in sources
    ]
    if jobs > 1 and several:
        reports, failures = _in_processes(options, (model, device, overrides), jobs, show_progress)
    else:
        reports, failures = _one_by_one(options, load(model, device, overrides), show_progress)
    if json_path is not None:
        with atomic_path(json_path) as path:
            path.write_text(json.dumps([asdict(report) for report in reports], indent=2) + "\n", encoding="utf-8")
    return reports, failures


def default_output(source: Path) -> Path:
    """Where the enhanced file goes if nobody says.

    >>> default_output(Path("talk.mp4")).name
    'talk.enhanced.mp4'
    """
    return source.with_name(f"{source.stem}{_MARK}{source.suffix}")


def find_media(inputs: Sequence[str | Path]) -> list[Path]:
    """Files that inputs name: themselves, those in folders, those that match patterns; each once, none enhanced.

    Raises
    ------
    AvseError
        If an input matches nothing.
    """
    found: dict[Path, None] = {}
    for item in map(str, inputs):
        path = Path(item)
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES and _MARK not in p.name)
            if not matches:
                raise AvseError(f"{path}: holds no media file ({', '.join(MEDIA_SUFFIXES[:4])}, ...).")
        elif path.exists() or not glob.has_magic(item):
            matches = [path]
        else:
            matches = sorted(Path(name) for name in glob.glob(item, recursive=True) if _MARK not in Path(name).name)
            if not matches:
                raise AvseError(f"{item}: no file matches this pattern.")
        found.update(dict.fromkeys(matches))
    if not found:
        raise AvseError("No input. Give a file, a folder or a pattern.")
    return list(found)


def _targets(sources: list[Path], given: str | Path | None, name: Any, what: str) -> dict[Path, Path]:
    """Target by source; refuses two sources with one target."""
    if given is None:
        return {source: default_output(source) for source in sources}
    given = Path(given)
    if len(sources) == 1 and not given.is_dir() and given.suffix:
        return {sources[0]: given}
    if given.suffix and not given.is_dir():
        raise AvseError(f"{given}: for {len(sources)} inputs, --{what} must be a folder.")
    targets = {source: given / name(source) for source in sources}
    if len(set(targets.values())) < len(sources):
        raise AvseError(f"{given}: two inputs have the same name. Enhance them into different folders.")
    return targets


def _one_by_one(
    options: list[tuple[Path, dict[str, Any]]], model: Model, show_progress: bool
) -> tuple[list[Report], dict[str, str]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    reports, failures = [], {}
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not show_progress, transient=True) as progress:
        for source, arguments in options:
            try:
                reports.append(enhance_file(model, source, progress=progress, **arguments))
            except AvseError as error:
                failures[str(source)] = str(error)
    return reports, failures


_WORKER: dict[str, Model] = {}


def _start_worker(model: tuple[Any, ...], threads: int, plugin_files: list[Path]) -> None:
    import signal
    import sys

    import torch

    # The parent answers Ctrl-C and ends its workers, by an exception so that what is half-written is removed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    torch.set_num_threads(threads)
    for path in plugin_files:
        plugins.load_path(path)
    _WORKER["model"] = load(*model)


def _work(source: Path, arguments: dict[str, Any]) -> Report:
    import os

    try:
        return enhance_file(_WORKER["model"], source, **arguments)
    except SystemExit:
        os._exit(1)  # the pool's own loop would go on with the next file


def _in_processes(
    options: list[tuple[Path, dict[str, Any]]], model: tuple[Any, ...], jobs: int, show_progress: bool
) -> tuple[list[Report], dict[str, str]]:
    import multiprocessing
    import os
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from rich.console import Console
    from rich.progress import Progress

    load(*model)  # a model that cannot be loaded is told once, here
    threads = max(1, (os.cpu_count() or 1) // jobs)
    reports, failures = [], {}
    pool = ProcessPoolExecutor(
        min(jobs, len(options)),
        multiprocessing.get_context("spawn"),
        _start_worker,
        (model, threads, plugins.loaded_files()),
    )
    try:
        futures = {pool.submit(_work, source, arguments): source for source, arguments in options}
        with Progress(console=Console(stderr=True), disable=not show_progress, transient=True) as progress:
            task = progress.add_task("Enhancing", total=len(futures))
            for future in as_completed(futures):
                progress.advance(task)
                try:
                    reports.append(future.result())
                except AvseError as error:
                    failures[str(futures[future])] = str(error)
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    order = {str(source): place for place, (source, _) in enumerate(options)}
    return sorted(reports, key=lambda report: order[report.input]), failures


def _plot(
    path: str | Path, shown: dict[str, list[Any]], reliability: list[float], seen: list[bool], title: str
) -> None:
    import numpy as np

    from avse.evaluation.plots.spectrograms import plot_estimate

    noisy, enhanced = np.concatenate(shown["noisy"]), np.concatenate(shown["enhanced"])
    samples = min(len(noisy), len(enhanced), _PLOT_SECONDS * SAMPLE_RATE)
    frames = -(-samples // 640)
    plot_estimate(
        path,
        noisy[:samples],
        enhanced[:samples],
        reliability=np.asarray(reliability[:frames]),
        valid=np.asarray(seen[:frames]),
        title=title,
    )

"""Verbs of live use: `stream`, `live`; and the page, `web`."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avse.cli import options as say
from avse.errors import AvseError

if TYPE_CHECKING:
    from avse.jobs.stream import StreamReport

app = typer.Typer()
LiveModel = Annotated[str, typer.Option("--model", help="Name or folder of a causal model.")]
BlockMs = Annotated[float, typer.Option(min=1.0, max=1000.0, help="Milliseconds of audio taken at a time.")]
Wait = Annotated[float, typer.Option(min=0.0, max=2.0, help="Seconds that the audio waits for pictures.")]
Face = Annotated[str, typer.Option(help="Which face: largest, INDEX from the left, or x,y,w,h.")]
_verb = functools.partial(app.command, cls=say.Verb, rich_help_panel="Use")


@_verb()
def stream(
    model: LiveModel = "avse-live",
    rate: Annotated[int, typer.Option(min=4000, max=384_000, help="Samples per second, in and out.")] = 16_000,
    channels: Annotated[int, typer.Option(min=1, max=32, help="Channels, in and out.")] = 1,
    band: say.Band = "full",
    sample_format: Annotated[str, typer.Option("--format", help="Of a sample: s16 or f32, little endian.")] = "s16",
    block_ms: BlockMs = 20.0,
    video: Annotated[Path | None, typer.Option(help="A video that starts together with the audio.")] = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Number of a camera, from 0.")] = None,
    wait: Wait = 0.0,
    face: Face = "largest",
    roi: say.Roi = "auto",
    tracker: say.Tracker = None,
    json_path: say.Json = None,
    device: say.Device = "auto",
) -> None:
    """Enhance raw samples from stdin to stdout as they come: arecord -t raw ... | avse stream | aplay ..."""
    if video is not None and camera is not None:
        raise AvseError("--video and --camera: give one of them.")
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise AvseError("stdin and stdout carry raw samples: connect both to pipes or files (< in.raw > out.raw).")
    import torch

    from avse.jobs.stream import CameraPictures, FilmedPictures, stream_samples
    from avse.model import load
    from avse.streaming import Streamer

    torch.set_num_threads(1)  # a block is too little work to share
    streamer = Streamer(load(model, device=device), wait=wait)
    pictures: FilmedPictures | CameraPictures | None = None
    if video is not None:
        pictures = FilmedPictures(video, tracker, face, roi)
    elif camera is not None:
        pictures = CameraPictures(camera, tracker, face)
    try:
        report = stream_samples(
            streamer,
            sys.stdin.buffer,
            sys.stdout.buffer,
            pictures=pictures,
            rate=rate,
            channels=channels,
            band=band,
            sample_format=sample_format,
            block_ms=block_ms,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of the speech goes nowhere
        raise AvseError("The program that takes the speech has ended.") from None
    finally:
        if isinstance(pictures, CameraPictures):
            pictures.close()
    _tell(report, json_path)


@_verb()
def live(
    model: LiveModel = "avse-live",
    camera: Annotated[int, typer.Option(min=0, help="Number of the camera, from 0.")] = 0,
    no_video: say.NoVideo = False,
    sound: Annotated[str | None, typer.Option(help="Name of the audio device. Default: that of the system.")] = None,
    block_ms: BlockMs = 20.0,
    lead_ms: Annotated[
        float,
        typer.Option(min=0.0, max=5000.0, help="Milliseconds that playing is behind, for blocks that take longer."),
    ] = 40.0,
    wait: Wait = 0.08,
    mono: say.Mono = False,
    band: say.Band = "full",
    face: Face = "largest",
    tracker: say.Tracker = None,
    json_path: say.Json = None,
    device: say.Device = "auto",
) -> None:
    """Enhance the microphone as one speaks into the camera, and play it: use headphones. Ctrl-C ends it.

    The speech has the rate and the channels of the microphone. With --mono --band 8k it comes 60 ms or more earlier.
    """
    import torch

    from avse.contracts.types import SAMPLE_RATE
    from avse.jobs.audio import EIGHT
    from avse.jobs.live import DeviceFormat, Live, device_format, open_device
    from avse.jobs.stream import CameraPictures, StreamAudio
    from avse.model import load
    from avse.streaming import Streamer

    torch.set_num_threads(1)  # a block is too little work to share
    known = device_format(sound)
    if mono:
        direct = band == EIGHT  # the device itself resamples
        known = DeviceFormat(SAMPLE_RATE if direct else known.rate, (1, known.channels[1]))
    streamer = Streamer(load(model, device=device), wait=0.0 if no_video else wait)
    audio = StreamAudio(streamer, known.rate, known.channels[0], band)
    pictures = None if no_video else CameraPictures(camera, tracker, face)
    try:
        enhancer = Live(audio, pictures, block_ms, lead_ms)
        report = enhancer.run(functools.partial(open_device, device=sound, known=known), threading.Event())
    finally:
        if pictures is not None:
            pictures.close()
    _tell(report, json_path, f", {report.underruns} underruns")


@_verb()
def web(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any that is free.")] = 7860,
    model: Annotated[
        list[str] | None, typer.Option(help="Folder of a model to offer as well (may be given again).")
    ] = None,
    max_mb: Annotated[float, typer.Option(min=1.0, help="Megabytes of an upload, at most.")] = 500.0,
    max_minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of a clip, at most.")] = 30.0,
    keep_minutes: Annotated[float, typer.Option(min=1.0, help="Minutes after which files are deleted.")] = 60.0,
    device: say.Device = "auto",
) -> None:
    """Serve a web page that enhances and separates clips, and enhances live. Ctrl-C ends it."""
    from avse.web.server import serve

    serve(
        host,
        port,
        models=model or (),
        device=device,
        max_mb=max_mb,
        max_minutes=max_minutes,
        keep_minutes=keep_minutes,
        started=lambda address: typer.echo(f"The page is at {address} (Ctrl-C ends it)"),
    )


def _tell(report: StreamReport, json_path: Path | None, more: str = "") -> None:
    if json_path is not None:
        from avse.files import write_json

        write_json(json_path, dataclasses.asdict(report))
    times = ", ".join(f"{share} {value} ms" for share, value in report.block_ms.items())
    trust = "no video" if report.reliability is None else f"reliability {report.reliability:.2f}"
    typer.echo(
        f"{report.seconds:.1f} s, latency {1000 * report.latency:.0f} ms and computing ({times} a block, RTF "
        f"{report.real_time_factor}), {trust}{more}",
        err=True,
    )

"""Verbs of diffusion priors: `generate`, `lips`, `probe` and `embed`; `avse.cli.app` adds them to the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avse.errors import AvseError


def generate(
    video: Annotated[Path | None, typer.Option(help="Who is to be seen speaking; its sound is not looked at.")] = None,
    model: Annotated[
        str, typer.Option(help="Name or folder of a model with a diffusion prior.")
    ] = "av-diffusion-small",
    output: Annotated[Path, typer.Option("-o", "--output", help="Sound file to write.")] = Path("generated.wav"),
    no_video: Annotated[bool, typer.Option("--no-video", help="Look at nobody: draw any speech.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Length. Default: that of the video.")] = None,
    seed: Annotated[int, typer.Option(help="Another one draws another voice.")] = 0,
    guidance: Annotated[float | None, typer.Option(help="0: plain; above: follow the lips more closely.")] = None,
    sampler: Annotated[str, typer.Option(help="`avse plugins sampler` lists them.")] = "ancestral",
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 30,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of the spectrogram.")] = None,
    roi: Annotated[str, typer.Option(help="What the frames show: auto, face or mouth.")] = "auto",
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Draw speech from lips: a voice that might have said what the mouth shows."""
    if output.suffix.lower() not in (".wav", ".flac", ".ogg"):
        raise AvseError(f"-o {output}: speech is written to .wav, .flac or .ogg.")
    from avse.data.audio import write_audio
    from avse.model import as_clip, load

    loaded = load(model, device=device)
    clip = None if video is None else as_clip(video, use_video=not no_video, roi=roi, tracker=tracker, silent=True)
    sound = loaded.generate(clip, seconds=seconds, seed=seed, guidance=guidance, sampler=sampler, steps=steps)
    write_audio(output, sound)
    if plot is not None:
        from avse.evaluation.plots.spectrograms import plot_sounds

        shown = {"drawn from the lips" if clip is not None and clip.valid.any() else "drawn": sound}
        if clip is not None and clip.audio.any():
            shown["recorded"] = clip.audio[: len(sound)]
        plot_sounds(plot, shown, title=video.name if video is not None else None)
    typer.echo(f"{output} ({len(sound) / 16000:.2f} s)" + (f", {plot}" if plot is not None else ""))


def lips(
    model: Annotated[str, typer.Option(help="Name or folder of a model with an audio-visual diffusion prior.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clean speech with video.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    split: Annotated[list[str] | None, typer.Option(help="Default: test (may be given again).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many clips only.")] = None,
    seconds: Annotated[float, typer.Option(help="What of each clip is used, from its middle.")] = 1.2,
    rivals: Annotated[int, typer.Option(min=2, help="Utterances among which to look for the right one.")] = 8,
    draws: Annotated[int, typer.Option(min=1, help="Noise levels of each denoising loss.")] = 8,
    samples: Annotated[int, typer.Option(min=0, help="Draws of speech from each video; 0: no envelopes.")] = 1,
    sampler: Annotated[str, typer.Option(help="Of these draws.")] = "dpm_solver",
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 12,
    crops: Annotated[Path | None, typer.Option(help="Folder that keeps tracked mouths for the next time.")] = None,
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal results.")] = 0,
) -> None:
    """Does the video matter? Denoise, find and draw speech with the right video, a wrong one, and none."""
    from avse.cli.tools import progress_bar
    from avse.evaluation.studies.lips import lips_table, measure_lips

    with progress_bar("Measuring") as show:
        summary = measure_lips(
            model,
            manifest,
            out,
            splits=split or ["test"],
            limit=limit,
            seconds=seconds,
            rivals=rivals,
            draws=draws,
            samples=samples,
            sampler=sampler,
            steps=steps,
            crops=crops,
            tracker=tracker,
            device=device,
            seed=seed,
            progress=show,
        )
    typer.echo(lips_table(summary))
    typer.echo(f"Written to {out}: lips.csv, lips.json")


def probe(
    model: Annotated[str, typer.Option(help="Name or folder of a model with an audio-visual diffusion prior.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clean speech with video and text.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    train: Annotated[list[str] | None, typer.Option(help="Splits that probes learn from. Default: train.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Splits that they are asked about. Default: test.")] = None,
    words: Annotated[int, typer.Option(min=1, help="Of a sentence; clips with another number are left out.")] = 6,
    segments: Annotated[int, typer.Option(min=1, help="Means over time in which a probe sees a clip.")] = 18,
    limit: Annotated[int | None, typer.Option(min=2, help="The first so many clips of each only.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Folder that keeps tracked mouths for the next time.")] = None,
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """What do features hold? Let linear probes tell the words of clean sentences from them."""
    from avse.cli.tools import progress_bar
    from avse.evaluation.studies.probe import measure_probe, probe_table

    with progress_bar("Probing") as show:
        summary = measure_probe(
            model,
            manifest,
            out,
            train=train or ["train"],
            test=test or ["test"],
            words=words,
            segments=segments,
            limit=limit,
            crops=crops,
            tracker=tracker,
            device=device,
            seed=seed,
            progress=show,
        )
    typer.echo(probe_table(summary))
    typer.echo(f"Written to {out}: probe.csv, probe.json")


def embed(
    clip: Annotated[Path, typer.Argument(help="A media file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: NAME.npz beside the clip.")] = None,
    model: Annotated[
        str, typer.Option(help="Name or folder of a model with a diffusion prior.")
    ] = "av-diffusion-small",
    time: Annotated[float, typer.Option(min=0.0, max=1.0, help="How noisy the network is told the sound is.")] = 0.1,
    no_video: Annotated[bool, typer.Option("--no-video", help="Use the sound only.")] = False,
    roi: Annotated[str, typer.Option(help="What the frames show: auto, face or mouth.")] = "auto",
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Write what a diffusion prior's network says of each video frame, as arrays for other work."""
    from avse.api import write_features
    from avse.model import load

    output = output or clip.with_suffix(".npz")
    found = load(model, device=device).embed(clip, time=time, use_video=not no_video, roi=roi, tracker=tracker)
    write_features(found, output)
    frames, dim = found["features"].shape
    typer.echo(f"{output}: features ({frames} frames, {dim}), seen in {found['valid'].mean():.0%} of them")

"""Verbs that use a model: `enhance`, `separate`, `generate`, `embed`, `retrieve`; and `export`, `models`."""

from __future__ import annotations

import functools
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avse.cli import options as say
from avse.errors import AvseError

if TYPE_CHECKING:
    from avse.jobs.enhance import Report

app = typer.Typer()
_verb = functools.partial(app.command, cls=say.Verb, rich_help_panel="Use")


@_verb(context_settings=say.FREE)
def enhance(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(help="Media files, folders or patterns such as 'talks/*.mp4'.")],
    output: Annotated[
        Path | None, say.output("File or folder to write. Default: NAME.enhanced.EXT beside the input.")
    ] = None,
    model: say.Model = "avse-small",
    video: Annotated[Path | None, typer.Option(help="The video that goes with an audio file.")] = None,
    no_video: say.NoVideo = False,
    roi: say.Roi = "auto",
    face: Annotated[
        str, typer.Option(help="Which face: largest, speaking, INDEX from the left, or x,y,w,h.")
    ] = "largest",
    tracker: say.Tracker = None,
    offset: Annotated[
        str,
        typer.Option(metavar="auto|SECONDS", help="How late the audio is relative to the video; negative: early."),
    ] = "0",
    track: Annotated[
        str, typer.Option(metavar="auto|N", help="Audio track, from 0. auto: the one with speech.")
    ] = "auto",
    mono: say.Mono = False,
    band: say.Band = "full",
    mix: Annotated[
        float, typer.Option(min=0, max=1, help="1: the enhanced audio alone; 0.8: with a fifth of the noisy.")
    ] = 1.0,
    max_attenuation: Annotated[
        float | None,
        typer.Option(min=0, metavar="DB", help="Take away no more than this, as 12; the rest of the noise stays."),
    ] = None,
    loudness: Annotated[
        str | None, typer.Option(metavar="keep|LUFS", help="That of the input, or one as -16 (ITU-R BS.1770).")
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORDS|FILE|auto",
            help="What the noise is: 'rain on a roof', a picture, video or sound of it, or auto: the clip itself. May "
            "be given again. Takes --model av-vae.",
        ),
    ] = None,
    not_noise: Annotated[
        list[str] | None, typer.Option(metavar="WORDS|FILE", help="What the noise is not. May be given again.")
    ] = None,
    rest: Annotated[Path | None, typer.Option(help="Write what was taken away; for several files, a folder.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of spectrograms and reliability.")] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Write reports: .jsonl a line a file as it is done; .json; or a folder."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Pass over inputs whose output is there and not older than they are.")
    ] = False,
    device: say.Device = "auto",
    jobs: say.Jobs = 1,
    ray: say.Ray = None,
) -> None:
    """Enhance clips: talk.mp4 becomes talk.enhanced.mp4; its video, rate, channels and other tracks stay.

    Parts of the model that need no training can be changed: --inference vem --inference.iterations 20.
    """
    inputs, overrides = say.overrides(context, inputs)
    reader = None
    if len(inputs) == 1 and Path(inputs[0]).is_file() and face != "speaking" and not resume:
        from avse.media import open_clip
        from avse.tracks import parse_track

        with suppress(AvseError):  # `enhance_files` meets it again
            number = parse_track(track) or 0
            reader = open_clip(
                inputs[0], video=video, use_video=not no_video, roi=roi, face=face, tracker=tracker, track=number
            )
            reader.look_ahead()  # while PyTorch is imported
    from avse.jobs.enhance import enhance_files
    from avse.workers import on_ray

    with on_ray(ray), reader or nullcontext():
        reports, failures = enhance_files(
            inputs,
            output=output,
            model=model,
            video=video,
            use_video=not no_video,
            roi=roi,
            face=face,
            tracker=tracker,
            offset=offset,
            track=track,
            mono=mono,
            band=band,
            mix=mix,
            max_attenuation=max_attenuation,
            loudness=loudness,
            noise=noise or (),
            not_noise=not_noise or (),
            rest=rest,
            plot=plot,
            json_path=json_path,
            device=device,
            jobs=jobs,
            overrides=overrides,
            resume=resume,
            on_done=_print_report,
            show_progress=sys.stderr.isatty(),
            reader=reader,
        )
    if failures:
        total = len(reports) + len(failures)
        listed = "".join(f"\n  {message}" for message in failures.values())
        raise AvseError(next(iter(failures.values())) if total == 1 else f"{len(failures)} of {total} failed:{listed}")


def _print_report(report: Report) -> None:
    for warning in report.warnings:
        typer.secho(f"Warning: {report.input}: {warning}", fg="yellow", err=True)
    mouth = f"mouth seen in {report.valid_share:.0%}" if report.video else "no video"
    mouth += f", {report.face} of {len(report.faces)} faces speaks" if report.face else ""
    if report.offset:
        sure = "" if report.offset_confidence is None else f", confidence {report.offset_confidence:.0%}"
        mouth += f", audio {abs(report.offset):.2f} s {'late' if report.offset > 0 else 'early'}{sure}"
    if report.noise is not None:
        alike = ", ".join(f"{name} {similarity:.2f}" for name, similarity in report.noise.nearest[:3]) or "unknown"
        trust = report.noise.trust
        mouth += f", noise like {alike}" + ("" if trust is None else f", trusted {trust:.0%}")
    typer.echo(f"{report.input} -> {report.output} ({report.seconds:.1f} s, {mouth}, RTF {report.real_time_factor})")


@_verb(context_settings=say.FREE)
def separate(
    context: typer.Context,
    mixture: Annotated[Path, typer.Argument(help="The audio of several speakers; may be a video.")],
    video: Annotated[
        list[Path] | None,
        typer.Option(help="A video of each speaker (may be given again), or one that shows them all."),
    ] = None,
    others: Annotated[int, typer.Option(min=0, help="The number of further speakers, whom no video shows.")] = 0,
    speaker: Annotated[
        list[str] | None, typer.Option(help="Name of a speaker that the model knows, one for each, in order.")
    ] = None,
    output: Annotated[Path | None, say.output("Folder to write. Default: NAME.separated beside the input.")] = None,
    model: say.Model = "av-separator",
    roi: say.Roi = "auto",
    tracker: say.Tracker = None,
    track: Annotated[int, typer.Option(min=0, help="Audio track of the mixture.")] = 0,
    mono: say.Mono = False,
    band: say.Band = "full",
    plot: Annotated[Path | None, typer.Option(help="Write a plot of each speaker's face and spectrogram.")] = None,
    json_path: say.Json = None,
    device: say.Device = "auto",
) -> None:
    """Separate speakers: an audio file for each of them, and one for the rest.

    Parts of a model that need no training can be changed: --model av-vae --inference langevin.
    """
    _, overrides = say.overrides(context, context.args, "belongs to no option. One mixture is separated at a time.")
    from avse.jobs.separate import separate_file

    report = separate_file(
        mixture,
        video or (),
        others=others,
        speakers=speaker or (),
        output=output,
        model=model,
        roi=roi,
        tracker=tracker,
        track=track,
        mono=mono,
        band=band,
        plot=plot,
        json_path=json_path,
        device=device,
        overrides=overrides,
    )
    for warning in report.warnings:
        typer.secho(f"Warning: {report.input}: {warning}", fg="yellow", err=True)
    for found in report.speakers:
        mouth = f"mouth seen in {found.valid_share:.0%}" if found.video else "no video"
        typer.echo(f"{found.name} -> {found.output} ({mouth})")
    typer.echo(f"rest -> {report.rest} ({report.seconds:.1f} s in {sum(report.timings.values()):.1f} s)")


@_verb()
def generate(
    clip: Annotated[Path | None, typer.Argument(help="A video of the speaker. Its audio is ignored.")] = None,
    model: say.DiffusionModel = "av-diffusion-small",
    output: Annotated[Path, say.output("Audio file to write.")] = Path("generated.wav"),
    no_video: Annotated[bool, typer.Option("--no-video", help="Ignore the video: draw any speech.")] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.04, max=600, help="Length. Default: that of the video.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Each seed gives another draw.")] = 0,
    guidance: Annotated[
        float | None, typer.Option(min=0, max=20, help="0: none; above: follow the lips more closely.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="`avse plugins sampler` lists them.")] = "ancestral",
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Of the sampler.")] = 30,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of the spectrogram.")] = None,
    roi: say.Roi = "auto",
    tracker: say.Tracker = None,
    device: say.Device = "auto",
) -> None:
    """Draw speech from video: speech that fits the movement of the lips."""
    if output.suffix.lower() not in (".wav", ".flac", ".ogg"):
        raise AvseError(f"-o {output}: speech is written to .wav, .flac or .ogg.")
    from avse.data.audio import write_audio
    from avse.evaluation.plots.figure import check_format
    from avse.model import load
    from avse.sources import lips_of

    if plot is not None:
        check_format(plot)
    loaded = load(model, device=device)
    source = None if clip is None else lips_of(clip, use_video=not no_video, roi=roi, tracker=tracker)
    speech = loaded.generate(source, seconds=seconds, seed=seed, guidance=guidance, sampler=sampler, steps=steps)
    write_audio(output, speech)
    if plot is not None:
        from avse.evaluation.plots.spectrograms import plot_sounds

        shown = {"drawn from the lips" if source is not None and source.valid.any() else "drawn": speech}
        if source is not None and source.audio.any():
            shown["recorded"] = source.audio[: len(speech)]
        plot_sounds(plot, shown, title=clip.name if clip is not None else None)
    typer.echo(f"{output} ({len(speech) / 16000:.2f} s)" + (f", {plot}" if plot is not None else ""))


@_verb()
def embed(
    clip: Annotated[
        Path, typer.Argument(help="A media file; for --model scene-clip also a picture, or a description in words.")
    ],
    output: Annotated[Path | None, say.output("Default: NAME.npz beside the clip.")] = None,
    model: Annotated[
        str, typer.Option("--model", help="A model with a diffusion prior, or an embedding of scenes, scene-clip.")
    ] = "av-diffusion-small",
    time: Annotated[float, typer.Option(min=0.0, max=1.0, help="Noise level that the network is told.")] = 0.1,
    no_video: say.NoVideo = False,
    roi: say.Roi = "auto",
    tracker: say.Tracker = None,
    device: say.Device = "auto",
) -> None:
    """Write features as arrays for other work: of each video frame from a diffusion prior, or one vector of a scene."""
    from avse.api import check_features, write_features
    from avse.model import load
    from avse.model_folder import kind_of

    output = output or clip.with_suffix(".npz")
    check_features(output)
    if kind_of(model) == "embedding":
        from avse.scene import embed_scene, load_embedding

        embedding = load_embedding(model, device)
        vector = embed_scene(str(clip), embedding)
        write_features({"features": vector.cpu().numpy()}, output)
        typer.echo(f"{output}: features ({len(vector)})" + _nearest(embedding.nearest(vector[None])[0]))
        return
    arrays = load(model, device=device).embed(clip, time=time, use_video=not no_video, roi=roi, tracker=tracker)
    write_features(arrays, output)
    frames, dim = arrays["features"].shape
    typer.echo(f"{output}: features ({frames} frames, {dim}), mouth seen in {arrays['valid'].mean():.0%} of them")


@_verb()
def retrieve(
    query: Annotated[str, typer.Argument(help="A description in words, a picture, a video or a sound.")],
    among: Annotated[Path, typer.Option(help="Folder of pictures, videos and sounds, or a manifest.")],
    count: Annotated[int, typer.Option(min=1, help="How many are listed.")] = 10,
    model: Annotated[str, typer.Option(help="Name or folder of an embedding of scenes.")] = "scene-clip",
    device: say.Device = "auto",
) -> None:
    """List the files whose scene is most like a description, a picture, a video or a sound."""
    from avse.scene import embed_scene, files_among, load_embedding
    from avse.scene import retrieve as ranked

    embedding = load_embedding(model, device)
    vector = embed_scene(query, embedding)
    found, skipped = ranked(vector, files_among(among), embedding)
    for cosine, modality, path in found[:count]:
        typer.echo(f"{cosine:5.2f}  {modality:5}  {path}")
    typer.echo(f"{len(found)} files" + (f", {skipped} that cannot be read" if skipped else ""))
    typer.echo("The query" + _nearest(embedding.nearest(vector[None])[0]))


def _nearest(classes: list[tuple[str, float]]) -> str:
    named = ", ".join(f"{name} ({cosine:.2f})" for name, cosine in classes)
    return f" is most like {named}" if named else ""


@_verb()
def export(
    model: Annotated[str, typer.Argument(help="Name or folder of a model.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write into.")],
    to: Annotated[str, typer.Option("--to", help="Format: onnx, or speechbrain (for their Pretrained).")] = "onnx",
    bits: Annotated[
        int, typer.Option(min=8, max=32, help="Of the weights in ONNX: 32, or 8 (smaller, and a little less exact).")
    ] = 32,
) -> None:
    """Write a model for programs without PyTorch, or for SpeechBrain."""
    if to == "onnx":
        from avse.export import export_onnx

        written = export_onnx(model, folder, bits)
    elif to == "speechbrain" and bits == 32:
        from avse.integrations.speechbrain import export as write
        from avse.model import load

        written = write(load(model, "cpu"), folder)
    else:
        raise AvseError(f"--to must be onnx or speechbrain (with 32 bits), got {to} with {bits} bits.")
    for path in written:
        typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


@_verb()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known of each, as JSON.")] = False,
) -> None:
    """List the models that come with avse: what they do and cost, and on what terms their weights may be used."""
    import json

    from avse.model_folder import PRETRAINED, WEIGHTS, embedded, licence_of

    if as_json:
        typer.echo(json.dumps(embedded(), indent=1))
        return
    for name, about in embedded().items():
        megabytes = (PRETRAINED / name / WEIGHTS).stat().st_size / 1e6
        facts = [f"{about['parameters'] / 1e6:.1f} M parameters", f"{megabytes:.1f} MB"]
        if cost := about.get("cost"):
            latency = cost["latency_s"]
            facts += [f"causal, latency {1000 * latency:.0f} ms"] if latency else ["takes whole clips"]
            facts += [f"RTF {cost['rtf']}", f"{cost['peak_mb']:.0f} MB of memory"]
        typer.echo(f"{typer.style(name, bold=True)}: {about.get('description', '')}")
        typer.echo(f"    {', '.join(facts)}; {licence_of(about).partition(':')[0]}")
    typer.echo("\nRTF: CPU seconds by second of audio on one thread, mouth crops given; memory: peak of the process.")
    typer.echo(f"The card of each, with its scores and terms: {PRETRAINED / 'MODEL' / 'README.md'}")

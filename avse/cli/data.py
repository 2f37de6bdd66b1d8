"""Verbs of data: `prepare`, `scenes`, `mix`, `shards`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from avse.cli import options as say
from avse.errors import AvseError

app = typer.Typer()
_verb = functools.partial(app.command, cls=say.Verb, rich_help_panel="Data")


@_verb(context_settings=say.FREE, options_metavar="DATASET FOLDER [--OPTION VALUE]... [OPTIONS]")
def prepare(
    context: typer.Context,
    output: Annotated[Path | None, say.output("Manifest to write. Default: manifest.csv in FOLDER.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the corpus into FOLDER first.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Then look at every clip: faces, sync, durations, clipping, duplicates.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder of what --verify finds. Default: NAME.verified beside the manifest.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Of --verify: write a new manifest with the offset and the weight of each clip.")
    ] = None,
    cache_folder: Annotated[
        Path | None, typer.Option(help="Of --verify: decoded clips, as of a training. Default: cache in --report.")
    ] = None,
    split: say.Splits = None,
    tracker: say.Tracker = None,
    jobs: say.Jobs = 1,
    ray: say.Ray = None,
) -> None:
    """Write the manifest of a corpus in FOLDER; `avse plugins dataset` lists corpora and their options.

    A manifest that is there already is verified by: avse prepare manifest MANIFEST --verify
    """
    words, arguments = say.split_arguments(context.args)
    if len(words) != 2:
        raise AvseError("prepare needs a dataset and a folder: avse prepare grid ~/corpora/grid")
    if not verify and any(value is not None for value in (report, write, cache_folder, split, tracker)):
        raise AvseError("--report, --write, --cache-folder, --split and --tracker go with --verify.")
    from avse.workers import on_ray

    name, folder = words[0], Path(words[1]).expanduser()
    dataset = say.build_plugin("dataset", name, arguments)
    folder = dataset.download(folder) if download else folder
    with on_ray(ray, jobs):
        manifest = dataset.prepare(folder, output)
    if verify:
        from avse.cli.printing import print_verified
        from avse.jobs.verify import verify as run
        from avse.progress import progress_bar

        report = report or manifest.with_name(f"{manifest.stem}.verified")
        with progress_bar("Verifying") as show, on_ray(ray):
            summary = run(
                manifest,
                report,
                splits=split,
                cache_folder=cache_folder,
                tracker=tracker,
                jobs=jobs,
                write=write,
                on_progress=show,
            )
        print_verified(summary)
        typer.echo(report / "report.html")
    typer.echo(write or manifest)


@_verb()
def scenes(
    manifest: Annotated[Path, typer.Argument(help="CSV of speech and noises.")],
    output: Annotated[Path, say.output("Scene file to write.")],
    split: Annotated[str, typer.Option(help="Draw from this split.")] = "test",
    snr: Annotated[
        list[float] | None,
        typer.Option(min=-60, max=60, help="In dB (may be given again). Default: -5, 0, 5; of separation 5."),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="recorded, babble, babble4, babble_audio, white, ..., clean, silent; reverberant_recorded, ...; or "
            "separation2, separation3, ... (may be given again). Default: recorded, babble."
        ),
    ] = None,
    per_condition: Annotated[
        int | None, typer.Option(min=1, help="Targets in each condition. Default: all; of separation 20 groups.")
    ] = None,
    per_corpus: Annotated[
        int | None, typer.Option(min=1, help="Instead: targets, or groups, of each corpus that has a video.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.2, help="Cut longer targets. Default: whole clips.")] = None,
    same_corpus: Annotated[
        bool, typer.Option("--same-corpus", help="Interfering speakers are of the target's corpus, with a video.")
    ] = False,
    unseen: Annotated[bool, typer.Option("--unseen", help="Leave out all speakers of the training split.")] = False,
    leave_out: Annotated[
        int, typer.Option(min=0, help="Of separation: use one clip in so many, those that training left out.")
    ] = 0,
    more: say.More = None,
    crops: say.Crops = None,
    seed: say.Seed = 0,
) -> None:
    """Draw the scenes of a test set: speech, noise and level of each mixture; or the speakers of each mixture."""
    from avse.data.scenes import make_scene_file

    drawn = make_scene_file(
        [manifest, *(more or [])],
        split,
        output,
        snrs=snr,
        conditions=condition or ("recorded", "babble"),
        per_condition=per_condition,
        per_corpus=per_corpus,
        seconds=seconds,
        same_corpus=same_corpus,
        unseen=unseen,
        leave_out=leave_out,
        crops=crops,
        seed=seed,
    )
    typer.echo(f"{len(drawn)} scenes written to {output}")


@_verb()
def mix(
    scene_file: Annotated[Path, typer.Argument(help="Scenes, as `avse scenes` writes them.")],
    manifest: Annotated[Path, typer.Option(help="CSV of the speech and noises that the scenes name.")],
    output: Annotated[Path, say.output("Folder of the mixtures.")],
    more: say.More = None,
    jobs: say.Jobs = 1,
) -> None:
    """Write the noisy test set of a scene file; the same everywhere."""
    from avse.data.rendering import render_scenes
    from avse.progress import progress_bar

    with progress_bar("Mixing") as show:
        path = render_scenes(scene_file, [manifest, *(more or [])], output, jobs=jobs, on_progress=show)
    typer.echo(path)


@_verb()
def shards(
    source: Annotated[str, typer.Argument(help="A manifest; or the address of shards: http://..., s3://... .")],
    output: Annotated[Path, say.output("Folder of the shards.")],
    more: say.More = None,
    cache_folder: Annotated[
        Path, typer.Option(help="Folder of decoded clips, as of a training; filled where it lacks some.")
    ] = Path("results/cache"),
    tracker: say.Tracker = None,
    megabytes: Annotated[int, typer.Option(min=1, help="Size of a shard.")] = 1000,
    remote: Annotated[
        bool, typer.Option("--remote", help="Fetch the manifest alone; a training then reads clips from the address.")
    ] = False,
) -> None:
    """Write the decoded clips of a manifest into large tar files, from which a training reads; or fetch them."""
    from avse.data.shards import fetch_shards, write_shards
    from avse.progress import progress_bar

    if "://" in source:
        with progress_bar("Fetching") as show:
            typer.echo(fetch_shards(source, output, show, remote))
        return
    if remote:
        raise AvseError("--remote goes with the address of shards.")
    lists = [Path(source), *(more or [])]
    with progress_bar("Writing") as show:
        path = write_shards(
            lists, output, cache_folder=cache_folder, tracker=tracker, megabytes=megabytes, on_progress=show
        )
    typer.echo(path)

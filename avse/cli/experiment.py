"""Verbs of experiments: `train`, `evaluate`, `compare`, and the studies."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from avse.cli import options as say

_PANEL = "Experiment"
app = typer.Typer()
study_app = typer.Typer(help="Measure what a model does with good, bad and no video.", no_args_is_help=True)
app.add_typer(study_app, name="study", rich_help_panel=_PANEL)
_verb = functools.partial(app.command, cls=say.Verb, rich_help_panel=_PANEL)
_study = functools.partial(study_app.command, cls=say.Verb)

_Manifest = Annotated[
    Path, typer.Option("--manifest", help="CSV of the mixtures, or the folder that `avse mix` wrote.")
]


def _scoring(
    jobs: say.Jobs = 1,
    ray: say.Ray = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Compute this metric (may be given again).")
    ] = None,
    splits: say.Splits = None,
    limit: say.Limit = None,
    device: say.Device = "auto",
    label: Annotated[str | None, typer.Option(help="Name of the system in tables.")] = None,
    seed: say.Seed = 0,
    tracker: say.Tracker = None,
    crops: say.Crops = None,
    no_estimates: Annotated[bool, typer.Option("--no-estimates", help="Keep no estimated speech.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away earlier results in --output.")] = False,
) -> None:
    """Options of the verbs that score mixtures."""


@_verb(context_settings=say.FREE, options_metavar=say.OF_RECIPE)
def train(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Two epochs of two steps, to see that all runs.")] = False,
    device: say.Device = "auto",
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress bars.")] = False,
) -> None:
    """Train what a recipe describes, or go on where an interrupted run stopped.

    Any key of the recipe can be given: --epochs 5 --fusion cross_attention --fusion.heads 4. A name for a component
    replaces it and keeps the arguments that both take.
    """
    path, overrides, plugins = say.recipe_arguments(context)
    from avse.training import train as run

    typer.echo(run(path, overrides, plugins=plugins, debug=debug, device=device, progress=not no_progress))


@_verb(context_settings=say.FREE)
@say.with_options_of(_scoring)
def evaluate(
    context: typer.Context,
    manifest: _Manifest,
    output: say.Output,
    model: Annotated[str | None, typer.Option(help="Name or folder of the model to score.")] = None,
    estimates: Annotated[Path | None, typer.Option(help="Score the files of this folder instead.")] = None,
    speakers: Annotated[
        str,
        typer.Option(help="Of several speakers: blind, oracle (the model is told who talks), or one name for all."),
    ] = "blind",
    no_video: say.NoVideo = False,
    without_video: Annotated[
        bool, typer.Option("--without-video", help="Score everything without video as well: what does it gain?")
    ] = False,
    corrupt: Annotated[str | None, typer.Option(help="Corrupt the video first.", metavar="NAME=SEVERITY")] = None,
    **scoring: Any,
) -> None:
    """Score a system on every mixture of a manifest, of one speaker or of several, with intervals, plots and a report.

    Parts of the model that need no training can be changed: --inference vem --inference.iterations 20.
    """
    scoring.update(model=model, estimates=estimates, speakers=speakers, use_video=not no_video, corrupt=corrupt)
    scoring.update(without_video=without_video)
    _score(context, manifest, output, **scoring)


@_study(context_settings=say.FREE)
@say.with_options_of(_scoring)
def robustness(
    context: typer.Context,
    manifest: _Manifest,
    output: say.Output,
    model: Annotated[str, typer.Option(help="Name or folder of the model to score.")],
    corruption: Annotated[
        list[str] | None, typer.Option(help="A corruption (may be given again). Default: all.")
    ] = None,
    severity: Annotated[
        list[int] | None, typer.Option(min=1, max=5, help="1 to 5 (may be given again). Default: all.")
    ] = None,
    **scoring: Any,
) -> None:
    """Score a model with clean video, without video, and with each corruption of the video at each severity.

    Parts of the model that need no training can be changed: --inference vem --inference.iterations 20.
    """
    _score(context, manifest, output, model=model, corruptions=corruption or "all", severities=severity, **scoring)


def _score(
    context: typer.Context, manifest: Path, output: Path, *, no_estimates: bool, ray: str | None, **options: Any
) -> None:
    """Evaluate and print the tables; exit with status 1 if scores are missing."""
    _, options["overrides"] = say.overrides(context, context.args, "belongs to no option.")
    from avse.cli.printing import print_table
    from avse.evaluation import evaluate as run
    from avse.evaluation import robustness_table, score_table
    from avse.evaluation.corpora import corpora_markdown
    from avse.evaluation.separation import separation_table
    from avse.workers import on_ray

    with on_ray(ray):
        summary = run(manifest, output, keep_estimates=not no_estimates, progress=sys.stderr.isatty(), **options)
    sweep, several = summary.get("corruptions"), "groups" in summary
    if several:
        typer.echo(separation_table([summary]))
    else:
        print_table(score_table(summary))
    if not several and any(
        len(table["corpora"]) > 1 or "difference" in table["corpora"]["all"] for table in summary["corpora"]
    ):
        typer.echo(corpora_markdown(summary))
    if sweep:
        print_table(robustness_table(summary))
    more = ", corrupted.csv, corruptions.csv, corruptions.md, corruptions.png" if sweep else ""
    typer.echo(f"Written to {output}: scores.csv, summary.json, {'table.md' if several else 'report.html'}{more}")
    if sweep and sweep["failures"]:
        typer.echo(f"{len(sweep['failures'])} estimates from bad or no video lack scores; see report.html.", err=True)
        raise typer.Exit(1)
    if summary["failures"]:
        typer.echo(f"{len(summary['failures'])} of {summary['n']} mixtures lack scores; see scores.csv.", err=True)
        raise typer.Exit(1)


@_verb()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `avse evaluate` wrote; the first is the baseline.")],
    output: Annotated[Path | None, say.output("Folder that gets compare.json and compare.png.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Name of a run, in order (give one for each).")] = None,
    common_only: Annotated[bool, typer.Option("--common-only", help="Compare what all runs scored.")] = False,
    seed: say.Seed = 0,
) -> None:
    """Compare evaluations, utterance by utterance, with intervals."""
    from avse.cli.printing import print_table
    from avse.evaluation import compare as run
    from avse.evaluation import comparison_table

    print_table(comparison_table(run(runs, output, label, common_only=common_only, seed=seed)))


@_study("calibration")
@_verb(hidden=True)
def calibrate(
    model: Annotated[str, typer.Argument(help="Name or folder of a model.")],
    sweep: Annotated[
        Path, typer.Argument(help="What `avse study robustness` wrote for this model, on development clips.")
    ],
    output: Annotated[Path, say.output("Folder of the new model.")],
) -> None:
    """Make a model's reliability the probability that a video frame is clean."""
    from avse.evaluation import calibrate as run

    change = run(model, sweep, output)
    typer.echo(
        f"{model} -> {output}: log-odds times {change['scale']:.2f} plus {change['shift']:.2f}, calibration error "
        f"{change['before']:.3f} -> {change['after']:.3f}"
    )


@_study()
def lips(
    model: say.DiffusionModel,
    manifest: Annotated[Path, typer.Option(help="CSV of clean speech with video.")],
    output: say.Output,
    splits: say.Splits = None,
    limit: say.Limit = None,
    seconds: Annotated[float, typer.Option(min=0.2, help="How much of each clip is used, from its middle.")] = 1.2,
    rivals: Annotated[int, typer.Option(min=2, help="Utterances among which the right one is searched.")] = 8,
    draws: Annotated[int, typer.Option(min=1, help="Noise levels of each denoising loss.")] = 8,
    samples: Annotated[int, typer.Option(min=0, help="Draws of speech from each video; 0: no envelopes.")] = 1,
    sampler: Annotated[str, typer.Option(help="Of these draws.")] = "dpm_solver",
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 12,
    crops: say.Crops = None,
    tracker: say.Tracker = None,
    device: say.Device = "auto",
    seed: say.Seed = 0,
) -> None:
    """Measure whether the video matters: denoise, find and draw speech with the right, a wrong and no video."""
    from avse.evaluation.studies.lips import lips_table, measure_lips
    from avse.progress import progress_bar

    with progress_bar("Measuring") as show:
        summary = measure_lips(
            model=model,
            manifest=manifest,
            out=output,
            splits=splits or ["test"],
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
    typer.echo(f"Written to {output}: lips.csv, lips.json")


@_study()
def probe(
    model: say.DiffusionModel,
    manifest: Annotated[Path, typer.Option(help="CSV of clean speech with video and text.")],
    output: say.Output,
    train: Annotated[list[str] | None, typer.Option(help="Splits that probes are fitted on. Default: train.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Splits that they are tested on. Default: test.")] = None,
    words: Annotated[int, typer.Option(min=1, help="Of a sentence; clips with another number are left out.")] = 6,
    segments: Annotated[int, typer.Option(min=1, help="Means over time that a probe gets of a clip.")] = 18,
    limit: Annotated[int | None, typer.Option(min=2, help="Use only this many clips of each, the first ones.")] = None,
    crops: say.Crops = None,
    tracker: say.Tracker = None,
    device: say.Device = "auto",
    seed: say.Seed = 0,
) -> None:
    """Measure what features hold: linear probes recognise the words of clean sentences from them."""
    from avse.evaluation.studies.probe import measure_probe, probe_table
    from avse.progress import progress_bar

    with progress_bar("Probing") as show:
        summary = measure_probe(
            model=model,
            manifest=manifest,
            out=output,
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
    typer.echo(f"Written to {output}: probe.csv, probe.json")


@_study()
def frontends(
    runs: Annotated[
        list[str], typer.Argument(help="Runs of lip_synchrony.yaml, or folders of its weights; NAME=FOLDER names one.")
    ],
    manifest: Annotated[Path, typer.Option(help="CSV of clean speech with video.")],
    output: say.Output,
    splits: say.Splits = None,
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of the windows to be found.")] = 2.0,
    rivals: Annotated[int, typer.Option(min=2, help="Windows among which one is searched.")] = 100,
    crops: say.Crops = None,
    tracker: say.Tracker = None,
    device: say.Device = "auto",
    seed: say.Seed = 0,
) -> None:
    """Measure what pretrained visual front-ends tell of the speech of unseen speakers, by corpus."""
    from avse.devices import find_device
    from avse.evaluation.studies.frontends import frontends_table, measure_frontends
    from avse.progress import progress_bar

    pairs = [run.partition("=") for run in runs]
    named = {name if folder else Path(name).name: folder or name for name, _, folder in pairs}
    with progress_bar("Measuring") as show:
        summary = measure_frontends(
            named,
            manifest,
            output,
            splits=splits or ["test"],
            seconds=seconds,
            rivals=rivals,
            crops=crops,
            tracker=tracker or "mtcnn",
            device=str(find_device(device)),
            seed=seed,
            progress=show,
        )
    typer.echo(frontends_table(summary))
    figure = ", frontends.png" if (output / "frontends.png").is_file() else ""
    typer.echo(f"Written to {output}: frontends.csv, frontends.json{figure}")

"""The command `avse`. Each verb reads its options and calls one function of the package, imported only then."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from avse.cli.generative import embed, generate, lips, probe
from avse.errors import AvseError


class _Group(TyperGroup):
    """Tells a user's mistake in one message, without a traceback; takes `--plugins` before and after the verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first: list[str] = []
        rest: list[str] = []
        waiting = list(args)
        while waiting:
            word = waiting.pop(0)
            if word == "--plugins" and waiting:
                first += [word, waiting.pop(0)]
            elif word.startswith("--plugins="):
                first.append(word)
            else:
                rest.append(word)
        return super().parse_args(ctx, first + rest)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AvseError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            goes_on = ctx.invoked_subcommand in ("train", "evaluate")
            left = "The same command goes on from there." if goes_on else "Nothing half-written is left."
            typer.secho(f"Interrupted. {left}", fg="red", err=True)
            raise typer.Exit(130) from error


app = typer.Typer(
    name="avse",
    cls=_Group,
    help="Audio-visual speech enhancement: give back the voice of a person who speaks on video.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipe_app = typer.Typer(help="Explain or try out a recipe.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")

# Verbs that take any `--key value`.
_FREE = {"allow_extra_args": True, "ignore_unknown_options": True}


def main() -> None:
    """Entry point of the command."""
    # An exception, so that what is half-written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from avse import __version__

        typer.echo(f"avse {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    plugins: Annotated[
        list[Path] | None,
        typer.Option(help="Load plugins from this file or folder (may be given again).", metavar="PATH"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = list(plugins or [])
    if plugins:
        from avse.plugins import load_path

        for problem in [problem for path in plugins for problem in load_path(path)]:
            typer.secho(f"Warning: {problem}", fg="yellow", err=True)


@app.command(context_settings=_FREE)
def enhance(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(help="Media files, folders or patterns such as 'talks/*.mp4'.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File or folder to write. Default: NAME.enhanced.EXT beside the input."),
    ] = None,
    model: Annotated[str, typer.Option(help="Name or folder of a model.")] = "avse-small",
    video: Annotated[Path | None, typer.Option(help="The video that goes with a sound file.")] = None,
    no_video: Annotated[bool, typer.Option("--no-video", help="Use the sound only.")] = False,
    roi: Annotated[str, typer.Option(help="What the frames show: auto, face or mouth.")] = "auto",
    face: Annotated[str, typer.Option(help="Which face: largest, INDEX from the left, or x,y,w,h.")] = "largest",
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of spectrograms and reliability.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write what was found and how long it took.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    jobs: Annotated[int, typer.Option(min=1, help="Files enhanced at once.")] = 1,
) -> None:
    """Enhance clips: talk.mp4 becomes talk.enhanced.mp4, its video untouched.

    Parts of the model that need no training can be changed: --inference vem --inference.iterations 20.
    """
    words, overrides = _overrides(context, inputs)
    from avse.jobs.enhance import enhance_files

    reports, failures = enhance_files(
        words,
        output=output,
        model=model,
        video=video,
        use_video=not no_video,
        roi=roi,
        face=face,
        tracker=tracker,
        plot=plot,
        json_path=json,
        device=device,
        jobs=jobs,
        overrides=overrides,
        show_progress=sys.stderr.isatty(),
    )
    for report in reports:
        for warning in report.warnings:
            typer.secho(f"Warning: {report.input}: {warning}", fg="yellow", err=True)
        seen = f"mouth seen in {report.valid_share:.0%}" if report.video else "no video"
        typer.echo(f"{report.input} -> {report.output} ({report.seconds:.1f} s, {seen}, RTF {report.real_time_factor})")
    if failures:
        total = len(reports) + len(failures)
        listed = "".join(f"\n  {message}" for message in failures.values())
        raise AvseError(next(iter(failures.values())) if total == 1 else f"{len(failures)} of {total} failed:{listed}")


@app.command(context_settings=_FREE)
def separate(
    context: typer.Context,
    mixture: Annotated[Path, typer.Argument(help="The sound in which several talk; may be a video.")],
    video: Annotated[
        list[Path] | None,
        typer.Option(help="A video of each talker (may be given again), or one that shows them all."),
    ] = None,
    others: Annotated[int, typer.Option(min=0, help="How many more talk whom no video shows.")] = 0,
    speaker: Annotated[
        list[str] | None, typer.Option(help="Name of a talker whom the model knows, one for each, in order.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write. Default: NAME.separated beside the input.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name or folder of a model.")] = "av-vae",
    roi: Annotated[str, typer.Option(help="What the frames show: auto, face or mouth.")] = "auto",
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of who is who.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write what was found and how long it took.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Separate those who talk at once: a sound for each one seen, and one for the rest.

    Parts of the model that need no training can be changed: --inference langevin --inference.iterations 100.
    """
    words, overrides = _overrides(context, context.args)
    if words:
        raise AvseError(f"{' '.join(words)}: belongs to no option. One mixture is separated at a time.")
    from avse.jobs.separate import separate_file

    report = separate_file(
        mixture,
        video or (),
        output=output,
        others=others,
        speakers=speaker or (),
        model=model,
        roi=roi,
        tracker=tracker,
        plot=plot,
        json_path=json,
        device=device,
        overrides=overrides,
    )
    for warning in report.warnings:
        typer.secho(f"Warning: {report.input}: {warning}", fg="yellow", err=True)
    for talker in report.talkers:
        seen = f"mouth seen in {talker.valid_share:.0%}" if talker.video else "no video"
        typer.echo(f"{talker.name} -> {talker.output} ({seen})")
    typer.echo(f"rest -> {report.rest} ({report.seconds:.1f} s in {sum(report.timings.values()):.1f} s)")


@app.command(context_settings=_FREE, options_metavar="RECIPE [--KEY VALUE]... [OPTIONS]")
def train(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Two epochs of two steps, to see that all runs.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ... Default: a GPU if there is one.")] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress bars.")] = False,
) -> None:
    """Train what a recipe describes, or go on where an interrupted run stopped.

    Any key of the recipe can be given: --epochs 5 --fusion cross_attention --fusion.heads 4. A name for a component
    replaces it and keeps the arguments that both take.
    """
    path, overrides, plugins = _recipe_arguments(context)
    from avse.training import train as run

    folder = run(path, overrides, plugins=plugins, debug=debug, device=device, progress=not no_progress)
    typer.echo(folder)


@app.command(context_settings=_FREE)
def evaluate(
    context: typer.Context,
    manifest: Annotated[Path, typer.Option(help="CSV of the mixtures, or the folder that `avse mix` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    model: Annotated[str | None, typer.Option(help="Name or folder of the model to score.")] = None,
    estimates: Annotated[Path | None, typer.Option(help="Score the files of this folder instead.")] = None,
    speakers: Annotated[
        str,
        typer.Option(help="Of several speakers: blind, oracle (the model is told who talks), or one name for all."),
    ] = "blind",
    no_video: Annotated[bool, typer.Option("--no-video", help="Give the model the sound only.")] = False,
    corrupt: Annotated[str | None, typer.Option(help="Corrupt the video first.", metavar="NAME=SEVERITY")] = None,
    corruptions: Annotated[
        str | None,
        typer.Option(help="Score with clean, without, and with each bad video.", metavar="all|NAME,NAME"),
    ] = None,
    severities: Annotated[str | None, typer.Option(help="Of --corruptions; default 1,2,3,4,5.", metavar="N,N")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    metric: Annotated[list[str] | None, typer.Option(help="A metric (may be given again).")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Score this split only (may be given again).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first so many only.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    label: Annotated[str | None, typer.Option(help="Name of the system in tables.")] = None,
    seed: Annotated[int, typer.Option(help="Of the corruption and of the bootstrap.")] = 0,
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Folder that keeps tracked mouths for the next time.")] = None,
    no_estimates: Annotated[bool, typer.Option("--no-estimates", help="Keep no estimated sounds.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away earlier results in --out.")] = False,
) -> None:
    """Score a system on every mixture of a manifest, with intervals, plots and a report.

    Parts of the model that need no training can be changed: --inference vem --inference.iterations 20.
    """
    words, overrides = _overrides(context, context.args)
    if words:
        raise AvseError(f"{' '.join(words)}: belongs to no option.")
    from avse.cli.tools import numbers_of
    from avse.evaluation import evaluate as run
    from avse.evaluation import robustness_table, score_table
    from avse.evaluation.separation import separation_table

    summary = run(
        manifest,
        out,
        model=model,
        estimates=estimates,
        speakers=speakers,
        use_video=not no_video,
        corrupt=corrupt,
        corruptions=None if corruptions is None else [name.strip() for name in corruptions.split(",") if name.strip()],
        severities=None if severities is None else numbers_of("--severities", severities),
        jobs=jobs,
        metrics=metric,
        splits=split,
        limit=limit,
        device=device,
        label=label,
        seed=seed,
        tracker=tracker,
        crops=crops,
        keep_estimates=not no_estimates,
        overwrite=overwrite,
        overrides=overrides,
        progress=sys.stderr.isatty(),
    )
    swept, groups = summary.get("corruptions"), summary.get("groups")
    if groups:
        typer.echo(separation_table([summary]))
    else:
        _show(score_table(summary))
    if swept:
        _show(robustness_table(summary))
    more = ", corrupted.csv, corruptions.csv, corruptions.md, corruptions.png" if swept else ""
    typer.echo(f"Written to {out}: scores.csv, summary.json, {'table.md' if groups else 'report.html'}{more}")
    if swept and swept["failures"]:
        typer.echo(f"{len(swept['failures'])} estimates from bad or no video lack scores; see report.html.", err=True)
        raise typer.Exit(1)
    if summary["failures"]:
        typer.echo(f"{len(summary['failures'])} of {summary['n']} rows lack scores; see scores.csv.", err=True)
        raise typer.Exit(1)


@app.command("evaluate-separation", context_settings=_FREE)
def evaluate_separation(
    context: typer.Context,
    manifest: Annotated[Path, typer.Option(help="mixtures.csv, as `avse mix` writes it, or its folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    model: Annotated[str, typer.Option(help="Name or folder of a model; or mixture, nothing separated.")] = "av-vae",
    voices: Annotated[
        str,
        typer.Option(help="Of a model that knows speakers: free, known (it is told who talks), or one name for all."),
    ] = "free",
    label: Annotated[str | None, typer.Option(help="Name of the system in the table.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first so many only.")] = None,
    tracker: Annotated[str | None, typer.Option(help="Mouth tracker; `avse plugins mouth_tracker` lists them.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Folder that keeps tracked mouths for the next time.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the voices that were found.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Old name of `avse evaluate` for mixtures of several speakers; it works until the next release."""
    words, overrides = _overrides(context, context.args)
    if words:
        raise AvseError(f"{' '.join(words)}: belongs to no option.")
    from avse.evaluation.runner import evaluate_separation as run
    from avse.evaluation.separation import separation_table

    if model == "nmf":
        raise AvseError("The baseline nmf is now a benchmark of the repository: python benchmarks/nmf_separation.py.")
    summary = run(
        manifest,
        out,
        model=model,
        voices=voices,
        label=label,
        limit=limit,
        tracker=tracker,
        crops=crops,
        device=device,
        overrides=overrides,
        keep=keep,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    typer.echo(separation_table([summary]))
    typer.echo(f"Written to {out}: scores.csv, summary.json, table.md")
    if summary["failed"]:
        raise typer.Exit(1)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `avse evaluate` wrote; the first is the baseline.")],
    out: Annotated[Path | None, typer.Option(help="Folder that gets compare.json and compare.png.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Name of a run, in order (give one for each).")] = None,
    common_only: Annotated[bool, typer.Option("--common-only", help="Compare what all runs scored.")] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Compare evaluations, utterance by utterance, with intervals."""
    from avse.evaluation import compare as run
    from avse.evaluation import comparison_table

    _show(comparison_table(run(runs, out, label, common_only=common_only, seed=seed)))


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="Name or folder of a model.")],
    sweep: Annotated[
        Path, typer.Argument(help="What `avse evaluate --corruptions` wrote of it, on development clips.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new model.")],
) -> None:
    """Make a model's reliability the probability that a frame is clean."""
    from avse.evaluation import calibrate as run

    found = run(model, sweep, out)
    typer.echo(
        f"{model} -> {out}: log-odds times {found['scale']:.2f} plus {found['shift']:.2f}, calibration error "
        f"{found['before']:.3f} -> {found['after']:.3f}"
    )


@app.command()
def scenes(
    manifest: Annotated[Path, typer.Argument(help="CSV of speech and noises.")],
    out: Annotated[Path, typer.Option(help="Scene file to write.")],
    split: Annotated[str, typer.Option(help="Draw from this split.")] = "test",
    snr: Annotated[list[float] | None, typer.Option(help="In dB (may be given again). Default: -5, 0, 5.")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="recorded, babble, babble4, babble_audio, white, ...; or separation2, separation3, ... (may be given "
            "again). Default: recorded, babble."
        ),
    ] = None,
    per_condition: Annotated[
        int | None, typer.Option(min=1, help="Targets in each condition. Default: all; of separation 20 groups.")
    ] = None,
    leave_out: Annotated[
        int, typer.Option(min=0, help="Of separation: only the one clip in so many that training left out.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal scenes.")] = 0,
) -> None:
    """Draw the scenes of a test set: which voice, which noise, how loud; or who talks at once."""
    from avse.data.scenes import make_scene_file

    drawn = make_scene_file(
        manifest,
        split,
        out,
        snrs=snr,
        conditions=condition or ("recorded", "babble"),
        per_condition=per_condition,
        leave_out=leave_out,
        seed=seed,
    )
    typer.echo(f"{len(drawn)} scenes written to {out}")


@app.command()
def mix(
    scene_file: Annotated[Path, typer.Argument(help="Scenes, as `avse scenes` writes them.")],
    manifest: Annotated[Path, typer.Option(help="CSV of the speech and noises that the scenes name.")],
    out: Annotated[Path, typer.Option(help="Folder of the mixtures.")],
    jobs: Annotated[int, typer.Option(min=1, help="Scenes mixed at once.")] = 1,
) -> None:
    """Write the noisy test set of a scene file; the same everywhere."""
    from avse.cli.tools import progress_bar
    from avse.data.rendering import render_scenes

    with progress_bar("Mixing") as show:
        path = render_scenes(scene_file, manifest, out, jobs=jobs, on_progress=show)
    typer.echo(path)


@app.command(context_settings=_FREE, options_metavar="DATASET FOLDER [--OPTION VALUE]... [OPTIONS]")
def prepare(
    context: typer.Context,
    manifest: Annotated[Path | None, typer.Option(help="File to write. Default: manifest.csv in FOLDER.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the corpus into FOLDER first.")] = False,
) -> None:
    """Write the manifest of a corpus in FOLDER; `avse plugins dataset` lists corpora and their options."""
    from avse.cli.tools import build_plugin, split_arguments

    words, options = split_arguments(context.args)
    if len(words) != 2:
        raise AvseError("prepare needs a dataset and a folder: avse prepare grid ~/corpora/grid")
    name, folder = words[0], Path(words[1]).expanduser()
    dataset = build_plugin("dataset", name, options)
    typer.echo(dataset.prepare(dataset.download(folder) if download else folder, manifest))


@app.command()
def plugins(
    what: Annotated[
        str, typer.Argument(help="A kind (fusion) or a plugin (fusion/concat).", metavar="KIND[/NAME]")
    ] = "",
) -> None:
    """List what can be swapped, or explain a kind or a plugin."""
    from avse.cli.tools import describe_plugins

    describe_plugins(what)


@app.command()
def check(
    target: Annotated[
        list[str],
        typer.Argument(help="Files or folders of plugins, installed packages, kinds, or names such as fusion/concat."),
    ],
    only: Annotated[list[str] | None, typer.Option(help="Run this check only (may be given again).")] = None,
    json: Annotated[Path | None, typer.Option(help="Write what was found to this file.")] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Print where exceptions came from.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="Show only the checks that failed.")] = False,
) -> None:
    """Put plugins to the conformance checks of their kind; exit with 1 if any fails."""
    from avse.conformance.runner import check_plugins

    if not check_plugins(target, only=only, json_path=json, show_traceback=traceback, failures=failures):
        raise typer.Exit(1)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="A kind of plugin (fusion, prior, ...), or recipe.")],
    name: Annotated[str, typer.Argument(help="Such as my_fusion; of a recipe, the corpus.")],
    package: Annotated[
        bool, typer.Option("--package", help="Write a folder to install, with tests, in place of one file.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are already there.")] = False,
) -> None:
    """Write a plugin that already works, or a recipe for a corpus, to start from."""
    from avse.new import create

    created = create(kind, name, out, package=package, force=force)
    typer.echo(f"Written: {created.path}")
    for what, command in created.commands:
        typer.echo(f"\n{what}:\n    {command}")


for _verb in (generate, lips, probe, embed):
    app.command()(_verb)


@recipe_app.command(context_settings=_FREE, options_metavar="RECIPE [--KEY VALUE]... [OPTIONS]")
def explain(context: typer.Context) -> None:
    """Print components, their arguments and defaults, and what could stand in their place."""
    from avse.cli.tools import print_explanation
    from avse.recipe import explain as run

    print_explanation(run(_load_recipe(context)))


@recipe_app.command("check", context_settings=_FREE, options_metavar="RECIPE [--KEY VALUE]... [OPTIONS]")
def check_recipe(
    context: typer.Context,
    key: Annotated[str, typer.Option(help="Which key to build.")] = "model",
) -> None:
    """Build the model and run it forward and backward on two short random clips."""
    from avse.cli.tools import print_check
    from avse.recipe import check as run

    print_check(run(_load_recipe(context), key))


@recipe_app.command("ls")
def list_recipes() -> None:
    """List the recipes that come with avse; every command that takes a recipe takes these names as well."""
    from avse.recipe import recipes, title_of

    for name, path in recipes().items():
        typer.echo(f"{name:36} {title_of(path)}")


@recipe_app.command("cat")
def print_recipe(recipe: Annotated[str, typer.Argument(help="A file, or a name that `avse recipe ls` lists.")]) -> None:
    """Print a recipe with all that it includes, as plain HyperPyYAML."""
    from avse.recipe import resolved

    typer.echo(resolved(recipe), nl=False)


@recipe_app.command("cp")
def copy_recipe(
    recipe: Annotated[str, typer.Argument(help="A file, or a name that `avse recipe ls` lists.")],
    target: Annotated[Path, typer.Argument(help="File or folder to write.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is already there.")] = False,
) -> None:
    """Write a recipe with all that it includes to a file, to be changed."""
    from avse.recipe import copy_recipe as run

    typer.echo(run(recipe, target, force=force))


def _overrides(context: typer.Context, arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Words, and changes of a model's recipe, from arguments that are no option of the command."""
    from difflib import get_close_matches

    from avse.cli.tools import split_arguments

    own = [option for parameter in context.command.params for option in parameter.opts if option.startswith("--")]
    for argument in arguments:
        option = argument.partition("=")[0]
        near = get_close_matches(option, own, n=1, cutoff=0.8)
        if option.startswith("--") and near:
            raise AvseError(f"There is no option {option}. Did you mean {near[0]}?")
    return split_arguments(arguments)


def _load_recipe(context: typer.Context) -> Any:
    from avse.recipe import load_recipe

    return load_recipe(*_recipe_arguments(context))


def _recipe_arguments(context: typer.Context) -> tuple[Path, dict[str, str], list[str | Path]]:
    """Recipe, overrides and paths of plugins from free arguments, in any order."""
    from avse.cli.tools import split_arguments

    words, options = split_arguments(context.args)
    if len(words) != 1:
        raise AvseError(f"Give one recipe, then --key value for what to change; got {' '.join(words) or 'none'}.")
    return Path(words[0]), options, context.obj


def _show(table: Any) -> None:
    from rich.console import Console

    Console().print(table)

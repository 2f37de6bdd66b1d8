"""Options that several verbs share, each said once; old spellings; what all verbs check; free `--key value` arguments.

A verb is refused before any work where an output is an input or another output, a name is empty, or a number is out of
its range or none. `-` is standard input, and standard output.
"""

from __future__ import annotations

import inspect
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from avse.compatibility import warn
from avse.errors import AvseError
from avse.files import check_apart, shown_as


def output(help: str) -> Any:
    """What a verb writes: `-o/--output`."""
    return typer.Option("-o", "--output", help=help)


Output = Annotated[Path, output("Folder of the results.")]
Model = Annotated[str, typer.Option("--model", help="Name or folder of a model.")]
DiffusionModel = Annotated[str, typer.Option("--model", help="Name or folder of a model with a diffusion prior.")]
Device = Annotated[str, typer.Option("--device", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Processes that share the work.")]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Do the work on a Ray cluster (local: one here), --jobs at once."),
]
NoVideo = Annotated[bool, typer.Option("--no-video", help="Use the audio only.")]
Roi = Annotated[str, typer.Option("--roi", help="What the frames show: auto, face or mouth.")]
Tracker = Annotated[
    str | None, typer.Option("--tracker", help="Mouth tracker; `avse plugins mouth_tracker` lists them.")
]
Mono = Annotated[bool, typer.Option("--mono", help="Write one channel.")]
Band = Annotated[str, typer.Option("--band", metavar="full|8k", help="8k: write nothing above 8 kHz.")]
Crops = Annotated[
    Path | None, typer.Option("--crops", help="Folder that keeps tracked mouth crops for the next evaluation.")
]
More = Annotated[
    list[Path] | None,
    typer.Option("--with", help="Another manifest, such as one of noises (may be given again)."),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write a report to this file.")]
Splits = Annotated[list[str] | None, typer.Option("--split", help="Use this split only (may be given again).")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only this many rows, the first ones.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal results.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are already there.")]

# Verbs that take any `--key value`.
FREE = {"allow_extra_args": True, "ignore_unknown_options": True}
OF_RECIPE = "RECIPE [--KEY VALUE]... [OPTIONS]"

# Names of the last release. A new name that ends in a comma takes one value each time; one without `--` is an argument.
OLD_OPTIONS: dict[str, dict[str, str]] = {
    "generate": {"--video": "CLIP"},
    "prepare": {"--manifest": "--output"},
    "robustness": {"--out": "--output", "--corruptions": "--corruption,", "--severities": "--severity,"},
    "evaluate": {"--out": "--output", "--voices": "--speakers"},
    **dict.fromkeys(
        ("compare", "calibrate", "calibration", "lips", "probe", "scenes", "mix", "new"), {"--out": "--output"}
    ),
}
# Parameters that name what a verb writes; all other paths are read.
WRITTEN = ("output", "rest", "json", "json_path", "plot", "report", "write", "target", "folder")
# Verbs that read `-`, with the suffix of what they write to standard output; and the suffixes of their reports.
_PIPED = {"enhance": ".mkv", "generate": ".wav", "embed": ".npz", "separate": ""}
_REPORTS = {"json": ".json", "json_path": ".json", "plot": ".png", "rest": ".wav"}
OLD_VERBS = {"lips": ("study", "lips"), "probe": ("study", "probe"), "evaluate-separation": ("evaluate",)}
_SWEEP = ("--corruptions", "--severities")  # of `evaluate`, which became a study


def with_options_of(shared: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a verb: the options of the function `shared` stand where the verb takes `**`."""

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own, more = (inspect.signature(function, eval_str=True) for function in (verb, shared))
        parameters = [*list(own.parameters.values())[:-1], *more.parameters.values()]
        verb.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        verb.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return verb

    return decorate


class Verb(TyperCommand):
    """A command that checks what it was given before any work, and takes options by their old names with a warning."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = renewed_options(self.name or "", args)
        end = words.index("--") if "--" in words else len(words)
        words[end:] = [f"./{word}" if word.startswith("-") and len(word) > 2 else word for word in words[end:]]
        given = self.make_parser(ctx).parse_args(list(words))[0]
        paths = paths_of(self)
        for parameter in self.params:
            names = parameter.name in paths or parameter.param_type_name == "argument"
            if names and "" in _listed(given.get(parameter.name)):
                raise AvseError(f"{_spelled(parameter)} is an empty name. Is a variable of your script not set?")
        return super().parse_args(ctx, words)

    def invoke(self, ctx: Any) -> Any:
        read: list[Path] = []
        written: list[Path] = []
        for parameter in self.params:
            for value in _listed(ctx.params.get(parameter.name)):
                if isinstance(value, float) and not math.isfinite(value):
                    raise AvseError(f"{_spelled(parameter)} must be a number, not {value}.")
                if isinstance(value, Path) and str(value) != "-" and not value.is_dir():
                    (written if parameter.name in WRITTEN else read).append(value)
                elif isinstance(value, str) and Path(value).is_file():
                    read.append(Path(value))
        check_apart([*read, *(Path(word) for word in ctx.args if Path(word).is_file())], written)
        with _standard_streams(self, ctx.params):
            return super().invoke(ctx)


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else [values]


def paths_of(verb: Any) -> set[str]:
    """Names of the parameters of a verb that are paths."""
    parameters = inspect.signature(verb.callback, eval_str=True).parameters.values()
    return {parameter.name for parameter in parameters if "Path" in str(parameter.annotation)}


def _spelled(parameter: Any) -> str:
    return str(parameter.opts[-1] if parameter.param_type_name == "option" else parameter.name.upper())


@contextmanager
def _standard_streams(verb: Verb, values: dict[str, Any]) -> Iterator[None]:
    """Put files in the place of `-`: what standard input holds, and what goes to standard output when all is done."""
    names = paths_of(verb) | {"inputs"} if verb.name in _PIPED else ()
    given = [name for name in names if "-" in map(str, _listed(values.get(name)))]
    read = [name for name in given if name not in WRITTEN]
    if read and values["output"] is None:  # beside standard input
        given, values["output"] = [*given, "output"], Path("-")
    written = [name for name in given if name in WRITTEN]
    if len(read) > 1 or len(written) > 1:
        raise AvseError("Standard input and standard output are one file each: give one - to read, and one to write.")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="avse-")) if given else ""
        for name in read:
            source = Path(folder, "stdin")
            stack.enter_context(shown_as(source, "-"))
            with open(source, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            changed = [type(one)(source) if str(one) == "-" else one for one in _listed(values[name])]
            values[name] = changed if isinstance(values[name], list) else changed[0]
        for name in written:
            suffix = _PIPED[str(verb.name)] if name == "output" else _REPORTS[name]
            if not suffix:
                raise AvseError("-o names a folder here, which standard output cannot be.")
            if suffix == ".mkv" and not _has_video(values["inputs"][0]):
                suffix = ".wav"
            values[name] = Path(folder, f"stdout{suffix}")
            stack.enter_context(shown_as(values[name], "-"))
        with redirect_stdout(sys.stderr) if written else nullcontext():
            yield
        for name in written:
            sys.stdout.buffer.write(values[name].read_bytes())
            sys.stdout.flush()


def _has_video(path: str) -> bool:
    from avse.media.decode import open_container, video_stream

    with open_container(path) as container:
        return video_stream(container) is not None


def renewed_options(verb: str, words: Sequence[str]) -> list[str]:
    """Words of a command line, each old option under its new name.

    Example
    -------
    >>> renewed_options("robustness", ["--severity", "1"])
    ['--severity', '1']
    """
    renewed: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        old, equals, value = word.partition("=")
        new = OLD_OPTIONS.get(verb, {}).get(old)
        if new is None:
            renewed.append(word)
            continue
        option = new.rstrip(",")
        warn(old, f"{option}, once for each value" if new.endswith(",") else option, verb)
        if not equals:
            if not waiting:
                return [*renewed, option]
            value = waiting.pop(0)
        for part in value.split(",") if new.endswith(",") else [value]:
            renewed += [option, part.strip()] if option.startswith("--") else [part]
    return renewed


def renewed_verb(words: Sequence[str]) -> list[str]:
    """Words of a command line, with an old verb under its new name."""
    place = next((place for place, word in enumerate(words) if not word.startswith("-")), len(words))
    verb, after = words[place : place + 1], words[place + 1 :]
    new: Sequence[str] | None = OLD_VERBS.get(*verb) if verb else None
    old = " ".join(verb)
    if old == "evaluate" and any(word.partition("=")[0] in _SWEEP for word in after):
        old, new = "evaluate --corruptions", ("study", "robustness")
    if new is None:
        return list(words)
    if old == "evaluate-separation":
        after = [word for word in after if word != "--keep"] + ["--model", "av-vae"] * ("--model" not in after)
    warn(f"avse {old}", f"avse {' '.join(new)}")
    return [*words[:place], *new, *after]


def split_arguments(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split free arguments into words and options; each option has a value and is given once.

    Example
    -------
    >>> split_arguments(["recipe.yaml", "--epochs", "5", "--fusion.heads=4", "--output-folder", "x"])
    (['recipe.yaml'], {'epochs': '5', 'fusion.heads': '4', 'output_folder': 'x'})
    """
    rest: list[str] = []
    options: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word:
            raise AvseError("A word of the command is empty. Is a variable of your script not set?")
        if not word.startswith("--"):
            if word.startswith("-") and len(word) > 1 and not word[1].isdigit():
                raise AvseError(f"{word}: options are written --key value.")
            rest.append(word)
            continue
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise AvseError(f"--{key} needs a value.")
            value = waiting.pop(0)
        if key in options:
            raise AvseError(f"--{key} is given twice.")
        options[key] = value
    return rest, options


def overrides(context: typer.Context, arguments: Sequence[str], about_words: str = "") -> tuple[list[str], dict]:
    """Words, and changes of a model's recipe, from arguments that are no option of the verb, nor nearly one.

    There may be no words where `about_words` says why.
    """
    options = [option for parameter in context.command.params for option in parameter.opts if option.startswith("--")]
    for argument in arguments:
        option = argument.partition("=")[0]
        near = get_close_matches(option, options, n=1, cutoff=0.8)
        if option.startswith("--") and near:
            raise AvseError(f"There is no option {option}. Did you mean {near[0]}?")
    words, changes = split_arguments(arguments)
    if words and about_words:
        raise AvseError(f"{' '.join(words)}: {about_words}")
    return words, changes


def recipe_arguments(context: typer.Context) -> tuple[Path, dict[str, str], list[str | Path]]:
    """Recipe, overrides and paths of plugins from free arguments, in any order."""
    words, options = split_arguments(context.args)
    if len(words) != 1:
        raise AvseError(f"Give one recipe, then --key value for what to change; got {' '.join(words) or 'none'}.")
    return Path(words[0]), options, context.obj


def build_plugin(kind: str, name: str, options: Mapping[str, str]) -> Any:
    """A plugin from its name and its arguments as YAML text, held to the rules of recipes.

    Example
    -------
    >>> build_plugin("corruption", "blur", {"severity": "5"}).severity
    5
    """
    from avse import plugins
    from avse.recipe.build import load_tree
    from avse.recipe.overrides import apply_overrides
    from avse.recipe.rules import find_faults
    from avse.recipe.tree import Tree

    cls = plugins.get(kind, name)
    arguments = Tree.parse("".join(f"{key}: 0\n" for key in options) or "{}", name)
    apply_overrides(arguments, options)
    call = Tree.parse(f"{name}: !new:avse.plugins.{kind}.{name}", name)
    apply_overrides(call, {f"{name}.{key}": value for key, value in options.items()})
    faults = find_faults(call)
    if faults:
        text = "\n".join(faults)
        for key in options:
            text = text.replace(f"--{name}.{key}: {name}.{key}: ", f"--{key}: ")
        raise AvseError(text)
    return cls(**load_tree(arguments, trusted_only=False))

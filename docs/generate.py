"""Writes the pages that follow the code: the API and the commands. `kind_pages.py` writes those of the plugins."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

# Title, introduction, and modules with the names to document; empty names mean all public ones.
API: dict[str, tuple[str, str, dict[str, list[str]]]] = {
    "front-door": (
        "The public API",
        "The functions and classes of `import avse`, and what they return. Everything is imported on first use. "
        "[What is stable](../stability.md) lists the names that stay.\n\n"
        "| call | gives |\n|---|---|\n"
        "| `avse.enhance(source)` | the `Estimate` of a path, bytes, an open file, an array, a tensor or a `Clip` |\n"
        "| `avse.load(name)` | a `Model` of your own; `avse.enhance` keeps the last four that it loaded |\n"
        "| `model.enhance_batch(sources)` | a list of `Estimate`, one for each source: what `enhance` gives for it |\n"
        "| `model.stream(chunks)` | pieces of an `Estimate`, as chunks of a long clip arrive |\n"
        "| `avse.separate(source, videos)` | an `Estimate` with the speech of each speaker |\n"
        "| `avse.generate(video)` | speech drawn from the lips, an array at 16 kHz |\n"
        "| {py:func}`avse.read_clip <avse.media.read_clip>` | a media file as a `Clip`: audio, mouth crops, and where "
        "they are valid |\n",
        {
            "avse.api": ["enhance", "separate", "generate", "embed", "write_features"],
            "avse.model": ["load", "Model"],
            "avse.jobs.enhance": ["enhance_file", "enhance_files", "Report"],
            "avse.jobs.audio": ["Audio", "Level"],
            "avse.jobs.separate": ["separate_file", "SeparationReport", "SeparatedSpeaker"],
            "avse.scene": [],
            "avse.overlap": [],
            "avse.streaming": ["Streamer", "Block"],
            "avse.contracts.streaming": [],
            "avse.training": ["train"],
            "avse.errors": [],
        },
    ),
    "types": (
        "Clips, batches and estimates",
        "",
        {
            "avse.contracts.types": ["Clip", "Batch", "Estimate", "video_frames"],
        },
    ),
    "media": ("Media files", "", {"avse.media": []}),
    "data": (
        "Data",
        "Manifests, scenes, noises, mixtures.",
        {
            f"avse.data.{name}": []
            for name in (
                "manifest",
                "scenes",
                "rendering",
                "mixing",
                "noises",
                "rooms",
                "channels",
                "audio",
                "cache",
                "training_set",
                "speech_set",
                "separation_set",
            )
        },
    ),
    "evaluation": ("Evaluation", "", {"avse.evaluation": [], "avse.evaluation.separation": []}),
    "recipes": ("Recipes and the registry", "", {"avse.recipe": [], "avse.plugins": []}),
    "testing": (
        "Templates and checks",
        "What `avse new` and `avse check` call, and the checks as tests of a package of your own.",
        {
            "avse.testing": [],
            "avse.conformance.runner": ["check_plugins", "find_plugins"],
            "avse.new": ["create", "Created"],
        },
    ),
    "signal": (
        "Signal processing and losses",
        "",
        {
            "avse.signal.stft": [],
            "avse.signal.metrics": [],
            "avse.media.faces.shape_model": [],
            "avse.media.faces.head_pose": [],
            "avse.training.losses": [],
        },
    ),
}


def write_all(folder: Path) -> None:
    """Write the pages to `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, (title, text, modules) in API.items():
        (folder / f"{name}.md").write_text(_api_page(title, text, modules), encoding="utf-8")
    (folder / "commands.md").write_text(_commands_page(), encoding="utf-8")


def _autodoc(directive: str, name: str, *options: str) -> str:
    lines = "".join(f"   :{option}:\n" for option in options)
    return f"```{{eval-rst}}\n.. {directive}:: {name}\n{lines}```\n"


def _api_page(title: str, text: str, modules: dict[str, list[str]]) -> str:
    import importlib

    parts = [f"# {title}\n\n{text}\n"]
    for module, names in modules.items():
        imported = importlib.import_module(module)
        parts.append(f"## `{module}`\n")
        if not names:
            parts.append(f"{_escaped(_first_paragraph(imported))}\n")
            names = getattr(imported, "__all__", None) or [
                name
                for name, value in vars(imported).items()
                if not name.startswith("_") and getattr(value, "__module__", None) == module
            ]
        parts += [_member(imported, name) for name in names]
    return "\n".join(parts)


def _member(module: Any, name: str) -> str:
    value = getattr(module, name)
    dotted = f"{module.__name__}.{name}"
    if inspect.isclass(value):
        return _autodoc("autoclass", dotted, "members")
    if callable(value):
        return _autodoc("autofunction", dotted)
    return ""


def _commands_page() -> str:
    import typer

    from avse.cli.app import app

    parts = ["# Commands\n", "`avse COMMAND --help` prints the same.\n"]
    panels: dict[str, list[str]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if not command.hidden:
            panels.setdefault(command.rich_help_panel, []).extend(_describe(command, f"avse {name}"))
    for panel, texts in panels.items():
        parts += [f"## {panel}\n", *texts]
    return "\n".join(parts)


def _describe(command: Any, path: str) -> list[str]:
    """Help and a table of arguments, of a command or of each command below it."""
    if getattr(command, "commands", None):
        return [text for name, below in command.commands.items() for text in _describe(below, f"{path} {name}")]
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        options = [option for option in parameter.opts if option.startswith("-")]
        name = ", ".join(options) or (parameter.name or "").upper()
        default = parameter.default
        plain = not callable(default) and default not in (None, False, (), [], "")
        shown = f" Default: `{default}`." if plain and getattr(parameter, "show_default", True) else ""
        rows.append(f"| `{name}` | {_escaped(getattr(parameter, 'help', '') or '')}{shown} |")
    table = "| argument | |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    return [f"### `{path}`\n\n{_escaped(inspect.cleandoc(command.help or ''))}\n", table]


def _first_paragraph(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n\n")[0]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")

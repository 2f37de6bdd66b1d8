"""Writes one page a kind of plugin, from its contract, the registry, signatures and docstrings.

Only the plugins of the toolkit itself are written down: what other packages add differs from one computer to the
next, and `avse plugins` lists it there.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import tempfile
from collections.abc import Iterable
from pathlib import Path

from docstrings import cell, code, markdown

from avse import plugins
from avse.conformance import checks_of
from avse.docstrings import arguments_of, docstring_of
from avse.new import create

ROOT = Path(__file__).resolve().parents[1]
# How a plugin of a kind is chosen; the others are named in a recipe.
_CHOICE = {
    "mouth_tracker": 'in Python: `avse.read_clip("talk.mp4", tracker="{name}")`',
    "dataset": "on the command line: `avse prepare {name} FOLDER`",
    "metric": "on the command line: `avse evaluate ... --metric {name}`",
    "corruption": "on the command line: `avse evaluate ... --corrupt {name}=3`; in a recipe: "
    "`!new:avse.plugins.corruption.{name}`",
}
_TUTORIALS = {
    "fusion": ("write_fusion", "A fusion, from the template to a trained result"),
    "noise_model": ("write_noise_model", "A noise model, from the template to an enhanced clip"),
    "embedding": ("write_embedding", "An embedding, from the template to a search for like sounds"),
    "dataset": ("dataset", "Your own dataset, from a folder of clips to a training run"),
}


def write_kind_pages(folder: Path) -> None:
    """Write `index.md` and `<kind>.md` of every kind to a folder; other pages in it are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"index": _index_page()} | {kind: _kind_page(kind) for kind in plugins.KINDS}
    for old in folder.glob("*.md"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def built_in(kind: str) -> dict[str, type]:
    """The toolkit's own plugins of a kind, by name."""
    found = {name: plugins.get(kind, name) for name in plugins.names(kind)}
    return {name: cls for name, cls in found.items() if cls.__module__.startswith("avse.")}


def flags_of(kind: str, cls: type) -> dict[str, str]:
    """What a plugin says of itself besides its arguments: whether it is causal, its unit, its licence, ..."""
    base = plugins.contract(kind)
    flags = {}
    if "causal" in [check.name for check in checks_of(kind)]:
        chosen = "causal" in inspect.signature(cls).parameters
        flags["causal"] = "with `causal=True`" if chosen else "yes" if cls.causal else "no"
    if cls.complexity != "linear":
        flags["time and memory"] = f"{cls.complexity} in the length of a clip"
    names = [*vars(base), *inspect.get_annotations(base)]
    for name in dict.fromkeys(names):
        value = getattr(cls, name, None)
        if name.startswith("_") or name == "causal" or value is None:
            continue
        if isinstance(value, bool):
            flags[name] = "yes" if value else "no"
        elif isinstance(value, str) and value:
            flags[name] = markdown(value)
        elif isinstance(value, tuple) and value:
            flags[name] = ", ".join(code(getattr(one, "__name__", one)) for one in value)
    return flags


def _index_page() -> str:
    rows = [
        f"| [{kind}]({kind}.md) | {cell(_purpose(kind))} | "
        + (", ".join(code(name) for name in built_in(kind)) or "none yet")
        + " |"
        for kind in plugins.KINDS
    ]
    return "\n".join(
        [
            "# Plugins",
            "",
            "Everything that a recipe or a command can swap: what each kind is for, its interface with shapes, the "
            "plugins that come with `avse`, and the checks that each must pass. `avse plugins` prints the same for the "
            "terminal, with the plugins of other packages that are installed.",
            "",
            *_table(("kind", "what it is", "built in"), rows),
            "",
            *_packages(),
            "```{toctree}",
            ":hidden:",
            "",
            *plugins.KINDS,
            "```",
            "",
        ]
    )


def _packages() -> list[str]:
    """The worked examples outside the package, each with the first paragraph of its README."""
    rows = []
    for readme in sorted((ROOT / "plugins").glob("*/README.md")):
        paragraphs = [part for part in readme.read_text(encoding="utf-8").split("\n\n") if part.strip()]
        prose = next((part for part in paragraphs if not part.lstrip().startswith(("#", "```", "|"))), "")
        rows.append(f"| `plugins/{readme.parent.name}` | {' '.join(prose.split()).replace('|', chr(92) + '|')} |")
    if not rows:
        return []
    return [
        "## In packages of their own",
        "",
        "Worked examples outside the toolkit, in the folder `plugins/` of the repository. `pip install ./plugins/NAME` "
        "is all it takes: the registry finds them by their entry points.",
        "",
        *_table(("package", "what it is"), rows),
        "",
    ]


def _kind_page(kind: str) -> str:
    base = plugins.contract(kind)
    own = built_in(kind)
    purpose = _purpose(kind)
    parts = [f"# {_title(kind)}", f"Kind `{kind}`: {markdown(purpose)}", markdown(docstring_of(base).summary)]
    parts += ["## Write one", _how_to_write(kind)]
    parts += ["## Interface", f"Subclass `{base.__module__}.{base.__name__}`, and put `@register` above the class."]
    parts += [_autodoc(cls) for cls in [*_public_classes(base), *_shared_bases(base, own.values())]]
    parts.append("## Built in")
    if own:
        rows = [
            f"| [`{name}`](#{_anchor(kind, name)}) | {cell(docstring_of(cls).summary)} |" for name, cls in own.items()
        ]
        parts.append("\n".join(_table(("name", "what it is"), rows)))
        parts += [_plugin(kind, name, cls) for name, cls in own.items()]
    else:
        parts.append("None yet: the contract is declared for what is to come.")
    parts += ["## Checks", f"`avse check {kind}/NAME`, or `avse check FILE`, puts a plugin to all of these."]
    rows = [f"| `{one.name}` | {cell(one.expected)} | {cell(one.hint)} |" for one in checks_of(kind)]
    parts.append("\n".join(_table(("check", "the promise", "what usually mends it"), rows)))
    return "\n\n".join(parts) + "\n"


def _how_to_write(kind: str) -> str:
    """The commands that `avse new` itself names, and the tutorial where there is one."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        commands = create(kind, f"my_{kind}").commands
    lines = [f"avse new {kind} my_{kind}", *(command for _, command in commands)]
    text = "```shell\n" + "\n".join(lines) + "\n```\n\n"
    text += "The file that `avse new` writes works as it is, and its comments say what to change and what to keep."
    if kind in _TUTORIALS:
        page, title = _TUTORIALS[kind]
        text += f" Step by step: [{title}](../{page}.md)."
    return text


def _plugin(kind: str, name: str, cls: type) -> str:
    read = docstring_of(cls)
    parts = [f"({_anchor(kind, name)})=\n### `{name}`", markdown(read.text)]
    rows = [
        f"| `{one.name}` | {cell(one.type)} | {_default(one.default)} | {cell(one.meaning)} |"
        for one in arguments_of(cls)
    ]
    if rows:
        parts.append("\n".join(_table(("argument", "type", "default", "meaning"), rows)))
    facts = [_CHOICE.get(kind, "in a recipe: `!new:avse.plugins.{kind}.{name}`").format(kind=kind, name=name)]
    facts += [f"{flag.replace('_', ' ')}: {value}" for flag, value in flags_of(kind, cls).items()]
    if cls.paper:
        facts.append(f"paper: {_linked(cls.paper)}")
    source = cls.__module__.replace(".", "/")
    facts.append(f"source: {{download}}`{source}.py <../../{source}.py>`")
    parts.append("\n".join(f"- {fact}" for fact in facts))
    if read.example:
        parts.append(f"```pycon\n{read.example}\n```")
    return "\n\n".join(parts)


def _default(value: object) -> str:
    return "required" if value is inspect.Parameter.empty else code(repr(value))


def _public_classes(base: type) -> list[type]:
    """The contract, the families below it, and what its methods take and give, in the order of the file."""
    module = importlib.import_module(base.__module__)
    found = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    return [base, *(one for one in found if one is not base)]


def _shared_bases(base: type, classes: Iterable[type]) -> list[type]:
    """What several plugins of a kind have in common and another may take: their bases in other files of contracts."""
    found = [one for cls in classes for one in cls.__mro__ if issubclass(one, base) and one is not base]
    found = [one for one in found if one.__module__.startswith("avse.contracts.") and one.__module__ != base.__module__]
    return list(dict.fromkeys(found))


def _autodoc(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__name__}"
    return f"```{{eval-rst}}\n.. autoclass:: {name}\n   :members:\n   :exclude-members: example, example_arguments\n```"


def _table(heads: tuple[str, ...], rows: list[str]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *rows]


def _purpose(kind: str) -> str:
    """What the contract's file says of the kind, after its name."""
    text = docstring_of(importlib.import_module(f"avse.contracts.{kind}")).summary
    return text.partition(": ")[2]


def _title(kind: str) -> str:
    words = {"visual_frontend": "visual front-end"}.get(kind, kind.replace("_", " "))
    return words[0].upper() + words[1:]


def _anchor(kind: str, name: str) -> str:
    return f"{kind}-{name}".replace("_", "-")


def _linked(paper: str) -> str:
    return f"<{paper}>" if paper.startswith("http") else markdown(paper)

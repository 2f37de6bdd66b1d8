"""What verbs print: progress, tables, plugins, recipes."""

from __future__ import annotations

import inspect
import json
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

import typer

from avse import plugins


def print_table(table: Any) -> None:
    """Print a table of `rich`."""
    from rich.console import Console

    Console().print(table)


def print_verified(summary: Mapping[str, Any]) -> None:
    """Print what `avse.jobs.verify.verify` found, a line for each split and dataset."""
    counts = ("errors", "without_face", "off_by_two_frames", "wrong_duration", "clipped", "silent", "duplicates")
    for row in summary["by_split_and_dataset"]:
        facts = [f"{row['clips']} clips", f"{row['hours']:.2f} h"]
        if row["with_video"]:
            facts += [f"mouth seen in {row['face_share']:.0%}", f"offset sure in {row['confident']:.0%}"]
            if row["offset_quantiles"]:
                low, middle, high = row["offset_quantiles"]
                facts[-1] += f" (median {middle:+.2f} s, 90 % in {low:+.2f} to {high:+.2f})"
            facts.append(f"lips say nothing in {row['lips_say_nothing']:.0%}")
        facts += [f"{row[name]} {name.replace('_', ' ')}" for name in counts if row[name]]
        name = f"{row['split']}, {row['dataset']}" if row["dataset"] else row["split"]
        typer.echo(f"{name}: {', '.join(facts)}")


def describe_plugins(what: str = "") -> None:
    """Print all kinds, one kind, or one plugin; then what is wrong with plugins."""
    kind, _, name = what.partition("/")
    if not what:
        for each in plugins.KINDS:
            typer.echo(f"{each:16} {', '.join(plugins.names(each)) or '(none)'}")
        typer.echo("\nMore: avse plugins KIND, avse plugins KIND/NAME")
    elif not name:
        _describe_kind(kind)
    else:
        _describe_plugin(kind, name)
    for problem in plugins.problems():
        if not what or problem.subject.startswith((f"{kind}/", plugins.KINDS[kind])):
            typer.secho(f"Warning: {problem}", fg="yellow", err=True)


def print_explanation(explained: Mapping[str, Any]) -> None:
    """Print what `avse.recipe.explain` gives."""
    for component in explained["components"]:
        title = f"{component['kind']}/{component['name']}" if component["kind"] else component["name"]
        typer.secho(f"{component['key']}: {title}", bold=True, nl=False)
        typer.echo(f"   ({component['place']})")
        if component["summary"]:
            typer.echo(_wrapped(component["summary"]))
        width = max((len(row["name"]) for row in component["arguments"]), default=0)
        for row in component["arguments"]:
            kind = f"   {row['type']}" if row["type"] else ""
            default = "given when it is called" if row["default"] is None else f"default {row['default']}"
            if row["given"] is None:
                typer.secho(f"    {row['name']:{width}}   {default}{kind}", dim=True)
            else:
                default = "" if row["default"] is None else f" ({default})"
                typer.echo(f"    {row['name']:{width}} = {row['given']}{default}{kind}")
        if component["alternatives"]:
            typer.echo(_wrapped(f"instead: {', '.join(component['alternatives'])}   (--{component['key']} NAME)"))
        typer.echo()
    if explained["settings"]:
        typer.secho("settings", bold=True)
        width = max(map(len, explained["settings"]))
        for key, value in explained["settings"].items():
            typer.echo(f"    {key:{width}} = {value}")
    if explained["missing"]:
        typer.secho(f"\nmust be given: {', '.join(f'--{key} VALUE' for key in explained['missing'])}", fg="yellow")


def print_check(report: Mapping[str, Any]) -> None:
    """Print what `avse.recipe.check` gives."""
    typer.echo(f"parameters   {report['parameters']:,} ({report['trainable']:,} trainable)")
    for name, shape in report["shapes"].items():
        typer.echo(f"{name:12} {shape}")
    typer.echo(f"loss         {report['loss']:.5g}")
    typer.echo(f"forward      {report['forward_seconds']:.2f} s, backward {report['backward_seconds']:.2f} s")
    if report["idle"]:
        idle = report["idle"]
        more = " ..." if len(idle) > 5 else ""
        typer.secho(f"no gradient reaches {len(idle)} parameters: {', '.join(idle[:5])}{more}", fg="yellow")


def _describe_kind(kind: str) -> None:
    from avse.recipe.report import summary_of

    base = plugins.contract(kind)
    typer.secho(f"{kind}: {summary_of(base)}\n", bold=True)
    names = plugins.names(kind)
    for name in names:
        typer.echo(f"  {name:24} {summary_of(plugins.get(kind, name))}")
    if not names:
        typer.echo("  (no plugins)")
    typer.secho(f"\nWhat to write ({base.__module__}.{base.__name__}):", bold=True)
    for name in _interface(base):
        typer.echo("\n" + textwrap.indent(_signature(base, name), "  "))
    typer.echo(f"\nWrite one: avse new {kind} NAME")
    typer.echo(f"By hand: subclass {base.__module__}.{base.__name__} and put @register({kind!r}, NAME) above it.")


def _interface(base: type) -> list[str]:
    """The constructor, where the contract says what it takes, and the abstract methods in the order of the contract."""
    abstract: frozenset[str] = getattr(base, "__abstractmethods__", frozenset())
    own = [name for name in vars(base) if name in abstract]
    return ["__init__"] * ("__init__" in vars(base)) + own + sorted(abstract.difference(own))


def _signature(base: type, name: str) -> str:
    """A method's arguments, the first line of its docstring, and its lines on shapes."""
    method = getattr(base, name)
    arguments = [str(p).partition(":")[0].partition("=")[0] for p in inspect.signature(method).parameters.values()]
    lines = (inspect.getdoc(base if name == "__init__" else method) or "").splitlines()
    if name == "__init__":
        lines = lines[lines.index("Arguments") :] if "Arguments" in lines else []
        starts = tuple(argument + end for argument in arguments for end in (" :", ","))
        typed = list(dict.fromkeys(line for line in lines if line.startswith(starts)))
    else:
        returns = lines.index("Returns") if "Returns" in lines else len(lines)
        typed = lines[:1] + [
            ("returns " if at > returns else "") + line
            for at, line in enumerate(lines)
            if at and not line.startswith(" ") and (" : " in line or "shape (" in line)
        ]
    return "\n".join([f"{name}({', '.join(arguments[1:])})", *(f"    {line}" for line in typed)])


def _describe_plugin(kind: str, name: str) -> None:
    from avse.docstrings import arguments_of, whole_docstring

    cls = plugins.get(kind, name)
    typer.secho(f"{kind}/{name}", bold=True, nl=False)
    typer.echo(f"   {cls.__name__} ({plugins.place(kind, name)})\n")
    typer.echo(whole_docstring(cls) or "(no description)")
    typer.echo("\nIn a recipe:\n")
    typer.echo(f"    {kind}: !new:avse.plugins.{kind}.{name}")
    for argument in arguments_of(cls):
        value = "!PLACEHOLDER" if argument.default is inspect.Parameter.empty else _yaml(argument.default)
        typer.echo(f"        {argument.name}: {value}")
    if cls.paper:
        typer.echo(f"\nPaper: {cls.paper}")


def _yaml(value: Any) -> str:
    try:
        return json.dumps(list(value) if isinstance(value, tuple) else value)
    except TypeError:
        return str(value)


def _wrapped(text: str) -> str:
    width = max(40, min(shutil.get_terminal_size().columns, 120))
    return textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    ")

"""The command `avse`: its verbs put together, and what happens to mistakes, warnings and interruptions.

A verb reads its options and calls one function of the package, imported only then.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from avse.cli import data, develop, experiment, live, use
from avse.cli.options import renewed_verb
from avse.compatibility import OldName
from avse.errors import AvseError, AvseWarning
from avse.files import end_by_exception

# By default the threads of PyTorch wait for one another in loops that take the cores from whatever else runs: on a busy
# machine a model then takes ten times as long.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


class _Group(TyperGroup):
    """Tells a user's mistake in one message, without a traceback; takes `--plugins` before and after the verb."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with _warnings_in_one_line():
            return super().main(*args, **kwargs)

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
        return super().parse_args(ctx, first + renewed_verb(rest))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AvseError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            goes_on = ctx.invoked_subcommand in ("train", "evaluate", "study", "prepare")
            left = "The same command goes on from there." if goes_on else "Nothing half-written is left."
            left += " With --resume, the same command does the rest." if ctx.invoked_subcommand == "enhance" else ""
            typer.secho(f"Interrupted. {left}", fg="red", err=True)
            raise typer.Exit(130) from error


app = typer.Typer(
    name="avse",
    cls=_Group,
    help="Audio-visual speech enhancement: find the speech of a person who speaks on video.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _group in (use, live, experiment, data, develop):
    app.add_typer(_group.app)


def main() -> None:
    """Entry point of the command."""
    end_by_exception()
    gc.set_threshold(20_000)  # PyTorch makes so many objects that a tenth of a short command went in search of cycles
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what no encoding has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


def command() -> None:
    """The whole process of the command: `main`, and the end."""
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int) and all(
            thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
        ):
            _end(ended.code)
        raise


def _end(status: int) -> None:
    """End the process at once: to take down PyTorch object by object takes 0.3 s, and 100 MB more."""
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):  # which Python tells at its usual end
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(status)


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Print each warning of an old name once, as `avse: ...`, and what else a user should know as `Warning: ...`."""
    printed: set[str] = set()
    with warnings.catch_warnings():
        usual = warnings.showwarning
        marks: dict[type[Warning], str] = {OldName: "avse", AvseWarning: "Warning"}
        for category in marks:
            warnings.simplefilter("always", category)

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            mark = next((mark for known, mark in marks.items() if issubclass(category, known)), None)
            if mark is None:
                usual(message, category, *place, **more)
            elif str(message) not in printed:
                printed.add(str(message))
                typer.secho(f"{mark}: {message}", fg="yellow", err=True)

        warnings.showwarning = show
        yield


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

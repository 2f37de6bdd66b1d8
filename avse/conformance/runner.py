"""`avse check`: finds plugins by file, folder, installed package or name, runs their checks, and prints tables."""

from __future__ import annotations

import difflib
import json
import re
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse import plugins
from avse.conformance import CheckResult, checks_of, does_not_apply, run_check
from avse.errors import AvseError
from avse.files import atomic_path

if TYPE_CHECKING:
    from rich.console import Console

Target = str | Path | type


@dataclass(frozen=True)
class Report:
    """The results of the checks of one plugin, which is at `place`, as `file:line`."""

    plugin: type
    kind: str
    name: str
    place: str
    results: list[CheckResult]


def check_plugins(
    targets: Sequence[Target],
    only: Sequence[str] | None = None,
    json_path: str | Path | None = None,
    show_traceback: bool = False,
    failures: bool = False,
) -> bool:
    """Run the checks of plugins, print a table for each and a summary, and return whether all passed.

    Arguments
    ---------
    targets : sequence of str, path or type
        See `find_plugins`.
    only : sequence of str, optional
        Names of checks to run; all by default.
    json_path : path, optional
        A file for the same results.
    show_traceback : bool
        Print the traceback of each exception.
    failures : bool
        Print only the checks that failed.

    Raises
    ------
    AvseError
        If a target leads to no plugin, or a name in `only` is not that of a check.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    begin = time.perf_counter()
    classes, problems = find_plugins(targets)
    names = {check.name for cls in classes for check in checks_of(kind_and_name(cls)[0])}
    for name in only or ():
        if classes and name not in names:
            raise AvseError(plugins.unknown("check", name, names))
    for problem in problems:
        console.print(
            f"FAIL  {_short(problem.place)}: {problem.subject}: {problem.reason}", style="red", soft_wrap=True
        )
    reports = []
    for report in run_plugins(classes, only):
        reports.append(report)
        show(report, console, show_traceback, failures)
    counts = Counter(result.outcome for report in reports for result in report.results)
    passed = not problems and not counts["FAIL"]
    if json_path is not None:
        with atomic_path(json_path) as path:
            path.write_text(json.dumps(_as_json(reports, problems, passed), indent=2) + "\n", encoding="utf-8")
    _list_failures(reports, console)
    total = sum(counts.values())
    broken = f"{len(problems)} that cannot be loaded, " if problems else ""
    console.print(
        f"{len(reports)} plugin{'s' * (len(reports) != 1)}, {broken}{total} check{'s' * (total != 1)}: "
        f"{counts['pass']} pass, {counts['FAIL']} fail, {counts['n/a']} n/a ({time.perf_counter() - begin:.1f} s)",
        style="green" if passed else "bold red",
        soft_wrap=True,
    )
    return passed


def find_plugins(targets: Iterable[Target]) -> tuple[list[type], list[plugins.Problem]]:
    """Plugin classes, and the problems of those that cannot be loaded.

    Arguments
    ---------
    targets : iterable of str, path or type
        A Python file or a folder of them; a kind (`fusion`); a plugin (`fusion/concat`); an installed distribution, or
        a module of one, that announces plugins in the entry-point group `avse.plugins`; or a class.

    Raises
    ------
    AvseError
        If a target is none of these, or registers no plugin.

    Example
    -------
    >>> [cls.__name__ for cls in find_plugins(["fusion/concat", "corruption/blur"])[0]]
    ['Concat', 'Blur']
    """
    classes: list[type] = []
    problems: list[plugins.Problem] = []
    for target in targets:
        if isinstance(target, type):
            classes.append(target)
            continue
        names, wrong = _names_of(target)
        classes += [plugins.get(kind, name) for kind, name in names]
        problems += wrong
    return list(dict.fromkeys(classes)), list(dict.fromkeys(problems))


def run_plugins(classes: Iterable[type[Any]], only: Sequence[str] | None = None) -> Iterator[Report]:
    """Run the checks of each class, or those named in `only`."""
    for cls in classes:
        kind, name = kind_and_name(cls)
        registered = vars(cls).get("plugin_name")
        place = plugins.place(kind, name) if registered else f"{cls.__module__}.{cls.__qualname__}"
        checks = [check for check in checks_of(kind) if not only or check.name in only]
        yield Report(cls, kind, name, place, [run_check(check, cls) for check in checks])


def kind_and_name(cls: type[Any]) -> tuple[str, str]:
    """Kind and name of a plugin class; for one that is not registered, the kind of its contract and its own name.

    Raises
    ------
    AvseError
        If it is not a class of any kind.

    Example
    -------
    >>> kind_and_name(plugins.get("metric", "si_sdr"))
    ('metric', 'si_sdr')
    """
    if vars(cls).get("plugin_name"):
        return cls.plugin_kind, cls.plugin_name
    for kind in plugins.KINDS:
        if issubclass(cls, plugins.contract(kind)):
            return kind, cls.__name__
    raise AvseError(f"{cls.__name__} is not a plugin: it has none of the classes of avse.contracts as a base.")


def show(report: Report, console: Console, show_traceback: bool = False, failures: bool = False) -> None:
    """Print the table of one plugin: each check and its outcome, and for a failure the cause, the place and a hint.

    Checks that stopped at the same exception are printed together, after the others; those that met NaN before them.
    """
    from rich.text import Text

    if failures and all(result.passed for result in report.results):
        return
    width = max(len(result.check.name) for result in report.results) if report.results else 0
    console.print(Text.assemble((f"{report.kind}/{report.name}", "bold"), f"  {_short(report.place)}"), soft_wrap=True)
    styles = {"pass": "green", "FAIL": "bold red", "n/a": "dim"}
    together = [group for group in _same_errors(report.results) if len(group) > 1]
    grouped = {id(result) for group in together for result in group}
    for group in together:
        if group[0].nan:
            _print_together(group, "met the same NaN", console, width)
    for result in report.results:
        begin = [Text(result.check.name.ljust(width)), Text(result.outcome.ljust(4), style=styles[result.outcome])]
        if result.passed:
            if not failures:
                text = result.check.expected if result.applicable else result.found
                _print_row(console, [*begin, Text(text, style="dim")])
        elif id(result) not in grouped:
            _print_row(console, [*begin, Text("expected", style="bold"), Text(result.check.expected)])
            _print_failure(result, console, width)
    for group in together:
        if not group[0].nan:
            _print_together(group, "stopped at the same error", console, width)
    reasons = _by_reason(does_not_apply(report.kind))
    if reasons and not failures:
        console.print(Text(f"does not apply to a {report.kind}: {reasons}", style="dim"))
    shown = [result for result in report.results if id(result) not in grouped] + [group[0] for group in together]
    for result in shown:
        if show_traceback and result.error is not None:
            console.print(Text(f"\n{result.check.name}:", style="bold"))
            console.print(Text("".join(traceback.format_exception(result.error))), soft_wrap=True)
    console.print()


def _print_together(group: Sequence[CheckResult], what: str, console: Console, width: int) -> None:
    from rich.text import Text

    names = ", ".join(result.check.name for result in group)
    console.print(Text(f"{len(group)} checks {what}: {names}", style="bold red"))
    _print_failure(group[0], console, width)


def _print_failure(result: CheckResult, console: Console, width: int) -> None:
    from rich.text import Text

    empty = [Text(" " * width), Text("    ")]
    _print_row(console, [*empty, Text("found   ", style="bold"), Text(result.found, style="red")])
    # One line of any length, so that it can be copied.
    console.print(" " * (width + 8) + "where     " + _short(result.place), soft_wrap=True)
    if result.hint:
        _print_row(console, [*empty, Text("hint    ", style="bold"), Text(result.hint)])


def _same_errors(results: Sequence[CheckResult]) -> list[list[CheckResult]]:
    """Exceptions, grouped by type, place and message without its numbers; and NaN, by its place."""
    together: dict[tuple[str, str], list[CheckResult]] = {}
    for result in results:
        if result.nan:
            together.setdefault(("NaN", result.place), []).append(result)
        elif result.raised:
            together.setdefault((re.sub(r"\d+", "#", result.found), result.place), []).append(result)
    return list(together.values())


def _list_failures(reports: Sequence[Report], console: Console) -> None:
    """One line for each plugin with the checks it failed."""
    from rich.text import Text

    failed = {f"{r.kind}/{r.name}": [result.check.name for result in r.results if not result.passed] for r in reports}
    if any(failed.values()):
        console.print(Text("Failed checks", style="bold red"))
    for plugin, names in failed.items():
        if names:
            _print_row(console, [Text(""), Text(f"{plugin}: {', '.join(names)}")])


def _print_row(console: Console, cells: list[Any]) -> None:
    """Cells side by side, two columns apart; the last one is wrapped."""
    from rich.table import Table

    row = Table.grid(padding=(0, 2, 0, 0))
    for cell in cells[:-1]:
        row.add_column(no_wrap=True, min_width=len(cell))
    row.add_column(overflow="fold")
    row.add_row(*cells)
    console.print(row)


def _by_reason(reasons: dict[str, str]) -> str:
    """Names grouped by their reason: `gradients, devices (nothing to learn); ...`."""
    together: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        together.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in together.items())


def _as_json(reports: Sequence[Report], problems: Sequence[plugins.Problem], passed: bool) -> dict[str, Any]:
    def of_result(result: CheckResult) -> dict[str, Any]:
        return {
            "check": result.check.name,
            "outcome": result.outcome.lower(),
            "expected": result.check.expected,
            "found": result.found,
            "where": result.place,
            "hint": result.hint,
            "seconds": round(result.seconds, 3),
        }

    return {
        "passed": passed,
        "plugins": [
            {
                "kind": report.kind,
                "name": report.name,
                "place": report.place,
                "checks": [of_result(result) for result in report.results],
                "not_asked": does_not_apply(report.kind),
            }
            for report in reports
        ],
        "problems": [{"subject": p.subject, "place": p.place, "reason": p.reason} for p in problems],
    }


def _names_of(target: str | Path) -> tuple[list[tuple[str, str]], list[plugins.Problem]]:
    path, text = Path(target).expanduser(), str(target)
    if not path.exists() and not isinstance(target, Path):
        kind, _, name = text.partition("/")
        if kind in plugins.KINDS:
            return ([(kind, name)] if name else [(kind, each) for each in plugins.names(kind)]), []
        folders = _folders_of_package(text)
        if folders is not None:
            names = [pair for folder in folders for pair in plugins.of_path(folder)]
            problems = [p for p in plugins.problems() if _concerns(p, text, folders)]
            return _expect_some(text, names, problems)
        if not path.suffix and "/" not in text and "\\" not in text:
            raise AvseError(
                f"{text}: is no file or folder, no kind ({', '.join(plugins.KINDS)}), and no installed package that "
                f"announces plugins in the entry-point group {plugins.ENTRY_POINT_GROUP}.{_nearest(path)}"
            )
        if "/" in text and not path.suffix and path.parent == Path(kind):
            raise AvseError(plugins.unknown("kind of plugin", kind, plugins.KINDS))
    if not path.exists() and (near := _nearest(path)):
        raise AvseError(f"{text}: no such file or folder.{near}")
    problems = plugins.load_path(path)
    return _expect_some(text, plugins.of_path(path), problems)


def _nearest(path: Path) -> str:
    """A question that names the file of the folder and the plugin with similar names; empty if there are none."""
    siblings = path.parent.iterdir() if path.parent.is_dir() else iter(())
    files = {
        file.stem: str(path.parent / file.name)
        for file in siblings
        if (file.is_dir() or file.suffix == ".py") and not file.name.startswith((".", "_"))
    }
    registered = {name: f"{kind}/{name}" for kind in plugins.KINDS for name in plugins.names(kind)}
    near = [names[key] for names in (files, registered) for key in difflib.get_close_matches(path.stem, names, 1, 0.75)]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _expect_some(
    text: str, names: list[tuple[str, str]], problems: list[plugins.Problem]
) -> tuple[list[tuple[str, str]], list[plugins.Problem]]:
    if not names and not problems:
        raise AvseError(f"{text}: registers no plugin. Put @register(kind, name) above a class.")
    return names, problems


def _folders_of_package(name: str) -> list[Path] | None:
    """The folders of a package whose entry points announce plugins; None if there is no such package."""
    import importlib.util
    from importlib import metadata

    folders: list[Path] = []
    for point in metadata.entry_points(group=plugins.ENTRY_POINT_GROUP):
        modules = [point.module, point.module.partition(".")[0]]
        if _normal(name) not in map(_normal, [*modules, point.dist.name if point.dist else ""]):
            continue
        plugins.names("corruption")  # imports the modules of entry points, and records their problems
        for module in reversed(modules):  # the whole package, or the module of a namespace that many share
            spec = importlib.util.find_spec(module)
            if spec is not None and spec.origin:
                file = Path(spec.origin).resolve()
                folders.append(file.parent if file.name == "__init__.py" else file)
                break
        else:
            folders.append(Path(module))
    return list(dict.fromkeys(folders)) or None


def _concerns(problem: plugins.Problem, name: str, folders: Sequence[Path]) -> bool:
    file = Path(problem.place.rpartition(":")[0])
    if any(folder == file or folder in file.parents for folder in folders):
        return True
    entry = problem.subject.removeprefix("entry point ")  # `NAME = MODULE of DISTRIBUTION`
    if entry == problem.subject:
        return False
    module, _, owner = entry.partition(" = ")[2].partition(" of ")
    module = module.partition(":")[0]
    return _normal(name) in map(_normal, [module, module.partition(".")[0], owner])


def _normal(name: str) -> str:
    return name.lower().replace("-", "_")


def _short(place: str) -> str:
    """A place below the current folder, relative to it."""
    file, colon, line = place.rpartition(":")
    try:
        return f"{Path(file).relative_to(Path.cwd())}{colon}{line}" if file else place
    except ValueError:
        return place

"""Tables of results: for the terminal, and in Markdown for the README of a recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse.errors import AvseError

if TYPE_CHECKING:
    from rich.table import Table

_DECIMALS = {"dB": 1, "": 3}


def read_summary(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The summary of an evaluation, from its folder, its `summary.json`, or as it is.

    Raises
    ------
    AvseError
        If there is none.
    """
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    path = path / "summary.json" if path.is_dir() else path
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AvseError(f"{path}: is no summary of an evaluation ({error}). Run `avse evaluate` first.") from None
    for cell in summary.get("corruptions", {}).get("cells", ()):
        if cell["video"] == "intact":  # as the last release wrote it
            cell["video"] = "clean"
        if "spoiled" in cell:
            cell["corrupted"] = cell.pop("spoiled")
    return summary


def number(value: float | None, unit: str = "", sign: bool = False, finer: int = 0) -> str:
    """A score with the decimals that its unit deserves, and `finer` more; a dash for none.

    >>> number(9.1234, "dB"), number(0.5, sign=True), number(-0.001, "MOS"), number(None)
    ('9.1', '+0.500', '0.00', '-')
    """
    if value is None:
        return "-"
    decimals = _DECIMALS.get(unit, 2) + finer
    return f"{round(value, decimals) + 0.0:{'+' if sign else ''}.{decimals}f}"  # + 0.0: no negative zero


def with_interval(cell: Mapping[str, Any] | None, unit: str = "", sign: bool = False, finer: int = 0) -> str:
    """A mean and its interval.

    >>> with_interval({"mean": 9.12, "low": 8.7, "high": 9.5, "n": 12}, "dB")
    '9.1 [8.7, 9.5]'
    """
    if not cell or cell["mean"] is None:
        return "-"
    mean, low, high = (number(cell[name], unit, sign, finer) for name in ("mean", "low", "high"))
    return mean if cell["low"] is None else f"{mean} [{low}, {high}]"


def scored_both(summary: Mapping[str, Any]) -> list[str]:
    """Metrics that score the noisy audio as well as the estimate; all where none does."""
    metrics = summary["metrics"]
    return [name for name, about in metrics.items() if not about.get("relative_to_noisy")] or list(metrics)


def condition_grid(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Cells by condition and SNR: SNR "" where the manifest names none, condition `all` where it names none.

    >>> condition_grid({"by_condition_snr": {}, "by_condition": {}, "overall": "cell"})
    {'all': {'': 'cell'}}
    """
    grid = dict(scores["by_condition_snr"])
    for condition, cell in scores.get("by_condition", {}).items():
        grid.setdefault(condition, {"": cell})
    return grid or {"all": {"": scores["overall"]}}


def place(condition: str, snr: str) -> str:
    """How a table names a cell.

    >>> place("babble", "-5"), place("babble", "")
    ('babble, -5 dB', 'babble')
    """
    return f"{condition}, {snr} dB" if snr else condition


def markdown_table(
    summaries: Sequence[str | Path | Mapping[str, Any]],
    metric: str = "si_sdr",
    *,
    value: str = "output",
    labels: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    snrs: Sequence[float] | None = None,
    interval: bool = True,
    noisy: bool = True,
) -> str:
    """Systems by condition and SNR, for a README.

    Arguments
    ---------
    summaries : sequence of dict or path
        One for each row: summaries, or folders of evaluations.
    metric : str
    value : str
        `output`, `input` or `improvement`.
    labels : sequence of str, optional
        Names of the rows. Default: those of the systems.
    conditions : sequence of str, optional
    snrs : sequence of float, optional
        Columns, in this order. Default: all there are.
    interval : bool
        Write the bootstrap interval after the mean.
    noisy : bool
        First a row with the score of the noisy audio, with `value="output"`.

    Returns
    -------
    str

    Raises
    ------
    AvseError
        If a summary lacks the metric.

    Example
    -------
    >>> cell = {"si_sdr": {"input": {"mean": -5.0, "low": None, "high": None, "n": 1},
    ...                    "output": {"mean": 4.2, "low": 4.0, "high": 4.4, "n": 1}}}
    >>> summary = {"system": "small", "metrics": {"si_sdr": {"name": "SI-SDR", "unit": "dB"}},
    ...            "scores": {"by_condition_snr": {"babble": {"-5": cell}}}}
    >>> print(markdown_table([summary]))
    | SI-SDR (dB) | babble, -5 dB |
    |---|---|
    | noisy | -5.0 |
    | small | 4.2 [4.0, 4.4] |
    """
    read = [read_summary(one) for one in summaries]
    for one in read:
        if metric not in one["metrics"]:
            raise AvseError(f"{one['system']}: has no scores of {metric!r}; it has {', '.join(one['metrics'])}.")
    about = read[0]["metrics"][metric]
    grids = [condition_grid(one["scores"]) for one in read]
    shown = [
        (condition, snr)
        for condition in (conditions or dict.fromkeys(name for grid in grids for name in grid))
        for snr in (
            snrs_of(grid.get(condition, {}) for grid in grids) if snrs is None else [f"{snr:g}" for snr in snrs]
        )
    ]

    def row(name: str, grid: Mapping[str, Any], which: str) -> list[str]:
        cells = [grid.get(condition, {}).get(snr, {}).get(metric, {}).get(which) for condition, snr in shown]
        cells = cells if interval else [cell and {**cell, "low": None} for cell in cells]
        return [name, *(with_interval(cell, about["unit"], which == "improvement") for cell in cells)]

    title = about["name"] + (" improvement" if value == "improvement" else "")
    rows = [row("noisy", grids[0], "input")] if noisy and value == "output" else []
    rows += [row(name, grid, value) for name, grid in zip(labels or [one["system"] for one in read], grids)]
    return markdown([in_unit(title, about["unit"]), *(place(*names) for names in shown)], rows)


def score_table(summary: Mapping[str, Any], title: str | None = None) -> Table:
    """A summary for the terminal: a row for each condition and SNR, columns in -> out for each metric.

    Arguments
    ---------
    summary : dict
        From `evaluate`.
    title : str, optional

    Returns
    -------
    rich.table.Table
        `rich.print(score_table(summary))` shows it.
    """
    of = f" of {summary['speakers']} speakers" if summary["speakers"] else ""
    table = new_table(title or f"{summary['system']}: {summary['n']} mixtures{of}")
    table.add_column("")
    table.add_column("n", justify="right")
    metrics = {name: summary["metrics"][name] for name in scored_both(summary)}
    for about in metrics.values():
        table.add_column(header(about), justify="right")
    groups = places_of(summary["scores"])
    for name, cell in [*groups, ("overall", summary["scores"]["overall"])]:
        texts = []
        for metric, about in metrics.items():
            before, after = cell[metric]["input"], cell[metric]["output"]
            text = number(after["mean"], about["unit"])
            texts.append(text if before is None else f"{number(before['mean'], about['unit'])} → {text}")
        count = max(cell[metric]["output"]["n"] for metric in metrics)
        table.add_row(name, str(count), *texts, end_section=bool(groups) and name == groups[-1][0])
    speed, hardware = summary.get("rtf"), summary["hardware"]
    notes = []
    if speed is not None:
        where = f"{hardware['jobs']} job(s) x {hardware['threads_per_job']} thread(s), {hardware['device']}"
        notes.append(f"real-time factor {speed['median']:.3f}: enhancement only, {where}")
    if summary["failures"]:
        notes.append(f"{summary['failed']} failed, {summary['partial']} scored in part, of {summary['n']}")
    table.caption = "\n".join(notes)
    return table


def verdict(difference: Mapping[str, Any], higher_is_better: bool) -> int:
    """1 or -1 where a difference is clearly better or worse, since its interval leaves zero out; else 0.

    Example
    -------
    >>> verdict({"mean": -2.0, "low": -3.0, "high": -1.0}, higher_is_better=True)
    -1
    """
    if difference["low"] is None or difference["low"] <= 0 <= difference["high"]:
        return 0
    return 1 if (difference["mean"] > 0) == higher_is_better else -1


def comparison_table(result: Mapping[str, Any]) -> Table:
    """Paired differences of `avse.evaluation.compare` for the terminal; green is better and red worse."""
    from rich.markup import escape

    table = new_table(f"Differences from {result['baseline']} on {result['common']} common mixtures")
    for name in ("metric", "system", "", "n", "difference [95 %]", "p"):
        table.add_column(name, justify="left" if name in ("metric", "system", "") else "right")
    for metric in scored_both(result):
        about = result["metrics"][metric]
        for label, places in about["differences"].items():
            groups = [
                shown
                for name, whole in places_of(places)
                for shown in [(name, whole), *((f"  {key}", one) for key, one in _corpora(places, name).items())]
                if shown[1]["n"]
            ]
            for where, cell in [("overall", places["overall"]), *groups]:
                style = ("", "green", "red")[verdict(cell, about["higher_is_better"])]
                text = escape(with_interval(cell, about["unit"], sign=True, finer=1))
                first = where == "overall"
                table.add_row(
                    header(about) if first else "",
                    label if first else "",
                    where,
                    str(cell["n"]),
                    f"[{style}]{text}[/]" if style else text,
                    "-" if cell["p"] is None else "<0.001" if cell["p"] < 0.001 else f"{cell['p']:.3f}",
                    end_section=not groups or where == groups[-1][0],
                )
    for one in result.get("video_gains", ()):
        about = result["metrics"].get(one["metric"])
        if about is None:
            continue
        for label, gain in one["gain"].items():
            share = one["share"][label]
            kept = f" ({share:.0%})" if share is not None and label != result["baseline"] else ""
            text = escape(with_interval(gain, about["unit"], sign=True, finer=1)) + kept
            where = f"gain by video, {place(one['condition'], one['snr'])}"
            table.add_row(header(about), label, where, str(gain["n"]), text, "")
    groups = max(
        place["overall"]["groups"] for one in result["metrics"].values() for place in one["differences"].values()
    )
    table.caption = (
        "p: two-sided Wilcoxon signed-rank test, not corrected for the number of rows\n"
        f"intervals, p: over {groups} speakers; the training seed is not in them"
    )
    return table


def _corpora(places: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Cells by corpus at a place that `place` names so."""
    grid = places.get("by_corpus", {})
    return next((cells for key, row in grid.items() for snr, cells in row.items() if place(key, snr) == name), {})


def new_table(title: str) -> Table:
    """An empty table for the terminal."""
    from rich import box
    from rich.table import Table

    left: Any = {"title_justify": "left", "caption_justify": "left"}
    return Table(title=title, title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="", **left)


def in_unit(text: str, unit: str) -> str:
    """A title with its unit in brackets, if it has one."""
    return f"{text} ({unit})" if unit else text


def header(about: Mapping[str, Any]) -> str:
    """How a narrow column names a metric: only decibels are said."""
    return in_unit(about["name"], about["unit"] if about["unit"] == "dB" else "")


def places_of(scores: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and cells of all conditions and SNRs; none where there is only one that is everything."""
    grid = condition_grid(scores)
    if list(grid) == ["all"]:
        return []
    return [(place(condition, snr), cell) for condition, cells in grid.items() for snr, cell in cells.items()]


def snrs_of(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """All SNRs among the columns of a grid, in order."""
    return sorted({snr for row in cells for snr in row}, key=lambda snr: float(snr or 0))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])

"""Scores by SNR, distributions, improvements and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avse.evaluation.plots.figure import COLOURS, DARK, INPUT, colour_of, new_figure, outside_legend, styled
from avse.evaluation.scoring import Row
from avse.evaluation.tables import condition_grid, in_unit, places_of, read_summary, scored_both, snrs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def plot_scores(
    summaries: Sequence[str | Path | Mapping[str, Any]] | Mapping[str, Any],
    metrics: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> Figure:
    """Scores by SNR with their intervals: a row for each condition, a column for each metric.

    Arguments
    ---------
    summaries : dict, or sequence of dict or path
        One system or several, from `evaluate`.
    metrics : sequence of str, optional
        Default: all whose input is scored too.
    labels : sequence of str, optional
        Names of the systems.

    Returns
    -------
    matplotlib.figure.Figure
    """
    read = [read_summary(one) for one in ([summaries] if isinstance(summaries, Mapping) else summaries)]
    labels = labels or [summary["system"] for summary in read]
    grids = [condition_grid(summary["scores"]) for summary in read]
    conditions = list(dict.fromkeys(name for grid in grids for name in grid))
    metrics = list(metrics or scored_both(read[0]))
    snrs = snrs_of(cells for grid in grids for cells in grid.values())
    size = max(4.5, 0.4 + 2.1 * len(metrics)), 0.8 + 1.7 * len(conditions)
    figure, panels = new_figure(*size, len(conditions), len(metrics), sharex=True, sharey="col")
    for row, condition in enumerate(conditions):
        for column, metric in enumerate(metrics):
            axes, about = panels[row, column], read[0]["metrics"][metric]
            cells = [[grid.get(condition, {}).get(snr, {}).get(metric, {}) for snr in snrs] for grid in grids]
            before = [cell.get("input") for cell in cells[0]]
            _draw_line(axes, before, INPUT, "noisy", -0.05, marker="s", linestyle="--")
            for index, label in enumerate(labels):
                after = [cell.get("output") for cell in cells[index]]
                _draw_line(axes, after, colour_of(index), label, 0.05 + 0.08 * index, marker="o")
            if row == 0:
                axes.set_title(in_unit(about["name"], about["unit"]))
            if column == 0:
                axes.set_ylabel(condition)
            axes.set_xlim(-0.4, len(snrs) - 0.6)
            axes.set_xticks(range(len(snrs)), [snr or "all" for snr in snrs])
    if snrs != [""]:
        figure.supxlabel("SNR of the mixture (dB)", fontsize=8.5)
    outside_legend(figure, panels[0, 0])
    return figure


def _draw_line(axes: Axes, cells: Sequence[Any], colour: str, label: str, shift: float, **style: Any) -> None:
    points = [(x + shift, cell) for x, cell in enumerate(cells) if cell and cell["mean"] is not None]
    if points:
        x, drawn = zip(*points)
        style |= {"color": colour, "label": label, "markersize": 4.5, "capsize": 2.5, "elinewidth": 1.0}
        axes.errorbar(x, [cell["mean"] for cell in drawn], yerr=_bars(drawn), **style)


def _bars(cells: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Lengths of error bars below and above the means, shape (2, cells)."""
    return np.array(
        [(0, 0) if cell["low"] is None else (cell["mean"] - cell["low"], cell["high"] - cell["mean"]) for cell in cells]
    ).T.clip(min=0)


@styled
def plot_labels(summary: Mapping[str, Any], metric: str = "si_sdr", most: int = 24) -> Figure:
    """Improvement by class of noise, best first; the `most` classes with most utterances."""
    about = summary["metrics"][metric]
    improvements = {label: cell[metric]["improvement"] for label, cell in summary["scores"]["by_label"].items()}
    improvements = {label: cell for label, cell in improvements.items() if cell}
    labels = sorted(improvements, key=lambda label: -improvements[label]["n"])[:most]
    labels.sort(key=lambda label: improvements[label]["mean"])
    cells = [improvements[label] for label in labels]
    figure, [[axes]] = new_figure(8.5, 0.8 + 0.24 * len(labels))
    _draw_forest(axes, cells, COLOURS[0])
    axes.set_yticks(range(len(labels)), [f"{label}  (n={cell['n']})" for label, cell in zip(labels, cells)])
    title = in_unit(f"{about['name']} improvement", about["unit"])
    axes.set(title=f"{title} by noise", ylim=(-0.7, len(labels) - 0.3))
    return figure


def _draw_forest(
    axes: Axes, cells: Sequence[Mapping[str, Any]], colour: str, shift: float = 0.0, label: str = ""
) -> None:
    y, means = np.arange(len(cells)) + shift, [cell["mean"] for cell in cells]
    axes.axvline(0, color=DARK, linewidth=0.9, zorder=1)
    axes.errorbar(
        means, y, xerr=_bars(cells), fmt="o", color=colour, markersize=4.5, capsize=2.5, elinewidth=1.2, label=label
    )
    axes.grid(axis="y", visible=False)


@styled
def plot_distributions(rows: Sequence[Row], summary: Mapping[str, Any]) -> Figure:
    """Histograms of every score before and after."""
    metrics = scored_both(summary)
    figure, [panels] = new_figure(8.5, 2.5, 1, len(metrics))
    for axes, metric in zip(panels, metrics):
        about = summary["metrics"][metric]
        before, after = _column(rows, f"{metric}_input"), _column(rows, metric)
        both = np.r_[before, after]
        if both.size:
            bins = np.histogram_bin_edges(both, bins=min(30, max(8, int(np.sqrt(both.size)))))
            for values, colour, label in ((before, INPUT, "noisy"), (after, COLOURS[0], "enhanced")):
                if values.size:
                    axes.hist(values, bins, color=colour, alpha=0.25)
                    axes.hist(values, bins, color=colour, histtype="step", linewidth=1.3, label=label)
                    axes.axvline(values.mean(), color=colour, linestyle="--", linewidth=1.2)
        axes.set(title=about["name"], xlabel=about["unit"] or "score", yticks=[])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
    panels[0].set_ylabel("mixtures")
    outside_legend(figure, panels[0])
    return figure


@styled
def plot_improvement(rows: Sequence[Row], summary: Mapping[str, Any], metric: str = "si_sdr") -> Figure:
    """Improvement of every mixture over the score of its noisy audio, coloured by condition."""
    about = summary["metrics"][metric]
    figure, [[axes]] = new_figure(8.5, 3.2)
    conditions = list(summary["scores"]["by_condition"]) or [None]
    for index, condition in enumerate(conditions):
        chosen = [row for row in rows if condition in (None, row["condition"])]
        chosen = [row for row in chosen if None not in (row.get(metric), row.get(f"{metric}_input"))]
        before = _column(chosen, f"{metric}_input")
        gain = _column(chosen, metric) - before
        axes.scatter(before, gain, s=13, alpha=0.6, linewidths=0, color=colour_of(index), label=condition)
    axes.axhline(0, color=DARK, linewidth=0.9)
    axes.set(
        xlabel=in_unit(f"{about['name']} of the noisy audio", about["unit"]),
        ylabel=in_unit("improvement", about["unit"]),
        title="Every mixture",
    )
    if conditions != [None]:
        figure.legend(loc="outside upper right", ncols=min(6, len(conditions)))
    return figure


@styled
def plot_comparison(result: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Figure:
    """Paired differences of `avse.evaluation.compare` with their intervals, overall and by condition and SNR."""
    metrics = list(metrics or scored_both(result))
    figure, [panels] = new_figure(max(5.0, 1.6 + 2.2 * len(metrics)), 2.0, 1, len(metrics), sharey=True)
    names: list[str] = []
    for axes, metric in zip(panels, metrics):
        about = result["metrics"][metric]
        for index, (label, scores) in enumerate(about["differences"].items()):
            shown = {"overall": scores["overall"], **dict(places_of(scores))}
            names = list(shown)
            cells = [cell if cell["n"] else {"mean": np.nan, "low": None} for cell in shown.values()]
            shift = 0.16 * (index - (len(about["differences"]) - 1) / 2)
            _draw_forest(axes, cells, colour_of(index), shift, label)
        better = "right" if about["higher_is_better"] else "left"
        axes.set_title(about["name"])
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(f"{in_unit('difference', about['unit'])}, better to the {better}")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    figure.set_figheight(1.5 + 0.3 * len(names))
    title = f"Difference from {result['baseline']}, {result['common']} mixtures"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    outside_legend(figure, panels[0])
    return figure


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if row.get(name) is not None], dtype=np.float64)

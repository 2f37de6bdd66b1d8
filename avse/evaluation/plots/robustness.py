"""Figures of a sweep over corruptions: what each does to the scores, and whether the reliability tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from avse.evaluation.plots.figure import COLOURS, DARK, new_figure, styled
from avse.evaluation.scoring import NO_VIDEO
from avse.evaluation.studies.robustness import ANY, cell_grid, judged, severities_of
from avse.evaluation.tables import header, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOTICED = {"dB": 1.0, "": 0.02}  # a difference that one hears; smaller ones stay pale


@styled
def plot_robustness(summary: Mapping[str, Any]) -> Figure:
    """Corruptions by severity: a panel for each metric's difference to no video, and one for the AUC of reliability.

    A bold number is clearly above or below zero: its interval leaves zero out.
    """
    grid = {video: row for video, row in cell_grid(summary).items() if video != NO_VIDEO}
    metrics, columns = [*summary["metrics"], "auc"], [*severities_of(summary), None]
    width = 0.52 * len(columns) + 0.25
    size = 1.5 + width * len(metrics), 1.0 + 0.27 * len(grid)
    figure, [panels] = new_figure(*size, 1, len(metrics), sharey=True)
    for axes, metric in zip(panels, metrics):
        if metric == "auc":
            values = [[(row.get(one) or {}).get("auc") for one in columns] for row in grid.values()]
            texts = [["" if value is None else f"{value:.2f}" for value in row] for row in values]
            _draw_grid(axes, values, "RdBu", 0.0, 1.0, texts)
            axes.set_title("Reliability: AUC")
        else:
            _draw_differences(axes, summary, metric, [[row.get(one) for one in columns] for row in grid.values()])
        axes.set_xticks(range(len(columns)), [*map(str, columns[:-1]), "mean"])
        axes.axvline(len(columns) - 1.5, color="white", linewidth=3)
        for edge in (0.5, len(grid) - 1.5):
            axes.axhline(edge, color="white", linewidth=3)
    panels[0].set_yticks(range(len(grid)), [video.replace("_", " ") for video in grid])
    figure.supxlabel("severity", fontsize=8.5)
    figure.suptitle(f"{summary['system']}: difference to the same model without video", x=0.01, ha="left", fontsize=10)
    return figure


def _draw_differences(axes: Axes, summary: Mapping[str, Any], metric: str, cells: list[list[Any]]) -> None:
    about = summary["metrics"][metric]
    means = [[None if cell is None else cell["scores"][metric]["difference"]["mean"] for cell in row] for row in cells]
    sizes = [abs(value) for row in means for value in row if value is not None]
    reach = max([*sizes, _NOTICED.get(about["unit"], 0.1)])
    finer = int(about["unit"] == "dB")
    texts = [["" if value is None else number(value, about["unit"], True, finer) for value in row] for row in means]
    clear = [[bool(judged(cell, summary, metric)) for cell in row] for row in cells]
    colours = "RdBu" if about["higher_is_better"] else "RdBu_r"
    _draw_grid(axes, means, colours, -reach, reach, texts, clear)
    axes.set_title(header(about))


def _draw_grid(
    axes: Axes,
    values: list[list[float | None]],
    colours: str,
    low: float,
    high: float,
    texts: list[list[str]],
    bold: list[list[bool]] | None = None,
) -> None:
    table = np.array(values, dtype=np.float64)
    axes.imshow(table, cmap=colours, vmin=low, vmax=high, aspect="auto", alpha=0.85)
    for row, column in np.ndindex(*table.shape):
        strong = abs(table[row, column] - (low + high) / 2) > 0.36 * (high - low)
        weight = "bold" if bold and bold[row][column] else "normal"
        style: Any = {"fontsize": 6.8, "fontweight": weight, "color": "white" if strong else "#1c2126"}
        axes.text(column, row, texts[row][column], ha="center", va="center", **style)
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


@styled
def plot_calibration(summary: Mapping[str, Any]) -> Figure:
    """Share of frames that are clean over the reliability that the model gave them, in ten bins."""
    bins = np.array(summary["corruptions"]["calibration"]).reshape(-1, 3)
    figure, [[axes]] = new_figure(3.6, 3.4)
    axes.plot([0, 1], [0, 1], color=DARK, linewidth=0.9, linestyle="--", label="calibrated")
    axes.plot(bins[:, 0], bins[:, 1], color=COLOURS[0], marker="o", markersize=4, label="measured")
    share = bins[:, 2] / max(bins[:, 2].sum(), 1)
    axes.bar(bins[:, 0], share, width=0.05, color=COLOURS[0], alpha=0.2, label="share of all frames")
    error = cell_grid(summary)[ANY][None]["ece"]
    axes.set(xlabel="reliability", ylabel="share of frames that are clean", xlim=(-0.02, 1.02), ylim=(0, 1.02))
    axes.set_title("Calibration" if error is None else f"Calibration: error {error:.2f}")
    axes.legend(loc="upper left")
    return figure

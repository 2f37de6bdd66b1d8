"""Pictures: spectrograms over the reliability curve, scores by SNR, distributions, comparisons.

Every function returns a `matplotlib.figure.Figure` that belongs to nobody (no pyplot, no global state); `save` writes
it and `to_bytes` gives its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.evaluation.scoring import Row
from avse.evaluation.tables import condition_grid, place, read_summary, scored_both

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INPUT = "#7f8790"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b4a9f", "#8c6d31")  # told apart by all
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555b61",
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e6e9",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "#555b61",
    "ytick.color": "#555b61",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.dpi": 160,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
}
_RANGE_DB = 70.0
_COLUMNS = 2400


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A function that draws, in the style of all pictures here."""

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        from matplotlib import rc_context

        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to `.png`, `.pdf` or `.svg`; nothing half-written is left.

    Raises
    ------
    AvseError
        If it cannot be written.
    """
    from avse.errors import AvseError
    from avse.files import atomic_path

    with atomic_path(path) as temporary:
        try:
            figure.savefig(temporary)
        except ValueError as error:
            raise AvseError(f"{path}: cannot be drawn ({error}). Name a .png, .pdf or .svg file.") from None


def to_bytes(figure: Figure, form: str = "png") -> bytes:
    """A figure as the bytes of a file: `png`, or `webp`, which is far smaller for spectrograms."""
    image = BytesIO()
    figure.savefig(image, format=form, pil_kwargs={"quality": 88} if form == "webp" else None)
    return image.getvalue()


def plot_estimate(
    path: str | Path | None,
    noisy: np.ndarray,
    enhanced: np.ndarray,
    clean: np.ndarray | None = None,
    reliability: np.ndarray | None = None,
    valid: np.ndarray | None = None,
    title: str | None = None,
) -> Figure:
    """Spectrograms of a clip, one above the other on one scale, over how far the video was trusted.

    Arguments
    ---------
    path : path or None
        Where to write the picture (`.png`, `.pdf`, `.svg`). None: only return it.
    noisy, enhanced, clean : array, shape (samples,)
        At 16 kHz. The enhanced and clean sounds may be of another length than the noisy one.
    reliability : array, shape (video_frames,), optional
        In [0, 1], 25 per second.
    valid : array, shape (video_frames,), bool, optional
        Frames without a mouth are shaded.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Example
    -------
    >>> noisy = np.random.default_rng(0).standard_normal(16000)
    >>> figure = plot_estimate(None, noisy, 0.1 * noisy, reliability=np.ones(25))
    >>> [axes.get_title(loc="left") for axes in figure.axes[:3]]
    ['noisy', 'enhanced', 'reliability of the video']
    """
    sounds = {"noisy": noisy, "enhanced": enhanced} | ({} if clean is None else {"clean": clean})
    figure = _plot_sounds(sounds, reliability, valid, title)
    if path is not None:
        save(figure, path)
    return figure


def plot_sounds(path: str | Path | None, sounds: Mapping[str, np.ndarray], title: str | None = None) -> Figure:
    """Spectrograms of sounds, one above the other on one scale.

    Arguments
    ---------
    path : path or None
        Where to write the picture (`.png`, `.pdf`, `.svg`). None: only return it.
    sounds : mapping of str to array, shape (samples,)
        At 16 kHz, by name.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Example
    -------
    >>> figure = plot_sounds(None, {"drawn": np.random.default_rng(0).standard_normal(16000)})
    >>> figure.axes[0].get_title(loc="left")
    'drawn'
    """
    figure = _plot_sounds(sounds, None, None, title)
    if path is not None:
        save(figure, path)
    return figure


@styled
def _plot_sounds(
    sounds: Mapping[str, np.ndarray],
    reliability: np.ndarray | None,
    valid: np.ndarray | None,
    title: str | None,
) -> Figure:
    from matplotlib.ticker import MultipleLocator

    duration = max(len(sound) for sound in sounds.values()) / SAMPLE_RATE
    spectra = {name: decibels(np.asarray(sound, np.float32), duration) for name, sound in sounds.items()}
    top = max(float(np.quantile(spectrum, 0.999)) for spectrum in spectra.values())
    heights = [1.15] * len(sounds) + ([0.55] if reliability is not None else [])
    figure, rows, bar_axes = _stack(heights, len(sounds), title)
    for axes, (name, sound) in zip(rows, sounds.items()):
        image = axes.imshow(
            spectra[name],
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=top - _RANGE_DB,
            vmax=top,
            extent=(0, len(sound) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000),
            interpolation="bilinear",
        )
        axes.set(title=name, ylabel="kHz", facecolor="black")
        axes.yaxis.set_major_locator(MultipleLocator(2))
        axes.grid(False)
    bar = figure.colorbar(image, cax=bar_axes, label="level (dB)")
    ticks = np.arange(0, _RANGE_DB + 1, 20)
    bar.set_ticks(list(top - ticks), labels=[f"{-tick:.0f}" if tick else "0" for tick in ticks])
    bar.outline.set_visible(False)
    if reliability is not None:
        _draw_reliability(rows[-1], np.asarray(reliability, np.float64), valid)
    for axes in rows:
        axes.set_xlim(0, duration)
        axes.tick_params(labelbottom=axes is rows[-1])
    rows[-1].set_xlabel("seconds")
    return figure


def _stack(heights: Sequence[float], spectra: int, title: str | None) -> tuple[Figure, list[Axes], Axes]:
    """Axes one above the other, `heights` in inches, and beside the first `spectra` of them one for the colours.

    Placed by hand: the automatic layout takes longer than all the drawing.
    """
    from matplotlib.figure import Figure

    width, gap, bottom, top = 8.5, 0.3, 0.45, 0.55 if title else 0.3
    height = bottom + top + sum(heights) + gap * (len(heights) - 1)
    figure = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]  # known to matplotlib, not to its types
    rows = []
    upper = height - top
    for inches in heights:
        rows.append(figure.add_axes((0.5 / width, (upper - inches) / height, 7.1 / width, inches / height)))
        upper -= inches + gap
    low, high = rows[spectra - 1].get_position().y0, rows[0].get_position().y1
    bar = figure.add_axes((7.75 / width, low, 0.13 / width, high - low))
    if title:
        figure.text(0.12 / width, 1 - 0.1 / height, title, va="top", fontsize=10.5, fontweight="bold")
    return figure, rows, bar


def _draw_reliability(axes: Axes, reliability: np.ndarray, valid: np.ndarray | None) -> None:
    edges = np.arange(len(reliability) + 1) / VIDEO_RATE
    axes.stairs(reliability, edges, fill=True, color=COLOURS[0], alpha=0.22)
    axes.stairs(reliability, edges, color=COLOURS[0], linewidth=1.4)
    unseen = np.zeros(len(reliability), bool) if valid is None else ~np.asarray(valid, bool)[: len(reliability)]
    if unseen.any():
        bounds = np.flatnonzero(np.diff(np.r_[False, unseen, False])) / VIDEO_RATE
        for index, (start, stop) in enumerate(zip(bounds[::2], bounds[1::2])):
            label = None if index else "no mouth seen"
            axes.axvspan(start, stop, facecolor="#f0f1f2", edgecolor="#b9bec3", hatch="////", linewidth=0, label=label)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), borderaxespad=0)
    axes.set(title="reliability of the video", ylim=(0, 1.04), yticks=(0, 0.5, 1))


def decibels(sound: np.ndarray, duration: float) -> np.ndarray:
    """Power spectrum in dB, shape (bins, columns); columns lie further apart on long sounds."""
    size = 512
    hop = max(80, int(duration * SAMPLE_RATE / _COLUMNS))
    padded = np.pad(sound, (size // 2, size // 2 + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(windows * np.hanning(size + 1)[:-1].astype(np.float32), axis=1)) ** 2
    return 10 * np.log10(power.T + 1e-8)


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
    from matplotlib.figure import Figure

    read = [read_summary(one) for one in ([summaries] if isinstance(summaries, Mapping) else summaries)]
    labels = labels or [one["system"] for one in read]
    grids = [condition_grid(one["scores"]) for one in read]
    conditions = list(dict.fromkeys(name for grid in grids for name in grid))
    metrics = list(metrics or scored_both(read[0]))
    snrs = sorted({snr for grid in grids for cells in grid.values() for snr in cells}, key=lambda one: float(one or 0))
    figure = Figure(figsize=(max(4.5, 0.4 + 2.1 * len(metrics)), 0.8 + 1.7 * len(conditions)))
    panels = figure.subplots(len(conditions), len(metrics), sharex=True, sharey="col", squeeze=False)
    for row, condition in enumerate(conditions):
        for column, metric in enumerate(metrics):
            axes, about = panels[row, column], read[0]["metrics"][metric]
            cells = [grids[0].get(condition, {}).get(snr, {}).get(metric, {}).get("input") for snr in snrs]
            _draw_line(axes, cells, INPUT, "noisy", -0.05, marker="s", linestyle="--")
            for index, (label, grid) in enumerate(zip(labels, grids)):
                cells = [grid.get(condition, {}).get(snr, {}).get(metric, {}).get("output") for snr in snrs]
                _draw_line(axes, cells, COLOURS[index % len(COLOURS)], label, 0.05 + 0.08 * index, marker="o")
            if row == 0:
                axes.set_title(about["name"] + (f" ({about['unit']})" if about["unit"] else ""))
            if column == 0:
                axes.set_ylabel(condition)
            axes.set_xlim(-0.4, len(snrs) - 0.6)
            axes.set_xticks(range(len(snrs)), [snr or "all" for snr in snrs])
    if snrs != [""]:
        figure.supxlabel("SNR of the mixture (dB)", fontsize=8.5)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=min(4, len(names)))
    return figure


def _draw_line(axes: Axes, cells: Sequence[Any], colour: str, label: str, shift: float, **style: Any) -> None:
    points = [(x + shift, cell) for x, cell in enumerate(cells) if cell and cell["mean"] is not None]
    if not points:
        return
    means = np.array([cell["mean"] for _, cell in points])
    axes.errorbar(
        [x for x, _ in points],
        means,
        yerr=_bars([cell for _, cell in points]),
        color=colour,
        label=label,
        markersize=4.5,
        capsize=2.5,
        elinewidth=1.0,
        **style,
    )


def _bars(cells: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Lengths of error bars below and above the means, shape (2, cells)."""
    return np.array(
        [(0, 0) if cell["low"] is None else (cell["mean"] - cell["low"], cell["high"] - cell["mean"]) for cell in cells]
    ).T.clip(min=0)


@styled
def plot_labels(summary: Mapping[str, Any], metric: str = "si_sdr", most: int = 24) -> Figure:
    """Improvement by class of noise, best first; the `most` classes with most utterances.

    Arguments
    ---------
    summary : dict
    metric : str
    most : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    about = summary["metrics"][metric]
    found = {label: cell[metric]["improvement"] for label, cell in summary["scores"]["by_label"].items()}
    found = {label: cell for label, cell in found.items() if cell}
    kept = sorted(found, key=lambda label: -found[label]["n"])[:most]
    kept.sort(key=lambda label: found[label]["mean"])
    cells = [found[label] for label in kept]
    figure = Figure(figsize=(8.5, 0.8 + 0.24 * len(kept)))
    axes = figure.subplots()
    _draw_forest(axes, cells, COLOURS[0])
    axes.set_yticks(range(len(kept)), [f"{label}  (n={cell['n']})" for label, cell in zip(kept, cells)])
    unit = f" ({about['unit']})" if about["unit"] else ""
    axes.set(title=f"{about['name']} improvement{unit} by noise", ylim=(-0.7, len(kept) - 0.3))
    return figure


def _draw_forest(
    axes: Axes, cells: Sequence[Mapping[str, Any]], colour: str, shift: float = 0.0, label: str = ""
) -> None:
    y = np.arange(len(cells)) + shift
    means = [cell["mean"] for cell in cells]
    axes.axvline(0, color="#555b61", linewidth=0.9, zorder=1)
    axes.errorbar(
        means, y, xerr=_bars(cells), fmt="o", color=colour, markersize=4.5, capsize=2.5, elinewidth=1.2, label=label
    )
    axes.grid(axis="y", visible=False)


@styled
def plot_distributions(rows: Sequence[Row], summary: Mapping[str, Any]) -> Figure:
    """Histograms of every score before and after.

    Arguments
    ---------
    rows : sequence of dict
        From `read_scores`.
    summary : dict
    """
    from matplotlib.figure import Figure

    metrics = scored_both(summary)
    figure = Figure(figsize=(8.5, 2.5))
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
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
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


@styled
def plot_improvement(rows: Sequence[Row], summary: Mapping[str, Any], metric: str = "si_sdr") -> Figure:
    """Improvement of every mixture over the score of its noisy sound, coloured by condition.

    Arguments
    ---------
    rows : sequence of dict
        From `read_scores`.
    summary : dict
    metric : str
    """
    from matplotlib.figure import Figure

    about = summary["metrics"][metric]
    figure = Figure(figsize=(8.5, 3.2))
    axes = figure.subplots()
    conditions = list(summary["scores"]["by_condition"]) or [None]
    for index, condition in enumerate(conditions):
        chosen = [row for row in rows if condition in (None, row["condition"])]
        chosen = [row for row in chosen if None not in (row.get(metric), row.get(f"{metric}_input"))]
        before = _column(chosen, f"{metric}_input")
        gained = _column(chosen, metric) - before
        axes.scatter(
            before, gained, s=13, alpha=0.6, linewidths=0, color=COLOURS[index % len(COLOURS)], label=condition
        )
    axes.axhline(0, color="#555b61", linewidth=0.9)
    unit = f" ({about['unit']})" if about["unit"] else ""
    axes.set(xlabel=f"{about['name']} of the noisy sound{unit}", ylabel=f"improvement{unit}", title="Every mixture")
    if conditions != [None]:
        figure.legend(loc="outside upper right", ncols=min(6, len(conditions)))
    return figure


@styled
def plot_comparison(result: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Figure:
    """Paired differences with their intervals, overall and by condition and SNR.

    Arguments
    ---------
    result : dict
        From `avse.evaluation.compare`.
    metrics : sequence of str, optional
        Default: all but those that are differences already where the score itself is there.
    """
    from matplotlib.figure import Figure

    metrics = list(metrics or scored_both(result))
    figure = Figure(figsize=(max(5.0, 1.6 + 2.2 * len(metrics)), 2.0))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    names: list[str] = []
    for axes, metric in zip(panels, metrics):
        about = result["metrics"][metric]
        count = len(about["differences"])
        for index, (label, places) in enumerate(about["differences"].items()):
            grid = condition_grid(places)
            shown = (
                {} if list(grid) == ["all"] else {place(c, s): one for c, all in grid.items() for s, one in all.items()}
            )
            shown = {"overall": places["overall"], **shown}
            names = list(shown)
            cells = [one if one["n"] else {"mean": np.nan, "low": None} for one in shown.values()]
            shift = 0.16 * (index - (count - 1) / 2)
            _draw_forest(axes, cells, COLOURS[index % len(COLOURS)], shift, label)
        better = "right" if about["higher_is_better"] else "left"
        axes.set_title(about["name"])
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(f"difference{' (' + about['unit'] + ')' if about['unit'] else ''}, better to the {better}")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    figure.set_figheight(1.5 + 0.3 * len(names))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.suptitle(
        f"Difference from {result['baseline']}, {result['common']} mixtures", x=0.01, ha="left", fontsize=10
    )
    figure.legend(handles, labels, loc="outside upper right", ncols=min(4, len(labels)))
    return figure


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if row.get(name) is not None], dtype=np.float64)

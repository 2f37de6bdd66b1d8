"""Spectrograms over the reliability of the video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.evaluation.plots.figure import COLOURS, save, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_RANGE_DB = 70.0
_COLUMNS = 2400
_WIDTH, _LEFT, _WIDE = 8.5, 0.5, 7.1  # of a figure and its panels, in inches
SPAN = (_LEFT / _WIDTH, (_LEFT + _WIDE) / _WIDTH)  # where panels begin and end, as shares of the width


def plot_estimate(
    path: str | Path | None,
    noisy: np.ndarray,
    enhanced: np.ndarray,
    clean: np.ndarray | None = None,
    reliability: np.ndarray | None = None,
    valid: np.ndarray | None = None,
    title: str | None = None,
    audio_reliability: np.ndarray | None = None,
) -> Figure:
    """Spectrograms of a clip, one above the other on one scale, over how far the video was trusted.

    Arguments
    ---------
    path : path or None
        Where to write the plot (`.png`, `.pdf`, `.svg`). None: only return it.
    noisy, enhanced, clean : array, shape (samples,)
        At 16 kHz. The enhanced and clean audio may have another length than the noisy one.
    reliability : array, shape (video_frames,), optional
        In [0, 1], 25 per second.
    valid : array, shape (video_frames,), bool, optional
        Frames without a mouth are shaded.
    title : str, optional
    audio_reliability : array, shape (video_frames,), optional
        In [0, 1]; drawn over that of the video.

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
    return plot_sounds(path, sounds, title, reliability, valid, audio_reliability)


@styled
def plot_sounds(
    path: str | Path | None,
    sounds: Mapping[str, np.ndarray],
    title: str | None = None,
    reliability: np.ndarray | None = None,
    valid: np.ndarray | None = None,
    audio_reliability: np.ndarray | None = None,
) -> Figure:
    """Spectrograms of audio, one above the other on one scale; arguments as in `plot_estimate`.

    Arguments
    ---------
    sounds : mapping of str to array, shape (samples,)
        At 16 kHz, by name.

    Example
    -------
    >>> figure = plot_sounds(None, {"drawn": np.random.default_rng(0).standard_normal(16000)})
    >>> figure.axes[0].get_title(loc="left")
    'drawn'
    """
    from matplotlib.ticker import MultipleLocator

    duration = max(len(audio) for audio in sounds.values()) / SAMPLE_RATE
    spectra = {name: decibels(np.asarray(audio, np.float32), duration) for name, audio in sounds.items()}
    top = max(float(np.quantile(spectrum, 0.999)) for spectrum in spectra.values())
    heights = [1.15] * len(sounds) + ([0.55] if reliability is not None else [])
    figure, rows, bar_axes = _stack(heights, len(sounds), title)
    for axes, (name, audio) in zip(rows, sounds.items()):
        image = draw_spectrogram(axes, spectra[name], len(audio) / SAMPLE_RATE, top)
        axes.set(title=name, facecolor="black")
        axes.yaxis.set_major_locator(MultipleLocator(2))
    bar = figure.colorbar(image, cax=bar_axes, label="level (dB)")
    ticks = np.arange(0, _RANGE_DB + 1, 20)
    bar.set_ticks(list(top - ticks), labels=[f"{-tick:.0f}" if tick else "0" for tick in ticks])
    bar.outline.set_visible(False)
    if reliability is not None:
        _draw_reliability(rows[-1], np.asarray(reliability, np.float64), valid, audio_reliability)
    for axes in rows:
        axes.set_xlim(0, duration)
        axes.tick_params(labelbottom=axes is rows[-1])
    rows[-1].set_xlabel("seconds")
    if path is not None:
        save(figure, path)
    return figure


def _stack(heights: Sequence[float], spectra: int, title: str | None) -> tuple[Figure, list[Axes], Axes]:
    """Axes one above the other, `heights` in inches, and beside the first `spectra` of them one for the colours.

    Placed by hand: the automatic layout takes longer than all the drawing.
    """
    from matplotlib.figure import Figure

    width, gap, bottom, top = _WIDTH, 0.3, 0.45, 0.55 if title else 0.3
    height = bottom + top + sum(heights) + gap * (len(heights) - 1)
    figure = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]  # known to matplotlib, not to its types
    rows = []
    upper = height - top
    for inches in heights:
        rows.append(figure.add_axes((_LEFT / width, (upper - inches) / height, _WIDE / width, inches / height)))
        upper -= inches + gap
    low, high = rows[spectra - 1].get_position().y0, rows[0].get_position().y1
    bar = figure.add_axes((7.75 / width, low, 0.13 / width, high - low))
    if title:
        figure.text(0.12 / width, 1 - 0.1 / height, title, va="top", fontsize=10.5, fontweight="bold")
    return figure, rows, bar


def _draw_reliability(
    axes: Axes, reliability: np.ndarray, valid: np.ndarray | None, of_audio: np.ndarray | None
) -> None:
    edges = np.arange(len(reliability) + 1) / VIDEO_RATE
    axes.stairs(reliability, edges, fill=True, color=COLOURS[0], alpha=0.22)
    axes.stairs(reliability, edges, color=COLOURS[0], linewidth=1.4, label=None if of_audio is None else "video")
    if of_audio is not None:
        edges = np.arange(len(of_audio) + 1) / VIDEO_RATE
        axes.stairs(of_audio, edges, color=COLOURS[1], linewidth=1.4, label="audio", baseline=None)
    unseen = np.zeros(len(reliability), bool) if valid is None else ~np.asarray(valid, bool)[: len(reliability)]
    if unseen.any():
        bounds = np.flatnonzero(np.diff(np.r_[False, unseen, False])) / VIDEO_RATE
        for index, (start, stop) in enumerate(zip(bounds[::2], bounds[1::2])):
            label = None if index else "no mouth seen"
            axes.axvspan(start, stop, facecolor="#f0f1f2", edgecolor="#b9bec3", hatch="////", linewidth=0, label=label)
    if unseen.any() or of_audio is not None:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), borderaxespad=0, ncols=3)
    title = "reliability of the video" if of_audio is None else "reliability"
    axes.set(title=title, ylim=(0, 1.04), yticks=(0, 0.5, 1))


def draw_spectrogram(axes: Axes, spectrum: np.ndarray, seconds: float, top: float) -> AxesImage:
    """A power spectrum in dB over time and frequency, 70 dB down from `top`."""
    axes.set_ylabel("kHz")
    axes.grid(False)
    return axes.imshow(
        spectrum,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=top - _RANGE_DB,
        vmax=top,
        extent=(0, seconds, 0, SAMPLE_RATE / 2000),
        interpolation="bilinear",
    )


def decibels(audio: np.ndarray, duration: float) -> np.ndarray:
    """Power spectrum in dB, shape (bins, columns); columns lie further apart for long audio."""
    size = 512
    hop = max(80, int(duration * SAMPLE_RATE / _COLUMNS))
    padded = np.pad(audio, (size // 2, size // 2 + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(windows * np.hanning(size + 1)[:-1].astype(np.float32), axis=1)) ** 2
    return 10 * np.log10(power.T + 1e-8)

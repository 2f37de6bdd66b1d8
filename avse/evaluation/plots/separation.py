"""Who is who: the faces with their names, over the spectrograms of their voices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avse.contracts.types import SAMPLE_RATE, Estimate
from avse.evaluation.plots.figure import COLOURS, INPUT, save, styled
from avse.evaluation.plots.spectrograms import decibels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from avse.media import Speaker

_LONGEST = 120 * SAMPLE_RATE  # a picture of more is unreadable


def plot_separation(
    path: str | Path | None,
    mixture: np.ndarray,
    found: Estimate,
    talkers: Sequence[Speaker],
    title: str | None = None,
) -> Figure:
    """Pictures of the talkers with a frame around each face, and below them the spectrograms on one scale.

    Arguments
    ---------
    path : path or None
        Where to write the picture (`.png`, `.pdf`, `.svg`). None: only return it.
    mixture : array, shape (samples,)
        At 16 kHz; of a long one the first two minutes.
    found : Estimate
        Of one clip.
    talkers : sequence of Speaker
        In the order of the voices.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = _plot(mixture, found, talkers, title)
    if path is not None:
        save(figure, path)
    return figure


@styled
def _plot(mixture: np.ndarray, found: Estimate, talkers: Sequence[Speaker], title: str | None) -> Figure:
    from matplotlib.figure import Figure

    samples = min(len(mixture), _LONGEST)
    seconds = samples / SAMPLE_RATE
    sounds = [("mixture", mixture[:samples], "black")]
    for place, one in enumerate(talkers):
        sounds.append((one.name, found.speech[place, :samples].numpy(), COLOURS[place % len(COLOURS)]))
    sounds.append(("rest", found.noise[:samples].numpy(), INPUT))
    videos: dict[str, list[int]] = {}
    for place, one in enumerate(talkers):
        if one.picture is not None:
            videos.setdefault(str(one.video), []).append(place)
    faces = 2.6 if videos else 0.0
    figure = Figure(figsize=(8.0, faces + 1.35 * len(sounds) + 0.7), layout="constrained")
    figure.suptitle(title or "")
    grid = figure.add_gridspec(
        len(sounds) + bool(videos), max(1, len(videos)), height_ratios=[faces] * bool(videos) + [1.35] * len(sounds)
    )
    for column, places in enumerate(videos.values()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(talkers[places[0]].picture)
        axes.set_axis_off()
        for place in places:
            _frame(axes, talkers[place], COLOURS[place % len(COLOURS)])
    spectra = [decibels(np.asarray(sound, np.float32), seconds) for _, sound, _ in sounds]
    top = max(float(np.quantile(one, 0.999)) for one in spectra)
    above = None
    for row, ((name, _, colour), spectrum) in enumerate(zip(sounds, spectra)):
        axes = figure.add_subplot(grid[row + bool(videos), :], sharex=above)
        above = axes
        axes.imshow(
            spectrum,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, SAMPLE_RATE / 2000),
            vmin=top - 70,
            vmax=top,
            cmap="magma",
        )
        axes.set_title(name, loc="left", color=colour, fontweight="bold" if name not in ("mixture", "rest") else None)
        axes.set_ylabel("kHz")
        axes.tick_params(labelbottom=row == len(sounds) - 1)
        axes.grid(False)
    axes.set_xlabel("seconds")
    return figure


def _frame(axes: Axes, talker: Speaker, colour: str) -> None:
    from matplotlib.patches import Rectangle

    height, width = talker.picture.shape[:2]
    x, y, wide, high = talker.box if talker.box is not None else (0.0, 0.0, float(width - 1), float(height - 1))
    axes.add_patch(Rectangle((x, y), wide, high, fill=False, edgecolor=colour, linewidth=2.5))
    axes.text(
        x, max(y, 0.0), talker.name, color="white", va="bottom" if y > 0.12 * height else "top", fontsize=9,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 2},
    )  # fmt: skip

"""The faces of the speakers with their names, over the spectrograms of their speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avse.contracts.types import SAMPLE_RATE, Estimate
from avse.evaluation.plots.figure import INPUT, colour_of, save, styled
from avse.evaluation.plots.spectrograms import decibels, draw_spectrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from avse.media import Speaker

_LONGEST = 120 * SAMPLE_RATE  # a longer plot is unreadable


@styled
def plot_separation(
    path: str | Path | None,
    mixture: np.ndarray,
    estimate: Estimate,
    speakers: Sequence[Speaker],
    title: str | None = None,
) -> Figure:
    """Pictures of the speakers with a frame around each face, and below them the spectrograms on one scale.

    The mixture has shape (samples,); the first two minutes of a longer one are drawn. The speakers are in the order of
    the estimates. Written to `path`, if that is given.
    """
    from matplotlib.figure import Figure

    samples = min(len(mixture), _LONGEST)
    seconds = samples / SAMPLE_RATE
    colours = [colour_of(place) for place in range(len(speakers))]
    rows = [("mixture", mixture[:samples], "black")]
    rows += [(one.name, estimate.speech[place, :samples].numpy(), colours[place]) for place, one in enumerate(speakers)]
    rows.append(("rest", estimate.noise[:samples].numpy(), INPUT))
    pictures: dict[str, np.ndarray] = {}
    faces: dict[str, list[tuple[Speaker, str]]] = {}
    for speaker, colour in zip(speakers, colours):
        if speaker.picture is not None:
            pictures[str(speaker.video)] = speaker.picture
            faces.setdefault(str(speaker.video), []).append((speaker, colour))
    height = 2.6 if pictures else 0.0
    figure = Figure(figsize=(8.0, height + 1.35 * len(rows) + 0.7), layout="constrained")
    figure.suptitle(title or "")
    ratios = [height] * bool(pictures) + [1.35] * len(rows)
    grid = figure.add_gridspec(len(ratios), max(1, len(pictures)), height_ratios=ratios)
    for column, (video, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(picture)
        axes.set_axis_off()
        for speaker, colour in faces[video]:
            _frame(axes, speaker, picture, colour)
    spectra = [decibels(np.asarray(audio, np.float32), seconds) for _, audio, _ in rows]
    top = max(float(np.quantile(spectrum, 0.999)) for spectrum in spectra)
    above = None
    for row, ((name, _, colour), spectrum) in enumerate(zip(rows, spectra)):
        above = axes = figure.add_subplot(grid[row + bool(pictures), :], sharex=above)
        draw_spectrogram(axes, spectrum, seconds, top)
        axes.set_title(name, loc="left", color=colour, fontweight="bold" if name not in ("mixture", "rest") else None)
        axes.tick_params(labelbottom=row == len(rows) - 1)
    axes.set_xlabel("seconds")
    if path is not None:
        save(figure, path)
    return figure


def _frame(axes: Axes, speaker: Speaker, picture: np.ndarray, colour: str) -> None:
    from matplotlib.patches import Rectangle

    height, width = picture.shape[:2]
    x, y, wide, high = speaker.box if speaker.box is not None else (0.0, 0.0, float(width - 1), float(height - 1))
    axes.add_patch(Rectangle((x, y), wide, high, fill=False, edgecolor=colour, linewidth=2.5))
    axes.text(
        x, max(y, 0.0), speaker.name, color="white", va="bottom" if y > 0.12 * height else "top", fontsize=9,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 2},
    )  # fmt: skip

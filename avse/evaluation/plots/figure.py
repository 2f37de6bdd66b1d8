"""How all figures look, and how they are written.

Every function of `avse.evaluation.plots` returns a `matplotlib.figure.Figure` of its own (no pyplot, no global state);
`save` writes it and `to_bytes` gives its bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse.errors import AvseError
from avse.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FORMATS = (".png", ".pdf", ".svg", ".jpg", ".webp")
INPUT, DARK = "#7f8790", "#555b61"
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
    "axes.edgecolor": DARK,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e6e9",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": DARK,
    "ytick.color": DARK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.dpi": 160,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A function that draws, in the style of all figures here."""

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        from matplotlib import rc_context

        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of a size in inches, and its panels as an array of shape (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def colour_of(index: int) -> str:
    """The colour of one of several systems, conditions or speakers."""
    return COLOURS[index % len(COLOURS)]


def outside_legend(figure: Figure, axes: Axes) -> None:
    """The legend of one panel for the whole figure, above its panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=min(4, len(labels)))


def check_format(path: str | Path) -> None:
    """Refuse the name of a figure that `save` could not write, before there is one."""
    if Path(path).suffix.lower() not in _FORMATS:
        raise AvseError(f"{path}: cannot be drawn. Name a file of {', '.join(_FORMATS)}.")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to `.png`, `.pdf`, `.svg`, `.jpg` or `.webp`; nothing half-written is left.

    Raises
    ------
    AvseError
        If it cannot be written.
    """
    check_format(path)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing"
        )  # of a name in letters that the font lacks: boxes are drawn
        figure.savefig(temporary)


def to_bytes(figure: Figure, form: str = "png") -> bytes:
    """A figure as the bytes of a file: `png`, or `webp`, which is far smaller for spectrograms."""
    image = BytesIO()
    figure.savefig(image, format=form, pil_kwargs={"quality": 88} if form == "webp" else None)
    return image.getvalue()

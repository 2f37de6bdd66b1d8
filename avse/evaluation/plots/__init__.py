"""Figures, a file a subject; `figure` says how all of them look."""

from avse.evaluation.plots.figure import save, styled, to_bytes
from avse.evaluation.plots.scores import (
    plot_comparison,
    plot_distributions,
    plot_improvement,
    plot_labels,
    plot_scores,
)
from avse.evaluation.plots.spectrograms import decibels, plot_estimate, plot_sounds

__all__ = [
    "decibels",
    "plot_comparison",
    "plot_distributions",
    "plot_estimate",
    "plot_improvement",
    "plot_labels",
    "plot_scores",
    "plot_sounds",
    "save",
    "styled",
    "to_bytes",
]

"""Plots of clips and scores."""

from avse.evaluation.plots.spectrograms import (
    decibels,
    plot_comparison,
    plot_distributions,
    plot_estimate,
    plot_improvement,
    plot_labels,
    plot_scores,
    plot_sounds,
    save,
    styled,
    to_bytes,
)

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

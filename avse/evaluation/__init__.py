"""Evaluation: scores of a system on a manifest, paired comparisons, tables, plots and the HTML report."""

from avse.evaluation.comparison import compare
from avse.evaluation.plots.scores import plot_scores
from avse.evaluation.plots.spectrograms import plot_estimate
from avse.evaluation.runner import METRICS, evaluate, read_scores
from avse.evaluation.studies.calibration import calibrate
from avse.evaluation.studies.robustness import robustness_markdown, robustness_table
from avse.evaluation.tables import comparison_table, markdown_table, read_summary, score_table

__all__ = [
    "METRICS",
    "calibrate",
    "compare",
    "comparison_table",
    "evaluate",
    "markdown_table",
    "plot_estimate",
    "plot_scores",
    "read_scores",
    "read_summary",
    "robustness_markdown",
    "robustness_table",
    "score_table",
]

"""The learning curve of visual front-ends: what they tell of unseen speakers, by how much they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from avse.evaluation.plots.figure import colour_of, new_figure, outside_legend, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {
    "correlation": "correlation of band levels",
    "found": "audio found among other speakers",
    "found_in_speaker": "audio found in the same speaker",
    "speaking_auc": "AUC speaking / silent",
}


@styled
def plot_learning_curve(summary: Mapping[str, Any], corpus: str = "all") -> Figure:
    """A panel for each score against the minutes of training video, with 95 % intervals.

    One line joins runs on fewer speakers (their number stands beside each point), one those on fewer clips of all
    speakers. Front-ends with another number of parameters are points of their own.
    """
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    runs = {name: run for name, run in summary["runs"].items() if run["minutes"]}
    everyone, smallest = (pick(run["speakers"] for run in runs.values()) for pick in (max, min))
    size = next(run["parameters"] for run in runs.values() if run["speakers"] == smallest)
    of_size = [run for run in runs.values() if run["parameters"] == size]
    whole = max(of_size, key=lambda run: (run["speakers"], run["minutes"]))
    lines = {
        f"fewer than {everyone} speakers": [run for run in of_size if run["speakers"] < everyone] + [whole],
        f"fewer clips of {everyone} speakers": [run for run in of_size if run["speakers"] == everyone],
    }
    lines |= {name: [run] for name, run in runs.items() if run["parameters"] != size}
    figure, panels = new_figure(7.2, 5.2, 2, 2)
    for axes, (score, title) in zip(panels.flat, _TITLES.items()):
        for index, (label, members) in enumerate(lines.items()):
            members = sorted(
                (run for run in members if run["scores"][corpus][score]["n"]), key=lambda run: run["minutes"]
            )
            found = [run["scores"][corpus][score] for run in members]
            if len(members) < (2 if index < 2 else 1):
                continue
            minutes = [run["minutes"] for run in members]
            means = [one["mean"] for one in found]
            reach = [[abs(one["mean"] - (one[end] or one["mean"])) for one in found] for end in ("low", "high")]
            style: Any = {"marker": "osD^v"[index % 5], "markersize": 4, "capsize": 2, "elinewidth": 0.7}
            shifted = [value * 1.04 ** (index - 1) for value in minutes]  # so that intervals do not hide each other
            axes.errorbar(shifted, means, yerr=reach, label=label, color=colour_of(index), **style)
            for place, run in enumerate(members[:-1] if index == 0 else []):
                axes.annotate(
                    str(run["speakers"]), (shifted[place], means[place]), (4, -11), textcoords="offset points"
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
        axes.set_title(title)
        axes.set_xlabel("minutes of training video")
    outside_legend(figure, panels[0, 0])
    return figure

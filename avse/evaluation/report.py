"""`report.html`: one file with tables, plots, spectrograms and audio, which needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.evaluation.estimates import find_estimate, read_sound
from avse.evaluation.plots import scores as plots
from avse.evaluation.plots.figure import to_bytes
from avse.evaluation.plots.spectrograms import plot_estimate
from avse.evaluation.scoring import NO_VIDEO, Row
from avse.evaluation.tables import condition_grid, in_unit, number, scored_both, with_interval
from avse.files import file_below, write_text

_LISTED = 8
_LONGEST = 30  # seconds of audio that is put into the report


def write_report(
    path: str | Path,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    utterances: Mapping[str, Utterance] | None = None,
    estimates: str | Path | None = None,
) -> None:
    """Write the report of an evaluation from its summary and the rows of `read_scores`.

    With the utterances by id and the folder of the enhanced audio, it shows and plays some of the best and worst.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("avse", "evaluation"), autoescape=True, trim_blocks=True)
    environment.globals.update(number=number, with_interval=with_interval)
    metric = scored_both(summary)[0]
    ranked = _ranked(rows, metric, summary["metrics"][metric]["higher_is_better"])
    examples = []
    if utterances and estimates is not None and Path(estimates).is_dir():
        examples = _examples(ranked, metric, summary, utterances, Path(estimates))
    scored = summary["scored"] + summary["partial"] > 0
    html = environment.get_template("report.html").render(
        summary=summary,
        grid=condition_grid(summary["scores"]),
        main=summary["metrics"][metric],
        metric=metric,
        plots=_plots(summary, rows, metric) if scored else [],
        worst=ranked[:_LISTED],
        best=ranked[: -_LISTED - 1 : -1],
        examples=examples,
        noted=[row for row in rows if row["note"]],
        sweep=_sweep(summary) if "corruptions" in summary else None,
    )
    write_text(path, html)


def _ranked(rows: Sequence[Row], metric: str, higher_is_better: bool) -> list[Row]:
    """Scored rows with `gain`, worst first; the gain is over the noisy audio where that is scored."""
    scored = [
        {**row, "gain": row[metric] - (row.get(f"{metric}_input") or 0.0)}
        for row in rows
        if row.get(metric) is not None
    ]
    return sorted(scored, key=lambda row: row["gain"], reverse=not higher_is_better)


def _plots(summary: Mapping[str, Any], rows: Sequence[Row], metric: str) -> list[tuple[str, str, str]]:
    """Heading, explanation and picture (a data URI) of each plot."""
    both = scored_both(summary)
    figures = [
        ("Scores by SNR", "Before (grey) and after; bars are 95 % bootstrap intervals.", plots.plot_scores(summary))
    ]
    if metric in both:
        figures.append(("Improvement", "Points below zero got worse.", plots.plot_improvement(rows, summary, metric)))
    figures.append(("Distributions", "Dashed lines are means.", plots.plot_distributions(rows, summary)))
    if metric in both and len(summary["scores"]["by_label"]) > 1:
        figures.append(("By noise", "Mean improvement with its interval.", plots.plot_labels(summary, metric)))
    return [(title, text, _uri(to_bytes(figure), "image/png")) for title, text, figure in figures]


def _sweep(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Pictures of a sweep over corruptions, and what its tables are made of."""
    from avse.evaluation.plots import robustness as robustness_plots
    from avse.evaluation.studies import robustness

    tables = {metric: in_unit(about["name"], about["unit"]) for metric, about in summary["metrics"].items()}
    pictures = (robustness_plots.plot_robustness(summary), robustness_plots.plot_calibration(summary))
    return {
        "severities": [*robustness.severities_of(summary), None],
        "grid": {video: row for video, row in robustness.cell_grid(summary).items() if video != NO_VIDEO},
        "tables": tables | {"auc": "Reliability: AUC", "ece": "Reliability: calibration error"},
        "text": robustness.cell_text,
        "judged": robustness.judged,
        "pictures": [_uri(to_bytes(figure), "image/png") for figure in pictures],
    }


def _examples(
    ranked: Sequence[Row], metric: str, summary: Mapping[str, Any], utterances: Mapping[str, Utterance], folder: Path
) -> list[dict[str, Any]]:
    """The worst two, the middle one and the best two, with spectrograms and audio."""
    examples = []
    for rank, row in _picks(ranked):
        try:
            sounds, reliability, valid = _sounds(utterances[row["id"]], folder)
        except (AvseError, KeyError, OSError):
            continue  # estimates are only an ornament here: they were scored already
        name, unit = (summary["metrics"][metric][key] for key in ("name", "unit"))
        figure = plot_estimate(None, **sounds, reliability=reliability, valid=valid)
        examples.append(
            {
                "row": row,
                "rank": rank,
                "score": f"{name} {number(row.get(f'{metric}_input'), unit)} → {number(row[metric], unit)} {unit}",
                "picture": _uri(to_bytes(figure, "webp"), "image/webp"),
                "sounds": {
                    key: _uri(_flac(sound), "audio/flac")
                    for key, sound in sounds.items()
                    if sound.size <= _LONGEST * SAMPLE_RATE
                },
            }
        )
    return examples


def _picks(ranked: Sequence[Row]) -> list[tuple[str, Row]]:
    """Worst, second worst, median, second best and best, each of another target."""
    wanted = [("worst", ranked), ("best", ranked[::-1]), ("median", ranked[len(ranked) // 2 :])]
    wanted += [("second worst", ranked), ("second best", ranked[::-1])]
    picked: dict[str, Row] = {}
    for rank, order in wanted:
        taken = {row["target"] for row in picked.values()}
        row = next((one for one in order if one["target"] not in taken), None)
        if row is not None:
            picked[rank] = row
    return sorted(picked.items(), key=lambda pick: ranked.index(pick[1]))


def _sounds(utterance: Utterance, folder: Path) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]:
    files = {"noisy": utterance.noisy, "enhanced": find_estimate(folder, utterance), "clean": utterance.clean}
    sounds: dict[str, Any] = {name: read_sound(path)[0] for name, path in files.items() if path is not None}
    video = file_below(folder, utterance.id, ".npz")
    if not video.is_file():
        return sounds, None, None
    with np.load(video) as arrays:
        return sounds, arrays["reliability"].astype(np.float64), arrays["valid"]


def _flac(sound: np.ndarray) -> bytes:
    import soundfile

    file = BytesIO()
    peak = max(1.0, float(np.abs(sound).max(initial=0.0)))
    soundfile.write(file, sound / peak, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"

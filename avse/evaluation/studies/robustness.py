"""How robust a model is to bad video: a sweep over corruptions, as cells, a CSV file and tables.

A cell is `{"video", "severity", "n", "scores", "auc", "ece", "corrupted"}`. `scores[metric]` holds the `mean` and the
`difference` to the same model without video, mean over utterances with its interval. `auc` and `ece` say how well the
reliability tells corrupted frames from clean ones, over all frames in which a tracker still saw a mouth: those of the
corrupted clips, and those of the same clips with clean video. `corrupted` counts the former. A severity of None stands
for the mean over all severities, the video `any corruption` for all corruptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avse.evaluation.conditions import CLEAN_VIDEO, WITHOUT_VIDEO
from avse.evaluation.rows import write_rows
from avse.evaluation.scoring import CLEAN, FRAMES, NO_VIDEO, Condition, Row
from avse.evaluation.statistics import bootstrap_means, calibration, drawn, expected_calibration_error, roc_auc
from avse.evaluation.summary import group_keys, in_group
from avse.evaluation.tables import in_unit, markdown, new_table, number, read_summary, verdict, with_interval
from avse.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

ANY = "any corruption"
DEFINITIONS = {
    "difference": "Score of the model with this video less that of the same model without video, by utterance. Below "
    "zero it would have been better not to look.",
    "AUC": "Chance that the reliability of a clean frame exceeds that of a corrupted one, ties counting half. Only "
    "frames in which the tracker saw a mouth; clean frames are also those of the same clips with clean video.",
    "ECE": "Expected calibration error: mean distance, over ten bins of equal width, between the reliability and the "
    "share of frames that are clean, of the same frames as for the AUC.",
    "severity": "1 (hardly visible) to 5 (nothing useful left).",
}


def summarise_sweep(rows: Sequence[Row], metrics: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """What `summary.json` holds of a sweep, from the rows of `corrupted.csv`.

    `cells` (see above), `calibration` (bins of reliability over all corruptions), `failures` of corrupted clips and
    clips without video, and `definitions`. `seed` is that of the bootstrap.
    """
    return {
        "cells": _cells(rows, metrics, seed),
        "calibration": [list(one) for one in _bins(*sweep_frames(rows))],
        "failures": [
            {key: row[key] for key in ("id", "video", "severity", "status", "reason")}
            for row in rows
            if row["status"] != "ok" and row["video"] != CLEAN
        ],
        "definitions": DEFINITIONS,
    }


def write_sweep(out: Path, summary: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write `corruptions.csv` (cells in all, by corpus, condition, SNR, and the last two) and `corruptions.md`."""
    metrics, seed = list(summary["metrics"]), summary["bootstrap"]["seed"]
    table = [_flat(cell, {}) for cell in summary["corruptions"]["cells"]]
    for wanted in _places(rows):
        chosen = [row for row in rows if in_group(row, wanted)]
        table += [_flat(cell, wanted) for cell in _cells(chosen, metrics, seed)]
    write_rows(out / "corruptions.csv", table, list(table[0]))
    write_text(out / "corruptions.md", robustness_report(summary))


def robustness_markdown(summary: str | Path | Mapping[str, Any], metric: str = "si_sdr", interval: bool = True) -> str:
    """One table for a README: corruptions by severity, the difference to the same model without video.

    Arguments
    ---------
    summary : dict or path
        From `evaluate` with `corruptions`, or its folder.
    metric : str
        A metric, or `auc` or `ece` of the reliability.
    interval : bool
        Write the bootstrap interval after the mean.

    Returns
    -------
    str
    """
    read = read_summary(summary)
    grid = cell_grid(read)
    severities = severities_of(read)
    if metric in read["metrics"]:
        about = read["metrics"][metric]
        head = in_unit(f"{about['name']}, difference to no video", about["unit"] if about["unit"] == "dB" else "")
    else:
        head = {"auc": "reliability: AUC", "ece": "reliability: calibration error"}[metric]
    rows = []
    for video, row in grid.items():
        if video == NO_VIDEO or (video == CLEAN and metric not in read["metrics"]):
            continue
        texts = [cell_text(row.get(severity), read, metric, interval) for severity in (*severities, None)]
        rows.append([video.replace("_", " "), *texts])
    return markdown([head, *map(str, severities), "mean"], rows)


def robustness_report(summary: Mapping[str, Any]) -> str:
    """The text of `corruptions.md`: the scores with and without video, and every table."""
    cells = {cell["video"]: cell for cell in summary["corruptions"]["cells"] if cell["severity"] is None}
    lines = [f"# {summary['system']}: how robust to bad video", ""]
    for name, about in summary["metrics"].items():
        without, clean = (number(cells[one]["scores"][name]["mean"], about["unit"]) for one in (NO_VIDEO, CLEAN))
        lines.append(f"- {about['name']}: {without} without video, {clean} with clean video")
    lines += [
        "",
        f"{summary['n']} mixtures of {summary['targets']} clean utterances, {summary['speakers']} speakers.",
        "",
    ]
    for name, about in summary["metrics"].items():
        worst = worst_cell(summary, name)
        if worst is not None:
            text = with_interval(worst["scores"][name]["difference"], about["unit"], sign=True, finer=1)
            lines.append(f"- Worst for {about['name']}: {worst['video']} at severity {worst['severity']}, {text}")
    lines.append("")
    for metric in [*summary["metrics"], "auc", "ece"]:
        lines += [robustness_markdown(summary, metric), ""]
    lines += [f"- **{name}**: {text}" for name, text in summary["corruptions"]["definitions"].items()]
    return "\n".join(lines) + "\n"


def worst_cell(summary: Mapping[str, Any], metric: str) -> dict[str, Any] | None:
    """The corruption and severity with the least score against no video."""
    sign = 1 if summary["metrics"][metric]["higher_is_better"] else -1
    cells = [
        (sign * cell["scores"][metric]["difference"]["mean"], place, cell)
        for place, cell in enumerate(summary["corruptions"]["cells"])
        if cell["severity"] is not None and cell["scores"][metric]["difference"]["mean"] is not None
    ]
    return min(cells)[2] if cells else None


def robustness_table(summary: Mapping[str, Any]) -> Table:
    """A sweep for the terminal: the main metric's difference to no video; green is better, red worse."""
    metric = next(iter(summary["metrics"]))
    about, severities = summary["metrics"][metric], severities_of(summary)
    table = new_table(f"{in_unit(about['name'], about['unit'])}, difference to no video")
    for name in ("video", *map(str, severities), "mean", "AUC", "ECE"):
        table.add_column(name, justify="left" if name == "video" else "right")
    for video, row in cell_grid(summary).items():
        if video == NO_VIDEO:
            continue
        texts = []
        for severity in (*severities, None):
            text = cell_text(row.get(severity), summary, metric, False)
            verdict = judged(row.get(severity), summary, metric)
            texts.append(f"[{'green' if verdict > 0 else 'red'}]{text}[/]" if verdict else text)
        qualities = [cell_text(row.get(None), summary, name, False) for name in ("auc", "ece")]
        table.add_row(video.replace("_", " "), *texts, *qualities)
    clean = cell_grid(summary)[CLEAN][None]["scores"][metric]["difference"]
    table.caption = "AUC, ECE: of the reliability, telling clean from corrupted frames\n"
    table.caption += f"green, red: intervals over {clean['groups']} speakers"
    return table


def sweep_frames(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Reliability of all clean and of all corrupted frames of a sweep, from which its AUC and ECE are computed."""
    return _frames(rows, _groups(rows)[ANY, None])


def cell_grid(summary: Mapping[str, Any]) -> dict[str, dict[int | None, Any]]:
    """Cells by video and severity, `any corruption` last."""
    grid: dict[str, dict[int | None, Any]] = {}
    for cell in summary["corruptions"]["cells"]:
        grid.setdefault(cell["video"], {})[cell["severity"]] = cell
    return grid


def severities_of(summary: Mapping[str, Any]) -> list[int]:
    """The severities that were swept over."""
    return sorted({cell["severity"] for cell in summary["corruptions"]["cells"]} - {None})


def cell_text(cell: Mapping[str, Any] | None, summary: Mapping[str, Any], metric: str, interval: bool = True) -> str:
    """What a table writes for a cell: a difference, or the AUC or calibration error of the reliability."""
    if cell is None:
        return ""
    if metric in ("auc", "ece"):
        return "-" if cell[metric] is None else f"{cell[metric]:.2f}"
    unit, found = summary["metrics"][metric]["unit"], cell["scores"][metric]["difference"]
    return with_interval(found if interval else {**found, "low": None}, unit, sign=True, finer=int(unit == "dB"))


def judged(cell: Mapping[str, Any] | None, summary: Mapping[str, Any], metric: str) -> int:
    """The `verdict` on the difference of a cell; 0 where it has none."""
    difference = cell and cell["scores"].get(metric, {}).get("difference")
    return verdict(difference, summary["metrics"][metric]["higher_is_better"]) if difference else 0


def _cells(rows: Sequence[Row], metrics: Sequence[str], seed: int) -> list[dict[str, Any]]:
    groups = _groups(rows)
    scores = _scores(rows, metrics)
    first = list({row["id"]: row for row in rows}.values())
    columns = []
    for group in groups.values():
        means = np.mean([scores[condition] for condition in group], axis=0)  # NaN where one lacks
        columns += [means, means - scores[WITHOUT_VIDEO]]
    intervals = iter(bootstrap_means(np.concatenate(columns, axis=1), drawn(first), seed=seed))
    cells = []
    for (video, severity), group in groups.items():
        means, differences = ([next(intervals) for _ in metrics] for _ in range(2))
        clean, corrupted = _frames(rows, group)
        bins = _bins(clean, corrupted)
        cells.append(
            {
                "video": video,
                "severity": severity,
                "n": max(mean.n for mean in means),
                "scores": {
                    metric: {"mean": mean.mean, "difference": asdict(difference)}
                    for metric, mean, difference in zip(metrics, means, differences)
                },
                "auc": roc_auc(clean, corrupted),
                "ece": expected_calibration_error(bins) if len(corrupted) else None,
                "corrupted": len(corrupted),
            }
        )
    return cells


def _groups(rows: Sequence[Row]) -> dict[tuple[str, int | None], list[Condition]]:
    """Conditions that a cell is made of, by its video and severity."""
    swept = sorted({(row["video"], int(row["severity"])) for row in rows if row["severity"] is not None})
    groups: dict[tuple[str, int | None], list[Condition]] = {
        (condition.video, None): [condition] for condition in (WITHOUT_VIDEO, CLEAN_VIDEO)
    }
    for video in dict.fromkeys(video for video, _ in swept):
        groups |= {cell: [Condition(*cell)] for cell in swept if cell[0] == video}
        groups[video, None] = [Condition(*cell) for cell in swept if cell[0] == video]
    groups[ANY, None] = [Condition(*cell) for cell in swept]
    return groups


def _scores(rows: Sequence[Row], metrics: Sequence[str]) -> dict[Condition, np.ndarray]:
    """Scores under each condition, shape (utterances, metrics), NaN where there is none."""
    places = {name: place for place, name in enumerate(dict.fromkeys(row["id"] for row in rows))}
    scores: dict[Condition, np.ndarray] = {}
    for row in rows:
        condition = Condition(row["video"], row["severity"])
        table = scores.setdefault(condition, np.full((len(places), len(metrics)), np.nan))
        table[places[row["id"]]] = [np.nan if row.get(name) is None else row[name] for name in metrics]
    return scores


def _frames(rows: Sequence[Row], group: Sequence[Condition]) -> tuple[np.ndarray, np.ndarray]:
    """Reliability of clean and of corrupted frames under conditions, the same clips with clean video included."""
    untouched = {row["id"]: row[FRAMES[0]] for row in rows if row["video"] == CLEAN}
    wanted, clean, corrupted = set(group), [np.zeros(0)], [np.zeros(0)]
    for row in rows:
        if Condition(row["video"], row["severity"]) in wanted and row["severity"] is not None:
            clean += [row[FRAMES[0]], untouched.get(row["id"], np.zeros(0))]
            corrupted.append(row[FRAMES[1]])
    return np.concatenate(clean), np.concatenate(corrupted)


def _bins(clean: np.ndarray, corrupted: np.ndarray) -> list[tuple[float, float, int]]:
    correct = np.r_[np.ones(len(clean), dtype=bool), np.zeros(len(corrupted), dtype=bool)]
    return calibration(np.r_[clean, corrupted], correct)


def _places(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Corpora, conditions and SNRs to tell apart, by their columns; none of a kind of which there is one."""
    groups = [group_keys(row.get(name) for row in rows) for name in ("dataset", "condition", "snr")]
    corpora, conditions, snrs = (names if len(names) > 1 else [] for names in groups)
    pairs = [*product(conditions, [""]), *product([""], snrs), *product(conditions, snrs)]
    places = [{name: key for name, key in zip(("condition", "snr"), pair) if key} for pair in pairs]
    return [*({"dataset": corpus} for corpus in corpora), *places]


def _flat(cell: Mapping[str, Any], place: Mapping[str, str]) -> dict[str, Any]:
    """A line of `corruptions.csv`."""
    severity = "" if cell["video"] in (CLEAN, NO_VIDEO) else cell["severity"] or "mean"
    line = {name: place.get(name, "") for name in ("dataset", "condition", "snr")} | {
        "video": cell["video"],
        "severity": severity,
        "n": cell["n"],
    }
    for metric, found in cell["scores"].items():
        difference = found["difference"]
        line |= {metric: found["mean"], f"{metric}_difference": difference["mean"]}
        line |= {f"{metric}_difference_{end}": difference[end] for end in ("low", "high")}
    names = {"auc": "reliability_auc", "ece": "reliability_ece", "corrupted": "corrupted_frames"}
    return line | {column: cell[name] for name, column in names.items()}

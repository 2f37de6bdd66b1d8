"""`compare`: paired differences between evaluations of the same mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avse.errors import AvseError
from avse.evaluation.corpora import video_gains
from avse.evaluation.runner import read_scores
from avse.evaluation.scoring import Row
from avse.evaluation.statistics import LEVEL, RESAMPLES, bootstrap_means, drawn, wilcoxon_p
from avse.evaluation.summary import group_keys, in_group
from avse.evaluation.tables import read_summary
from avse.files import write_json

_SAME_INPUT = 1e-3  # relative; scores.csv keeps six digits


def compare(
    runs: Sequence[str | Path],
    out: str | Path | None = None,
    labels: Sequence[str] | None = None,
    *,
    common_only: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare evaluations with the first of them, utterance by utterance; of mixtures speaker by speaker.

    Arguments
    ---------
    runs : sequence of path
        Folders that `evaluate` wrote on the same manifest; the first is the baseline.
    out : path, optional
        Folder that gets `compare.json` and `compare.png`.
    labels : sequence of str, optional
        Names of the runs. Default: those of the systems, or of the folders where systems share a name.
    common_only : bool
        Compare what the runs have in common instead of refusing runs with different utterances.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        `baseline`, `labels`, `common` (utterances), and `metrics`: for each metric `differences[label]["overall"]` and
        `["by_condition_snr"][condition][snr]`, each with `mean`, `low`, `high` (bootstrap over speakers), `n`,
        `groups`, and `p` (Wilcoxon signed-rank test on the mean difference of each speaker); where there are several
        corpora also `["by_corpus"][condition][snr][corpus]`. `video_gains` has what the video gains in each, where they
        were evaluated `without_video` as well: see `avse.evaluation.corpora.video_gains`.

    Raises
    ------
    AvseError
        If the runs score different utterances, or different mixtures under the same ids.
    """
    if len(runs) < 2:
        raise AvseError("Name at least two folders of evaluations to compare.")
    summaries = [read_summary(Path(run)) for run in runs]
    tables = [{_key(row): row for row in read_scores(run)} for run in runs]
    labels = _labels(runs, summaries, labels)
    ids = [name for name in tables[0] if all(name in table for table in tables)]
    _check_ids(runs, tables, ids, common_only)
    metrics = [
        name for name in summaries[0].get("metrics", ()) if all(name in one.get("metrics", ()) for one in summaries)
    ]
    if not metrics:
        raise AvseError("These evaluations share no metric. Evaluate again with the same --metrics.")
    _check_inputs(runs, tables, ids, metrics)
    result: dict[str, Any] = {
        "format": 1,
        "baseline": labels[0],
        "labels": labels,
        "runs": [str(run) for run in runs],
        "common": len(ids),
        "metrics": {},
        "bootstrap": {"level": LEVEL, "resamples": RESAMPLES, "seed": seed, "resampled": "speakers"},
        "test": "two-sided Wilcoxon signed-rank (Pratt) on the mean difference of each speaker, not corrected",
    }
    result["video_gains"] = video_gains(dict(zip(labels, summaries)))
    base = [tables[0][name] for name in ids]
    for metric in metrics:
        differences = {
            label: _places(base, [table[name] for name in ids], metric, seed)
            for label, table in zip(labels[1:], tables[1:])
        }
        result["metrics"][metric] = {**summaries[0]["metrics"][metric], "differences": differences}
    if out is not None:
        from avse.evaluation.plots.figure import save
        from avse.evaluation.plots.scores import plot_comparison

        write_json(Path(out) / "compare.json", result)
        save(plot_comparison(result), Path(out) / "compare.png")
    return result


def _key(row: Row) -> str:
    """What identifies a row: its mixture, and which of several speakers."""
    return f"{row['id']} ({row['speaker']})" if row.get("talkers") else row["id"]


def _places(base: list[Row], other: list[Row], metric: str, seed: int) -> dict[str, Any]:
    both = [(one, two) for one, two in zip(base, other) if None not in (one[metric], two[metric])]

    def cell(**wanted: str) -> dict[str, Any]:
        pairs = [(one, two) for one, two in both if in_group(one, wanted)]
        return _paired([two[metric] - one[metric] for one, two in pairs], drawn([one for one, _ in pairs]), seed)

    conditions = group_keys(row["condition"] for row in base)
    snrs = {name: group_keys(row["snr"] for row in base if row["condition"] == name) for name in conditions}
    grid = {name: {snr: cell(condition=name, snr=snr) for snr in levels} for name, levels in snrs.items()}
    corpora = group_keys(row.get("dataset") for row in base)
    by_corpus = {
        name: {
            snr: {one: cell(condition=name, dataset=one, **({"snr": snr} if snr else {})) for one in corpora}
            for snr in levels or [""]
        }
        for name, levels in snrs.items()
        if len(corpora) > 1
    }
    return {
        "overall": cell(),
        "by_condition": {condition: cell(condition=condition) for condition in conditions},
        "by_condition_snr": {condition: cells for condition, cells in grid.items() if cells},
        **({"by_corpus": by_corpus} if by_corpus else {}),
    }


def _paired(differences: list[float], speakers: list[str], seed: int) -> dict[str, Any]:
    values = np.array(differences, dtype=np.float64)
    [interval] = bootstrap_means(values[:, None], speakers, seed=seed)
    by_speaker: dict[str, list[float]] = {}
    for speaker, difference in zip(speakers, differences):
        by_speaker.setdefault(speaker, []).append(difference)
    return {**asdict(interval), "p": wilcoxon_p(np.array([np.mean(group) for group in by_speaker.values()]))}


def _labels(runs: Sequence[str | Path], summaries: list[dict[str, Any]], labels: Sequence[str] | None) -> list[str]:
    if labels is None:
        labels = [one.get("system") or one["label"] for one in summaries]
        if len(set(labels)) < len(labels):
            labels = [Path(run).resolve().name for run in runs]
        if len(set(labels)) < len(labels):
            labels = [str(run) for run in runs]
    if len(labels) != len(runs) or len(set(labels)) < len(labels):
        raise AvseError(f"{len(runs)} runs need as many different labels; got {', '.join(labels)}.")
    return list(labels)


def _check_ids(runs: Sequence[str | Path], tables: list[dict[str, Row]], ids: list[str], common_only: bool) -> None:
    counts = ", ".join(f"{run} {len(table)}" for run, table in zip(runs, tables))
    if not ids:
        raise AvseError(f"These evaluations have no utterance in common ({counts}). Use one manifest for all.")
    if not common_only and any(len(table) != len(ids) for table in tables):
        raise AvseError(
            f"These evaluations scored different utterances: {counts}, {len(ids)} in common. Evaluate all on one "
            "manifest, or compare the common ones with --common-only."
        )


def _check_inputs(runs: Sequence[str | Path], tables: list[dict[str, Row]], ids: list[str], metrics: list[str]) -> None:
    """One id must mean one mixture: the scores of the noisy audio must agree."""
    column = next((f"{name}_input" for name in metrics if all(f"{name}_input" in t[ids[0]] for t in tables)), None)
    for run, table in zip(runs[1:], tables[1:]):
        for name in ids:
            one, two = (None, None) if column is None else (tables[0][name][column], table[name][column])
            if one is not None and two is not None and abs(one - two) > _SAME_INPUT * max(1.0, abs(one)):
                raise AvseError(
                    f"{name}: the noisy audio scores {column} {one:g} in {runs[0]} and {two:g} in {run}, so that the "
                    "mixtures differ. Evaluate both on the same files."
                )

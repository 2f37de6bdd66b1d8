"""Scores by corpus: with video, without video, and the paired difference of the two."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avse.evaluation.scoring import CLEAN, NO_VIDEO, Condition, Row
from avse.evaluation.statistics import bootstrap_means, drawn
from avse.evaluation.summary import group_keys, in_group
from avse.evaluation.tables import in_unit, markdown, place, with_interval
from avse.files import write_text

ALL = "all"
_PLACES = ("manifest", "model", "estimates")  # where a machine keeps them; their hashes say which they are
_COLUMNS = {"with": "with video", "without": "without video", "difference": "gain by video"}


def corpus_tables(rows: Sequence[Row], metrics: Iterable[str], seed: int = 0) -> list[dict[str, Any]]:
    """A table for each condition, SNR and metric that has scores there.

    Arguments
    ---------
    rows : sequence of dict
        Of `scores.csv`, or also of other videos, as `corrupted.csv` has them.
    metrics : iterable of str
    seed : int
        Of the bootstrap, which draws speakers.

    Returns
    -------
    list of dict
        `condition`, `snr`, `metric` and `corpora`: by corpus, and for `all`, the number of `speakers` and `mixtures`,
        and `with`, `without`, `difference` and `noisy`, each with `mean`, `low`, `high`, `n` and `groups`: `without`
        and `difference` where the mixtures were also scored without video, `noisy` where the noisy audio has a score.
    """
    pairs = _paired(rows)
    names = [name for name in metrics if any(row.get(name) is not None for row, _ in pairs)]
    tables = []
    for condition in group_keys(row["condition"] for row, _ in pairs) or [""]:
        here = [pair for pair in pairs if not condition or in_group(pair[0], {"condition": condition})]
        for snr in sorted({row["snr"] for row, _ in here}, key=lambda snr: (snr is None, snr)):
            chosen = [pair for pair in here if pair[0]["snr"] == snr]
            for name in names:
                scored = [pair for pair in chosen if pair[0].get(name) is not None]
                if not scored or (f"{name}_improvement" in names and _has(chosen, f"{name}_improvement")):
                    continue
                corpora = group_keys(row.get("dataset") for row, _ in scored)
                corpora = corpora if len(corpora) > 1 else []
                groups = {one: [pair for pair in scored if pair[0].get("dataset") == one] for one in corpora}
                groups[ALL] = scored
                cells = {key: _cell(group, name, seed) for key, group in groups.items()}
                where = {"condition": condition, "snr": "" if snr is None else f"{snr:g}"}
                tables.append({**where, "metric": name, "corpora": cells})
    return tables


def corpora_markdown(summary: Mapping[str, Any]) -> str:
    """The tables of `summary["corpora"]` in Markdown, for a model card or a README."""
    parts = []
    for table in summary["corpora"]:
        about = summary["metrics"][table["metric"]]
        shown = [name for name in _COLUMNS if name in table["corpora"][ALL]]
        rows = [
            [
                corpus,
                str(cell["speakers"]),
                str(cell["mixtures"]),
                *(with_interval(cell[name], about["unit"], sign=name == "difference") for name in shown),
            ]
            for corpus, cell in table["corpora"].items()
        ]
        title = ", ".join(filter(None, [place(table["condition"].replace("_", " "), table["snr"]), about["name"]]))
        titles = _COLUMNS if about["higher_is_better"] else {**_COLUMNS, "difference": "difference"}
        heads = [titles[name] for name in shown] if len(shown) > 1 else [about["name"]]
        parts.append(in_unit(f"{summary['system']}: {title}", about["unit"]) + "\n")
        parts.append(markdown(["corpus", "speakers", "mixtures", *heads], rows) + "\n")
    parts.append("Means with 95 % intervals of a bootstrap over speakers.\n")
    return "\n".join(parts)


def video_gains(summaries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the video gains in several evaluations, by name, and the share of the first one's gain that each has.

    Returns
    -------
    list of dict
        For each condition, SNR and metric that all have with and without video: these, `gain` (means with intervals)
        and `share` by name; shares are None where the first gains nothing.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name, summary in summaries.items():
        for table in summary.get("corpora", ()):
            if "difference" in table["corpora"][ALL]:
                key = table["condition"], table["snr"], table["metric"]
                found.setdefault(key, {})[name] = table["corpora"][ALL]["difference"]
    gains = []
    for (condition, snr, metric), by_name in found.items():
        if len(by_name) == len(summaries):
            first = by_name[next(iter(summaries))]["mean"]
            share = {name: one["mean"] / first if first > 0 else None for name, one in by_name.items()}
            gains.append({"condition": condition, "snr": snr, "metric": metric, "gain": by_name, "share": share})
    return gains


def write_results(path: Path, summary: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[str]) -> None:
    """Write the tables and every score as JSON, a line for each mixture (and speaker).

    The scores of a mixture stand in the order of `videos`: null where there is none.
    """
    videos = list(dict.fromkeys((row.get("video", CLEAN), row.get("severity")) for row in rows))
    mixtures: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        about = {name: row.get(name) for name in ("id", "dataset", "speaker", "condition", "snr")}
        scores = mixtures.setdefault(tuple(about.values()), {**about, "scores": {}})["scores"]
        for name in metrics:
            if row.get(name) is not None:
                listed = scores.setdefault(name, [None] * len(videos))
                listed[videos.index((row.get("video", CLEAN), row.get("severity")))] = round(row[name], 3)
    shown = [video if severity is None else f"{video}={severity:g}" for video, severity in videos]
    head = {
        "format": 1,
        "system": summary["system"],
        "settings": {key: value for key, value in summary["settings"].items() if key not in _PLACES},
        "definitions": summary["definitions"],
        "metrics": {name: summary["metrics"][name]["definition"] for name in metrics if name in summary["metrics"]},
        "videos": shown,
    }
    if "corruptions" in summary:
        head["corruptions"] = [
            {**cell, "scores": {name: score["difference"] for name, score in cell["scores"].items()}}
            for cell in summary["corruptions"]["cells"]
        ]
    if "groups" in summary:
        head["groups"] = summary["groups"]
    lines = [json.dumps(_rounded(value), ensure_ascii=False) for value in mixtures.values()]
    tables = [json.dumps(_rounded(table), ensure_ascii=False) for table in summary["corpora"]]
    text = json.dumps(_rounded(head), ensure_ascii=False, indent=1)[:-2]
    for name, listed in (("tables", tables), ("mixtures", lines)):
        text += f',\n "{name}": [\n  ' + ",\n  ".join(listed) + "\n ]"
    write_text(path, text + "\n}\n")


def _paired(rows: Sequence[Row]) -> list[tuple[Row, Row | None]]:
    """Rows with clean video, each with the row of the same mixture (and speaker) without video."""
    by_video: dict[Condition, dict[tuple[str, str], Row]] = {}
    for row in rows:
        condition = Condition(row.get("video", CLEAN), row.get("severity"))
        by_video.setdefault(condition, {})[row["id"], row["speaker"]] = row
    without = by_video.get(Condition(NO_VIDEO), {})
    shown = by_video.get(Condition(CLEAN)) or next(iter(by_video.values()), {})
    return [(row, without.get(key)) for key, row in shown.items()]


def _has(pairs: Sequence[tuple[Row, Row | None]], name: str) -> bool:
    return any(row.get(name) is not None for row, _ in pairs)


def _cell(pairs: Sequence[tuple[Row, Row | None]], name: str, seed: int) -> dict[str, Any]:
    # Means that stand side by side are over the same rows.
    pairs = [pair for pair in pairs if pair[1] is not None and pair[1].get(name) is not None] or pairs
    rows = [row for row, _ in pairs]
    seen, noisy = (np.array([row.get(key) for row in rows], np.float64) for key in (name, f"{name}_input"))
    blind = np.array([np.nan if other is None or other.get(name) is None else other[name] for _, other in pairs])
    intervals = bootstrap_means(np.stack([seen, blind, seen - blind, noisy], axis=1), drawn(rows), seed=seed)
    cell: dict[str, Any] = {
        "speakers": len({row["speaker"] for row in rows} - {""}),
        "mixtures": len({row["id"] for row in rows}),
    }
    return cell | {key: asdict(one) for key, one in zip((*_COLUMNS, "noisy"), intervals) if one.n}


def _rounded(value: Any) -> Any:
    """Plain data with numbers of three decimals."""
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value

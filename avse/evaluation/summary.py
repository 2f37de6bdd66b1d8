"""From rows of scores to `summary.json`.

`summary["scores"]` holds cells under `overall`, `by_snr`, `by_condition`, `by_label` and `by_condition_snr`; a cell is
`{metric: {"input": ..., "output": ..., "improvement": ...}}`, each `{"mean", "low", "high", "n"}`: the noisy audio, the
estimate, and the difference of the two by utterance.
"""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from avse.evaluation.scoring import Row
from avse.evaluation.statistics import LEVEL, RESAMPLES, bootstrap_means, drawn
from avse.workers import cores, threads_per_job

DEFINITIONS = {
    "SNR": "10 log10 of the power of the speech over that of the noise, both over speech-active samples (within 40 dB "
    "of the loudest 20 ms of the speech), as the manifest states it.",
    "RTF": "Real-time factor: wall time of enhancement over the duration of the audio; loading the model, decoding and "
    "tracking the mouth apart. Below 1 is faster than real time.",
    "interval": f"{LEVEL:.0%} percentile bootstrap of the mean, {RESAMPLES} resamples of speakers with all their "
    "mixtures (of clean utterances where one speaker is known). n counts mixtures, groups what was drawn.",
    "reliability": "How far the model trusted the video, 0 to 1, mean over the frames where a mouth was seen.",
}
_PACKAGES = (
    "avse",
    "torch",
    "numpy",
    "scipy",
    "torchmetrics",
    "pesq",
    "pystoi",
    "speechmos",
    "av",
    "soundfile",
    "soxr",
)


def summarise(
    rows: list[Row], metrics: dict[str, Any], *, settings: dict[str, Any] | None = None, jobs: int = 1
) -> dict[str, Any]:
    """Means with intervals, over all utterances and by SNR, condition and noise.

    The settings are kept in the summary: `seed` seeds the bootstrap, `system` names the system. `jobs` is the number of
    processes that shared the cores.
    """
    settings = settings or {}
    seed = settings.get("seed", 0)
    threads = int(os.environ.get("OMP_NUM_THREADS") or cores()) if jobs == 1 else threads_per_job(jobs)
    failures = [{key: row[key] for key in ("id", "status", "reason")} for row in rows if row["status"] != "ok"]
    conditions = group_keys(row["condition"] for row in rows)

    def cell(**wanted: Any) -> dict[str, Any]:
        return _cell([row for row in rows if in_group(row, wanted)], metrics, seed)

    def split(column: str, **wanted: Any) -> dict[str, Any]:
        keys = group_keys(row[column] for row in rows if in_group(row, wanted))
        return {key: cell(**{column: key}, **wanted) for key in keys}

    return {
        "format": 1,
        "system": settings.get("system", ""),
        "n": len(rows),
        "targets": len({row["target"] for row in rows}),
        "speakers": len({row["speaker"] for row in rows} - {""}),
        "scored": len(rows) - len(failures),
        "partial": sum(one["status"] == "partial" for one in failures),
        "failed": sum(one["status"] == "failed" for one in failures),
        "failures": failures,
        "noted": sum(bool(row["note"]) for row in rows),
        "metrics": {name: _about(metric) for name, metric in metrics.items()},
        "scores": {
            "overall": cell(),
            "by_snr": split("snr"),
            "by_condition": split("condition"),
            "by_label": split("label"),
            "by_condition_snr": {key: cells for key in conditions if (cells := split("snr", condition=key))},
        },
        "rtf": _speed(rows),
        "video": {name: _mean(rows, name) for name in ("valid", "reliability")},
        "settings": settings,
        "hardware": {
            "processor": _processor(),
            "cores": cores(),
            "jobs": jobs,
            "threads_per_job": threads,
            "device": settings.get("device", "cpu"),
        },
        "bootstrap": {"level": LEVEL, "resamples": RESAMPLES, "seed": seed, "resampled": "speakers"},
        "definitions": DEFINITIONS,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that scores depend on."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


def _cell(rows: list[Row], metrics: dict[str, Any], seed: int) -> dict[str, Any]:
    scores = []
    for name in metrics:
        inputs, outputs = (
            np.array([row.get(column) for row in rows], np.float64) for column in (f"{name}_input", name)
        )
        change = outputs - inputs
        if np.isfinite(change).any():  # means that stand side by side are over the same rows
            inputs, outputs = (np.where(np.isfinite(change), one, np.nan) for one in (inputs, outputs))
        scores += [inputs, outputs, change]
    intervals = bootstrap_means(np.stack(scores, axis=1), drawn(rows), seed=seed)
    cells = {}
    for index, name in enumerate(metrics):
        before, after, gained = intervals[3 * index : 3 * index + 3]
        cells[name] = {
            "input": asdict(before) if before.n else None,
            "output": asdict(after),
            "improvement": asdict(gained) if gained.n else None,
        }
    return cells


def _about(metric: Any) -> dict[str, Any]:
    text = getattr(metric, "definition", None) or inspect.getdoc(type(metric)) or ""
    return {
        "name": metric.name,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "relative_to_noisy": bool(getattr(metric, "relative_to_noisy", False)),
        "definition": " ".join(text.split("\n\n")[0].split()),
    }


def _speed(rows: list[Row]) -> dict[str, float] | None:
    timed = [row for row in rows if row.get("seconds") is not None and row.get("duration")]
    if not timed:
        return None
    seconds, audio = (sum(row[name] for row in timed) for name in ("seconds", "duration"))
    return {
        "median": float(np.median([row["rtf"] for row in timed])),
        "total": seconds / audio,
        "seconds": seconds,
        "audio_seconds": audio,
    }


def _mean(rows: list[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def group_keys(values: Iterable[Any]) -> list[str]:
    """Names of the groups among values, numbers by size; empty and None are no group."""
    groups = {value for value in values if value is not None and value != ""}
    return [group_key(value) for value in sorted(groups)]


def group_key(value: Any) -> str:
    """Name of the group of a value: numbers as short as they go."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_group(row: Row, wanted: dict[str, str]) -> bool:
    """Whether columns of a row are in the groups of these names."""
    return all(group_key(row[column]) == value for column, value in wanted.items())


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

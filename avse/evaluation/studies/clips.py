"""What the studies of clean audio-visual speech share: clips, means with intervals, and files of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avse.data.manifest import Utterance, read_manifest
from avse.evaluation.statistics import bootstrap_means, drawn
from avse.files import write_csv, write_json


def visible_speech(manifest: str | Path, splits: Sequence[str]) -> list[Utterance]:
    """Rows of a manifest with clean speech and a video."""
    return [row for row in read_manifest(manifest, splits=list(splits)) if row.clean and row.video]


def scores_of(values: Mapping[str, Any], speakers: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """`mean`, `low`, `high` (a bootstrap over speakers) and `n` of values by name, each of shape (clips,)."""
    rows = [{"speaker": speaker, "target": str(place)} for place, speaker in enumerate(speakers)]
    intervals = bootstrap_means(np.array(list(values.values()), np.float64).T, drawn(rows), seed=seed)
    return {name: vars(interval) for name, interval in zip(values, intervals)}


def mean_and_interval(score: Mapping[str, Any], form: str, gap: str) -> str:
    """A mean in a number format and, after a gap, its interval.

    >>> mean_and_interval({"mean": 0.5, "low": 0.25, "high": 0.75}, "6.1%", " ")
    ' 50.0% [25.0%, 75.0%]'
    """
    short = form.partition(".")[2]
    interval = "" if score["low"] is None else f"{gap}[{score['low']:.{short}}, {score['high']:.{short}}]"
    return f"{score['mean']:{form}}{interval}"


def write_study(out: Path, name: str, rows: Sequence[Sequence[Any]], summary: Mapping[str, Any]) -> None:
    """Write `<name>.csv`, whose first row is the header, and `<name>.json`."""
    write_csv(out / f"{name}.csv", rows)
    write_json(out / f"{name}.json", summary)

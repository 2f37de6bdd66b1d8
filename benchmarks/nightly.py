"""Measure a sample of the published results again; exit with 1 and words where one is not what is published.

    python benchmarks/nightly.py path/to/manifest.csv --rows 6 --mixtures 8     # `make nightly MANIFEST=...`

A row is what one file below `recipes/*/results/` says of an embedded model in one condition at one SNR. Some of its
mixtures are made again from the scenes and enhanced again; the mean of each score over them may leave the published
mean over the same mixtures by half the width of the published interval. The seed is the date: each night has other
rows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import results
import yaml

from avse.data.rendering import render_scenes
from avse.data.scenes import read_scenes, write_scenes
from avse.errors import AvseError
from avse.evaluation import evaluate

LEAST = 0.02  # a score of which all speakers have the same, such as no change at all, has no interval
Row = tuple[Path, str, Any]  # file, condition, SNR


def published() -> list[Row]:
    """All rows that can be measured again: of an embedded model, with scores by mixture and scenes."""
    rows = []
    for path in results.result_files():
        result = json.loads(path.read_text(encoding="utf-8"))
        if "model" in result and "mixtures" in result and scenes_of(path).is_file():
            rows += [
                (path, *place) for place in dict.fromkeys((one["condition"], one["snr"]) for one in result["mixtures"])
            ]
    return rows


def scenes_of(path: Path) -> Path:
    """The scenes that a file of results is of."""
    return path.parents[2] / "scenes" / f"{path.parent.name}.csv"


def measure(row: Row, manifest: Path, mixtures: int, crops: Path | None, draw: random.Random) -> list[str]:
    """What differs in a row, in words; prints what was found."""
    path, condition, snr = row
    old = json.loads(path.read_text(encoding="utf-8"))
    here = [one for one in old["mixtures"] if (one["condition"], one["snr"]) == (condition, snr)]
    ids = sorted({one["id"] for one in here})
    ids = sorted(draw.sample(ids, min(mixtures, len(ids))))
    settings = old["settings"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scenes, header = read_scenes(scenes_of(path))
        kept = [scene for scene in scenes if scene.id in ids]
        write_scenes(kept, folder / "scenes.csv", split=header["split"], seed=header["seed"])
        listed = render_scenes(folder / "scenes.csv", manifest, folder / "mixtures")
        evaluate(
            listed,
            folder / "scores",
            model=old["model"],
            speakers=settings.get("speakers", "blind"),
            use_video=settings["use_video"],
            without_video="no_video" in old["videos"],  # of a sweep, its two ends
            corrupt=settings["corrupt"],
            metrics=settings["metrics"],
            seed=settings["seed"],
            crops=crops,
            keep_estimates=False,
            overrides={key: yaml.safe_load(text) for key, text in settings.get("overrides", {}).items()} or None,
        )
        new = json.loads((folder / "scores" / "results.json").read_text(encoding="utf-8"))
    place = f"{path.relative_to(results.ROOT)}: {condition}" + ("" if snr is None else f", {snr:g} dB")
    before, now = _scores(old, ids), _scores(new, ids)
    faults = []
    for key in sorted(before.keys() & now.keys()):
        metric, video = key
        common = before[key].keys() & now[key].keys()
        was, found = (float(np.mean([scores[one] for one in common])) for scores in (before[key], now[key]))
        allowed = _allowed(old, condition, snr, metric, video)
        if allowed is None:
            continue
        text = f"{place}, {metric}, video {video}: {was:.2f} published, {found:.2f} now, over {len(common)} scores"
        print(f"{text} (allowed: {allowed:.2f})", flush=True)
        if not abs(found - was) <= allowed:
            faults.append(f"{text}; the interval allows a difference of {allowed:.2f}.")
    return faults if before.keys() & now.keys() else [f"{place}: nothing could be measured again."]


def _scores(result: dict[str, Any], ids: list[str]) -> dict[tuple[str, str], dict[tuple[str, str], float]]:
    """Scores by metric and video, and by mixture and speaker."""
    found: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for one in result["mixtures"]:
        for metric, scores in one["scores"].items() if one["id"] in ids else ():
            for video, score in zip(result["videos"], scores):
                if score is not None:
                    found.setdefault((metric, video), {})[one["id"], one["speaker"]] = score
    return found


def _allowed(result: dict[str, Any], condition: str, snr: Any, metric: str, video: str) -> float | None:
    """Half the width of the published interval; None where the score is in no table."""
    column, level = {"clean": "with", "no_video": "without"}.get(video, "with"), "" if snr is None else f"{snr:g}"
    for table in result["tables"]:
        if (table["condition"], table["snr"], table["metric"]) == (condition, level, metric):
            cell = table["corpora"]["all"][column]
            return LEAST if cell["low"] is None else max(LEAST, (cell["high"] - cell["low"]) / 2)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="of the corpora that the scenes name")
    parser.add_argument("--rows", type=int, default=6, help="how many (default: 6)")
    parser.add_argument("--mixtures", type=int, default=8, help="of each row (default: 8)")
    parser.add_argument("--only", default="", help="rows whose file has this in its path")
    parser.add_argument("--crops", type=Path, help="folder that keeps tracked mouths")
    parser.add_argument("--seed", default=datetime.date.today().isoformat(), help="of the choice (default: the date)")
    given = parser.parse_args()
    if not given.manifest.is_file():
        sys.exit(
            f"nightly: {given.manifest}: there is no such manifest. Give that of the corpora: make nightly MANIFEST=..."
        )
    draw = random.Random(given.seed)
    rows = [row for row in published() if given.only in str(row[0].relative_to(results.ROOT))]
    faults = results.stale()
    for row in sorted(draw.sample(rows, min(given.rows, len(rows))), key=str):
        try:
            faults += measure(row, given.manifest, given.mixtures, given.crops, draw)
        except AvseError as error:
            faults.append(f"{row[0].relative_to(results.ROOT)}: {error}")
    if not rows:
        faults.append(f"No published row has {given.only!r} in its path.")
    sys.exit("\n".join(["", "Not what is published:", *faults]) if faults else 0)


if __name__ == "__main__":
    main()

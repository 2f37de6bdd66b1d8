"""Publish the mean over seeds of a training: a row of results from the folders that `avse evaluate` wrote of each.

    python benchmarks/seeds.py scores/tied_1 scores/tied_2 scores/tied_3 --name "unrolled, tied" \
        -o recipes/Manifest/results/unrolled_test/tied.json

Each mixture counts with its mean over seeds, and intervals are of a bootstrap over speakers. `spread` is the largest
standard deviation over seeds of a mean over mixtures.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from avse.evaluation.statistics import bootstrap_means

PLACE = ("condition", "snr", "corpus")
ABOUT = "Means over seeds (benchmarks/seeds.py), 95 % intervals of a bootstrap over speakers"


def cells(folders: list[Path], metric: str) -> list[dict]:
    """Those of all corpora together and of each, in each condition at each SNR."""
    seeds = []
    for folder in folders:
        with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
            seeds.append({row["id"]: row for row in csv.DictReader(file) if row["status"] == "ok"})
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, row in seeds[0].items():
        if all(name in seed for seed in seeds):
            for corpus in ("all", row["dataset"]):
                groups[row["condition"], row["snr"], corpus].append(name)
    found = []
    for place, names in sorted(groups.items()):
        values = np.array([[float(seed[name][metric]) for name in names] for seed in seeds])
        speakers = [seeds[0][name]["speaker"] for name in names]
        [interval] = bootstrap_means(values.mean(axis=0)[:, None], speakers)
        numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high}
        numbers["spread"] = values.mean(axis=1).std(ddof=1) if len(seeds) > 1 else 0.0
        rounded = {name: round(float(value), 3) for name, value in numbers.items()}
        counts = {"n": len(names), "groups": len(set(speakers))}
        found.append({**dict(zip(PLACE, place)), "metric": metric, **rounded, **counts})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+", help="what `avse evaluate` wrote of each seed")
    parser.add_argument("--name", required=True, help="of the row")
    parser.add_argument("--metric", default="si_sdr_improvement")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    found = cells(given.folder, given.metric)
    spread = max(cell["spread"] for cell in found if cell["corpus"] == "all")
    for cell in found:
        del cell["spread"]
    lines = ",\n  ".join(json.dumps(cell) for cell in found)
    about = {"system": given.name, "provenance": ABOUT, "seeds": len(given.folder), "spread": spread}
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in about.items())
    given.output.write_text(f'{{\n{head} "cells": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()

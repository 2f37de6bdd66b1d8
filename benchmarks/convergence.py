"""Objective and SI-SDR after each iteration or layer, against time.

    python benchmarks/convergence.py results/faces/manifest.csv -o recipes/Manifest/results/joint.json \
        --condition recorded --cache_folder CACHE --per_corpus 2 \
        --of '`vem`=av-vae@inference:vem,inference.iterations:50' \
        --of '`joint`, lbfgs=av-vae@inference:joint,inference.solver:lbfgs,inference.iterations:50'

Mixtures are those of a manifest of `avse mix`, the first of each corpus in each condition, with video, cut to
`--seconds`.
Times are CPU seconds of one thread by second of audio, clips one by one: compare them within one run alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch

import avse
from avse import plugins
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import read_manifest
from avse.evaluation.statistics import bootstrap_means
from avse.signal.metrics import si_sdr

RATE = 16_000


def mixtures(given: argparse.Namespace) -> list[tuple[str, str, Batch]]:
    """Condition, speaker and batch of each mixture."""
    with given.manifest.open(newline="", encoding="utf-8") as file:
        conditions = {row["id"]: row["condition"] for row in csv.DictReader(file)}
    cache = ClipCache(given.cache_folder, plugins.get("mouth_tracker", "mtcnn")())
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for row in read_manifest(given.manifest):
        condition = conditions[row.id]
        if condition not in given.condition or seen[condition, row.dataset] >= given.per_corpus:
            continue
        seen[condition, row.dataset] += 1
        noisy, clean = (soundfile.read(path, dtype="float32")[0] for path in (row.noisy, row.clean))
        mouth, valid = cache.mouth(row)
        frames = min(len(noisy) // SAMPLES_PER_FRAME, len(valid), int(given.seconds * 25))
        clip = Clip(noisy[: frames * SAMPLES_PER_FRAME], mouth[:frames], valid[:frames], row.id)
        found.append((condition, row.speaker, Batch.from_clips([clip], [clean[: len(clip.audio)]])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--of", action="append", required=True, help="LABEL=MODEL@KEY:VALUE,...")
    parser.add_argument("--condition", action="append", required=True)
    parser.add_argument("--per_corpus", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--cache_folder", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    batches = mixtures(given)
    cells = []
    for system in given.of:
        label, _, named = system.rpartition("=")
        name, _, overrides = named.partition("@")
        changes = dict(pair.split(":", 1) for pair in overrides.split(",") if pair)
        inference = avse.load(name, overrides=changes or None).system
        values: dict[tuple[str, int, str], list[tuple[str, float]]] = defaultdict(list)
        for condition, speaker, batch in batches:
            began = time.process_time()
            spent = 0.0
            for number, progress in enumerate(inference.progress(batch), 1):
                spent += time.process_time() - began
                estimate = progress.estimate(inference.prior, batch)
                gain = si_sdr(estimate.speech, batch.clean) - si_sdr(batch.noisy, batch.clean)
                seconds = batch.noisy.shape[1] / RATE
                for metric, value in (
                    ("si_sdr_improvement", gain.item()),
                    ("objective", progress.objective.mean().item()),
                    ("seconds by second of audio", spent / seconds),
                ):
                    values[condition, number, metric].append((speaker, value))
                began = time.process_time()
        for (condition, number, metric), pairs in sorted(values.items()):
            [interval] = bootstrap_means(np.array([[value] for _, value in pairs]), [speaker for speaker, _ in pairs])
            cell = {"system": label, "condition": condition, "iteration": number, "metric": metric}
            cells.append({**cell, **asdict(interval)})
        print(label, len(batches), flush=True)
    about = (
        f"benchmarks/convergence.py: {len(batches)} mixtures, at most {given.per_corpus} of each corpus in each "
        f"condition, cut to {given.seconds:g} s, with video; CPU seconds of one busy thread; 95 % intervals "
        "of a bootstrap over speakers"
    )
    given.output.write_text(json.dumps({"system": "", "provenance": about, "cells": cells}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Scores a masker that is told what the noise is, under each description.

    python recipes/Scenes/told_masker.py MODEL MIXTURES MANIFEST CAPTIONS -o RESULTS.json [--baseline NAME]

Takes the recorded mixtures of `avse mix`, audio alone. The first row is the baseline, which is told nothing: the model
that the training began with.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from conditioned_nmf import OTHERS, Descriptions, descriptions, gains_of

import avse
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.evaluation.statistics import bootstrap_means
from avse.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name in ("mixtures", "manifest", "captions"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--baseline", default="avse-small")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    system, baseline = avse.load(asked.model).system, avse.load(asked.baseline).system
    told = Descriptions(asked.manifest, asked.captions)
    rows = [row for row in read_manifest(asked.mixtures) if row.extra.get("condition") == "recorded"]
    cells = []
    for snr in sorted({row.snr for row in rows if row.snr is not None}):
        at = sorted((row for row in rows if row.snr == snr), key=lambda row: row.duration or 0)
        audio = [[read_audio(path) for path in (row.noisy, row.clean, row.noise)] for row in at]
        none: np.ndarray | None = None
        described = [(name, scenes) for name, scenes in descriptions(told, at, audio) if name not in OTHERS]
        for name, scenes in [(f"none, `{asked.baseline}`", None), *described]:
            gained = gains_of(baseline if name.endswith("`") else system, audio, scenes)
            none = gained if name == "none" else none
            place = {"system": name, "condition": "recorded", "snr": f"{snr:g}"}
            scores = {"si_sdr_improvement": gained} | ({} if none is None else {"over none": gained - none})
            for metric, values in scores.items():
                [interval] = bootstrap_means(values[:, None], [row.speaker for row in at])
                cells.append({**place, "metric": metric, **asdict(interval)})
            print(f"{snr:g} dB, {name}: {gained.mean():.2f} dB", flush=True)
    about = {"system": "tf_masker", "provenance": "Measured by recipes/Scenes/told_masker.py"}
    write_json(asked.output, about | {"cells": cells})


if __name__ == "__main__":
    main()

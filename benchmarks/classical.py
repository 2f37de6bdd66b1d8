"""Classical enhancement by libraries, to compare with: spectral gating and iterative Wiener filtering.

    pip install -e ".[bench]"
    python benchmarks/classical.py spectral_gating --manifest results/test/manifest.csv --out results/gating
    avse evaluate --manifest results/test/manifest.csv --estimates results/gating --out results/scores/gating

Both learn the noise from the noisy clip alone, as the unsupervised systems here do.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def spectral_gating(noisy: np.ndarray) -> np.ndarray:
    """Stationary spectral gating with the statistics of the whole clip (noisereduce, its default settings)."""
    import noisereduce

    return noisereduce.reduce_noise(noisy, RATE, stationary=True)


def wiener(noisy: np.ndarray) -> np.ndarray:
    """Wiener filtering with an all-pole model of speech (pyroomacoustics, its default settings)."""
    from pyroomacoustics.denoise import apply_iterative_wiener

    frame = 512
    late = frame // 2  # what comes out is so many samples late
    return apply_iterative_wiener(np.pad(noisy, (0, frame)), frame_len=frame)[late : late + len(noisy)]


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"spectral_gating": spectral_gating, "wiener": wiener}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--manifest", type=Path, required=True, help="mixtures with a column `noisy`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the estimates")
    options = parser.parse_args()
    with options.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        noisy, rate = soundfile.read(options.manifest.parent / row["noisy"], dtype="float32")
        if rate != RATE:
            parser.error(f"{row['noisy']}: {rate} Hz, not {RATE}.")
        estimate = np.asarray(METHODS[options.method](noisy), dtype=np.float32)
        estimate = np.pad(estimate, (0, max(0, len(noisy) - len(estimate))))[: len(noisy)]
        target = options.out / f"{row['id']}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, np.clip(estimate, -1, 1), RATE)


if __name__ == "__main__":
    main()

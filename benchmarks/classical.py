"""Classical enhancement by libraries, to compare with: spectral gating and iterative Wiener filtering.

    pip install -e ".[bench]"
    python benchmarks/classical.py spectral_gating --manifest results/test/manifest.csv --out results/gating
    avse evaluate --manifest results/test/manifest.csv --estimates results/gating --out results/scores/gating
    python benchmarks/classical.py spectral_gating --manifest results/dev/manifest.csv      # tunes the settings

Both learn the noise from the noisy clip alone, as the unsupervised systems here do. Their settings are those of highest
mean SI-SDR on 24 development scenes at -5, 0 and 5 dB, half recorded noise, half babble; `GRIDS` is what was tried (of
`wiener`, 10 of 36: with `lpc_order` 12 those of one iteration and three of two, and the best with 20). In recorded
noise they gain 0.1 and 0.6 dB, the defaults -4.1 and 0.0.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from avse.signal.metrics import si_sdr

RATE = 16000


def spectral_gating(noisy: np.ndarray, **settings: Any) -> np.ndarray:
    """Spectral gating with the statistics of the whole clip, or of the seconds before (noisereduce)."""
    import noisereduce

    return noisereduce.reduce_noise(noisy, RATE, **settings)


def wiener(noisy: np.ndarray, frame_len: int = 512, **settings: Any) -> np.ndarray:
    """Wiener filtering with an all-pole model of speech (pyroomacoustics)."""
    from pyroomacoustics.denoise import apply_iterative_wiener

    late = frame_len // 2  # what comes out is so many samples late
    filtered = apply_iterative_wiener(np.pad(noisy, (0, frame_len)), frame_len=frame_len, **settings)
    return filtered[late : late + len(noisy)]


METHODS: dict[str, Callable[..., np.ndarray]] = {"spectral_gating": spectral_gating, "wiener": wiener}
TUNED: dict[str, dict[str, Any]] = {
    "spectral_gating": {"stationary": True, "prop_decrease": 0.6, "n_std_thresh_stationary": -1.0},
    "wiener": {"lpc_order": 12, "iterations": 2, "alpha": 0.8, "thresh": 0.01},
}
GRIDS: dict[str, list[dict[str, list[Any]]]] = {
    "spectral_gating": [
        {"stationary": [True], "prop_decrease": [0.6, 0.8, 1.0], "n_std_thresh_stationary": [-1.0, 0.0, 0.75, 1.5]},
        {"stationary": [False], "prop_decrease": [0.6, 0.8, 1.0], "thresh_n_mult_nonstationary": [0, 1, 2]},
    ],
    "wiener": [{"lpc_order": [12, 20], "iterations": [1, 2, 4], "alpha": [0.8, 0.95], "thresh": [0.001, 0.01, 0.1]}],
}


def settings_of(method: str) -> Iterator[dict[str, Any]]:
    """All settings of a method's grid; first those that are used."""
    yield TUNED[method]
    for grid in GRIDS[method]:
        yield from (dict(zip(grid, values)) for values in itertools.product(*grid.values()))


def enhance(method: str, noisy: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """The estimate, as long as the noisy audio."""
    estimate = np.asarray(METHODS[method](noisy, **settings), dtype=np.float32)
    return np.pad(estimate, (0, max(0, len(noisy) - len(estimate))))[: len(noisy)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--manifest", type=Path, required=True, help="mixtures with a column `noisy`")
    parser.add_argument("--out", type=Path, help="folder of the estimates; without it the settings are tuned")
    parser.add_argument("--defaults", action="store_true", help="estimates with the library's own settings")
    options = parser.parse_args()
    with options.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    def read(row: dict[str, str], column: str) -> np.ndarray:
        signal, rate = soundfile.read(options.manifest.parent / row[column], dtype="float32")
        if rate != RATE:
            parser.error(f"{row[column]}: {rate} Hz, not {RATE}.")
        return signal

    if options.out is None:
        pairs = [(read(row, "noisy"), read(row, "clean")) for row in rows]
        before = [si_sdr(*map(torch.from_numpy, pair)).item() for pair in pairs]
        for settings in settings_of(options.method):
            tensors = [(torch.from_numpy(enhance(options.method, n, settings)), torch.from_numpy(c)) for n, c in pairs]
            gains = np.array([si_sdr(*pair).item() - noisy for pair, noisy in zip(tensors, before)])
            recorded = np.array([row["condition"] == "recorded" for row in rows])
            means = f"{gains[recorded].mean():+.2f} dB in recorded noise, {gains[~recorded].mean():+.2f} dB in other"
            print(f"{means}  {settings}", flush=True)
        return
    used = {} if options.defaults else TUNED[options.method]
    for row in rows:
        estimate = enhance(options.method, read(row, "noisy"), used)
        target = options.out / f"{row['id']}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, np.clip(estimate, -1, 1), RATE)


if __name__ == "__main__":
    main()

"""A small manifest of mixtures made by code, and models that need no weights."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000
sys.path.insert(0, str(Path(__file__).parent))  # `fake_models` must be importable here and in child processes


def voice(seed: int, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * (110 + 15 * seed) * time + 0.5 * np.sin(7 * time)
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 20)) * np.clip(np.sin(12 * time), 0, None)


@pytest.fixture
def make_mixtures(tmp_path: Path) -> Callable[..., Path]:
    """Writes `mixtures/manifest.csv` with `targets` clean voices, each at every SNR, and returns its path."""

    def make(targets: int = 3, snrs: tuple[float, ...] = (0.0, 5.0), seconds: float = 1.0, video: bool = False) -> Path:
        folder = tmp_path / "mixtures"
        folder.mkdir()
        rows = []
        for target in range(targets):
            clean = voice(target, seconds)
            if video:
                (folder / f"face{target}.mp4").write_text(f"face {target}: not decoded in these tests")
            for snr in snrs:
                name = f"t{target}_{snr:g}"
                noise = np.random.default_rng([target, int(snr) + 100]).standard_normal(clean.size)
                noise *= np.sqrt((clean**2).mean() / (noise**2).mean() * 10 ** (-snr / 10))
                soundfile.write(folder / f"{name}_clean.wav", clean, RATE, subtype="FLOAT")
                soundfile.write(folder / f"{name}_noisy.wav", clean + noise, RATE, subtype="FLOAT")
                rows.append(
                    {
                        "id": f"set/{name}",
                        "clean": f"{name}_clean.wav",
                        "noisy": f"{name}_noisy.wav",
                        "video": f"face{target}.mp4" if video else "",
                        "speaker": f"s{target}",
                        "snr": snr,
                        "condition": "white" if target % 2 else "pink",
                        "label": f"noise{target}",
                        "target": f"t{target}",
                    }
                )
        with open(folder / "manifest.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder / "manifest.csv"

    return make

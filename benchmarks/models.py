"""What each model that comes with `avse` costs; written into its `model.json`, from which `avse models` reads.

    python benchmarks/models.py [MODEL ...]

Each model enhances a clip of 10 s with mouth crops in a process of its own, on one thread: once to begin, then three
times. The real-time factor is the median of CPU seconds by second of audio; the memory is the peak of the process. A
separator gets the clip of two speakers.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

import avse
from avse.contracts.types import SAMPLE_RATE, Clip
from avse.files import write_json
from avse.model_folder import DESCRIPTION, PRETRAINED, embedded

SECONDS, TIMES = 10, 3


def cost(name: str) -> dict[str, Any]:
    """Real-time factor, peak memory in MB, and latency in s (None: the whole clip) of a model."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    swell = 0.05 + np.abs(np.sin(np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE * 4 * np.pi))
    audio = (0.1 * swell * rng.standard_normal(len(swell))).astype(np.float32)
    mouth = rng.integers(1, 255, (SECONDS * 25, 88, 88), dtype=np.uint8)
    clip = Clip(audio, mouth, np.ones(len(mouth), dtype=bool))
    model = avse.load(name, device="cpu")
    two = type(model.system).__name__ == "AVSeparator"
    taken = []
    for _ in range(1 + TIMES):
        began = time.process_time()
        model.separate_clips([clip, clip]) if two else model.enhance(clip)
        taken.append(time.process_time() - began)
    samples = getattr(model.system, "latency", None)
    return {
        "rtf": round(statistics.median(taken[1:]) / SECONDS, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, -1),
        "latency_s": None if samples is None else samples / SAMPLE_RATE,
    }


def main() -> None:
    """Measure, and write."""
    for name in sys.argv[1:] or [name for name, about in embedded().items() if "kind" not in about]:
        path = PRETRAINED / name / DESCRIPTION
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(cost, (name,))
        write_json(path, json.loads(path.read_text()) | {"cost": found})
        print(name, found, flush=True)


if __name__ == "__main__":
    main()

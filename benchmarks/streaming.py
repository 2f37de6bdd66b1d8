"""What a stream costs: time of a block, real-time factor and memory, minute by minute, on one core.

    taskset -c 0 python benchmarks/streaming.py [MODEL] [MINUTES]

Noise and crops of random pixels, in blocks of 20 ms with a crop in every other, as fast as they are taken. The
real-time factor is the time of all blocks over the duration of their audio.
"""

from __future__ import annotations

import resource
import sys

import numpy as np
import torch

import avse
from avse.streaming import Streamer

BLOCK, BLOCKS_OF_MINUTE, WARM_UP = 320, 3000, 50


def main(name: str = "avse-live", minutes: str = "10") -> None:
    """Print a row of a table for each minute."""
    torch.set_num_threads(1)
    streamer, rng = Streamer(avse.load(name)), np.random.default_rng(0)
    crops = rng.integers(0, 256, (25, 88, 88), dtype=np.uint8)
    for number in range(WARM_UP):
        streamer.push(rng.standard_normal(BLOCK).astype(np.float32) * 0.05, crops[number % 25])
    print("| minute | median (ms) | 95 % | 99 % | real-time factor | peak memory (MB) |\n|---|---|---|---|---|---|")
    for minute in range(1, int(minutes) + 1):
        seconds = []
        for number in range(BLOCKS_OF_MINUTE):
            picture = crops[number // 2 % 25] if number % 2 == 0 else None
            block = streamer.push(rng.standard_normal(BLOCK).astype(np.float32) * 0.05, picture)
            seconds.append(block.seconds)
        times = 1000 * np.percentile(seconds, (50, 95, 99))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(f"| {minute} | " + " | ".join(f"{time:.1f}" for time in times), end="")
        print(f" | {sum(seconds) / 60:.3f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How fast the inferences are, alone and in batches, and how time and memory grow with the length of a clip.

    python benchmarks/inference.py [--threads 2] [--seconds 5] [--iterations 100] [--lengths 5 10 20 40 80]
    python benchmarks/inference.py --model MODEL_FOLDER --mixtures manifest.csv

The first form needs no data: priors have random weights, on which no speed depends. Clips never stop early. Printed are

1. the real-time factor (seconds of work by second of sound, one clip) of every inference with every latent prior, for
   all iterations and for a fifth of them;
2. how many times the throughput of one clip after the other a batch of 16 has;
3. seconds and peak memory by length of the clip, processed whole and in pieces of 10 s.

The second form takes a trained prior and mixtures with `noisy` and `clean` files, and prints the improvement of SI-SDR
and the real-time factor of every inference after 20 and after 100 iterations.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from avse import plugins
from avse.contracts.inference import Inference
from avse.contracts.prior import LatentPrior
from avse.contracts.types import SAMPLE_RATE, Batch, Clip
from avse.inference.em.driver import LatentInference

BATCH = 16


def sound(seconds: float, seed: int = 0) -> Clip:
    """Noise that swells about four times a second, as speech does."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * SAMPLE_RATE)
    swell = 1.0 + np.sin(np.arange(samples) * 2 * np.pi * 4 / SAMPLE_RATE)
    return Clip((0.03 * swell * rng.standard_normal(samples)).astype(np.float32))


def names(kind: str, family: type) -> list[str]:
    return [name for name in plugins.names(kind) if issubclass(plugins.get(kind, name), family)]


def system(inference: str, prior: str, iterations: int, **options: object) -> Inference:
    torch.manual_seed(0)
    noise_model = plugins.get("noise_model", "nmf")()
    return plugins.get("inference", inference)(
        prior=plugins.get("prior", prior)(), noise_model=noise_model, iterations=iterations, tolerance=0.0, **options
    ).eval()


def seconds_of(run: Inference, batch: Batch, repeats: int = 3) -> float:
    """Median time of a run, after a short one that warms up."""
    times = []
    with torch.inference_mode():
        run(batch, seconds=0.0)
        for _ in range(repeats):
            begun = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    print(f"\n{title}\n")
    for row in [header, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)


def speed(options: argparse.Namespace, inferences: list[str], priors: list[str]) -> None:
    few = max(1, options.iterations // 5)
    alone = Batch.from_clips([sound(options.seconds)])
    rows = []
    for inference in inferences:
        for prior in priors:
            times = [seconds_of(system(inference, prior, n), alone, options.repeats) for n in (options.iterations, few)]
            rows.append([inference, prior, *[f"{taken / options.seconds:.3f}" for taken in times]])
    title = f"Real-time factor, one clip of {options.seconds:g} s, {options.threads} threads"
    table(title, ["inference", "prior", f"{options.iterations} iterations", f"{few} iterations"], rows)


def batching(options: argparse.Namespace, inferences: list[str], priors: list[str]) -> None:
    few = max(1, options.iterations // 10)
    clips = [sound(options.seconds * (0.6 + 0.05 * index), index) for index in range(BATCH)]
    rows = []
    for inference in inferences:
        run = system(inference, priors[0], few)
        together = seconds_of(run, Batch.from_clips(clips), options.repeats)
        singles = sum(seconds_of(run, Batch.from_clips([clip]), 1) for clip in clips)
        rows.append([inference, f"{singles:.2f}", f"{together:.2f}", f"{singles / together:.2f}"])
    title = f"{BATCH} clips of {clips[0].audio.size / SAMPLE_RATE:g} to {clips[-1].audio.size / SAMPLE_RATE:g} s"
    header = ["inference", "one by one, s", "in a batch, s", "times the throughput"]
    table(f"{title}, prior {priors[0]}, {few} iterations", header, rows)


def _peak_memory() -> int:
    """Most memory that this process ever had, in KiB; `getrusage` counts that of the process that started it too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def _measure(inference: str, prior: str, seconds: float, iterations: int, threads: int, chunk: float, out) -> None:
    torch.set_num_threads(threads)
    options = {"chunk_seconds": chunk}
    run, batch = system(inference, prior, iterations, **options), Batch.from_clips([sound(seconds)])
    short = Batch.from_clips([sound(1.0)])
    with torch.inference_mode():
        run(short)
        before = _peak_memory()
        begun = time.perf_counter()
        run(batch)
        taken = time.perf_counter() - begun
    out.put((taken, (_peak_memory() - before) / 1024))


def complexity(options: argparse.Namespace, inferences: list[str], priors: list[str]) -> None:
    few = max(1, options.iterations // 20)
    context = multiprocessing.get_context("spawn")  # a process's peak memory never falls: a fresh one each time
    rows = []
    for inference in inferences:
        for chunk in (1e9, 10.0):
            for seconds in options.lengths:
                out = context.SimpleQueue()
                arguments = (inference, priors[0], seconds, few, options.threads, chunk, out)
                process = context.Process(target=_measure, args=arguments)
                process.start()
                taken, memory = out.get()
                process.join()
                shown = "whole" if chunk > 1e6 else f"{chunk:g} s"
                by_second = [f"{taken:.2f}", f"{1e3 * taken / seconds:.0f}", f"{memory:.0f}", f"{memory / seconds:.1f}"]
                rows.append([inference, shown, f"{seconds:g}", *by_second])
    header = ["inference", "pieces", "clip, s", "time, s", "ms per s", "memory, MiB", "MiB per s"]
    table(f"Growth with the length, prior {priors[0]}, {few} iterations", header, rows)


def quality(options: argparse.Namespace, inferences: list[str]) -> None:
    import soundfile

    from avse.model import load
    from avse.signal.metrics import si_sdr

    with open(options.mixtures, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [rows[index * len(rows) // options.clips] for index in range(min(options.clips, len(rows)))]
    folder = Path(options.mixtures).parent
    noisy, clean = (
        [soundfile.read(folder / row[name], dtype="float32")[0] for row in rows] for name in ("noisy", "clean")
    )
    batch = Batch.from_clips([Clip(one) for one in noisy], clean=clean)
    duration = float(batch.lengths.sum()) / SAMPLE_RATE
    shown = []
    for inference in inferences:
        cells = [inference]
        for count in (20, 100):
            overrides = {"inference": inference, "inference.iterations": count}
            run = load(options.model, overrides=overrides).system
            with torch.inference_mode():
                begun = time.perf_counter()
                estimate = run(batch)
                taken = time.perf_counter() - begun
            gain = si_sdr(estimate.speech, batch.clean) - si_sdr(batch.noisy, batch.clean)
            cells += [f"{float(gain.mean()):.2f}", f"{taken / duration:.3f}"]
        shown.append(cells)
    header = ["inference", "20: dB", "20: real-time factor", "100: dB", "100: real-time factor"]
    table(f"Improvement of SI-SDR on {len(rows)} mixtures, in one batch", header, shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lengths", type=float, nargs="+", default=[5.0, 10.0, 20.0, 40.0, 80.0])
    parser.add_argument("--inferences", nargs="+", default=names("inference", LatentInference))
    parser.add_argument("--priors", nargs="+", default=names("prior", LatentPrior))
    parser.add_argument("--model", help="folder of a trained prior with its inference")
    parser.add_argument("--mixtures", help="manifest with noisy and clean files")
    parser.add_argument("--clips", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.model:
        quality(options, options.inferences)
        return
    priors = sorted(options.priors, key=lambda name: name != "vae")
    speed(options, options.inferences, priors)
    batching(options, options.inferences, priors)
    complexity(options, options.inferences, priors)


if __name__ == "__main__":
    main()

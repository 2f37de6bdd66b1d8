"""What `avse enhance film.mp4` costs by the size of the picture: wall clock, CPU, and memory of the whole command.

    python benchmarks/films.py FOLDER [--code OTHER_CHECKOUT] [--rounds 3]

Films of 21 s are made in FOLDER from a development clip of GRID, scaled up, with grain like that of a camera; they are
kept there. With `--code`, the package of another checkout is run in turn with this one, so that both meet one load.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

HERE = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("AVSE_DATA", HERE.parent / "shared" / "data"))
SIZES = {"360x288": (360, 288), "1920x1080": (1920, 1080), "3840x2160": (3840, 2160)}
SECONDS, RATE, GRAIN = 21, 25, 2.0


def make(path: Path, size: tuple[int, int]) -> None:
    """A film of H.264 and AAC (stereo, 48 kHz) that shows the clip again and again."""
    with open(DATA / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "grid" and row["split"] == "dev"]
    row = min(rows, key=lambda row: row["id"])
    with av.open(str(DATA / row["video"])) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(DATA / row["audio"])) as container:
        sound = np.concatenate([frame.to_ndarray().reshape(1, -1) for frame in container.decode(audio=0)], axis=1)
        rate = container.streams.audio[0].rate
    rng = np.random.default_rng(0)
    width, height = size
    scale = height / pictures[0].shape[0]
    side = round(pictures[0].shape[1] * scale)
    grain = [rng.normal(0, GRAIN, (height, width, 1)).astype(np.float32) for _ in range(5)]
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio: Any = container.add_stream("aac", rate=48_000, layout="stereo")
        for index in range(SECONDS * RATE):
            picture = cv2.resize(pictures[index % len(pictures)], (side, height), interpolation=cv2.INTER_CUBIC)
            wide = cv2.copyMakeBorder(
                picture, 0, 0, (width - side) // 2, width - side - (width - side) // 2, cv2.BORDER_REFLECT
            )
            shown = np.clip(wide + grain[index % 5], 0, 255).astype(np.uint8) if scale > 1 else wide
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        whole = np.tile(sound, SECONDS * rate // sound.shape[1] + 1)[:, : SECONDS * rate].astype(np.float32)
        whole = whole / max(1.0, float(np.abs(whole).max())) + rng.normal(0, 0.02, whole.shape).astype(np.float32)
        resampler = av.AudioResampler("fltp", "stereo", 48_000)
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(whole), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        for part in [*resampler.resample(block), *resampler.resample(None)]:
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))


def cost(code: Path, film: Path, options: list[str]) -> tuple[float, float, float]:
    """Wall-clock seconds, CPU seconds, and the peak of memory in MB of one command."""
    output = film.with_suffix(".out.mp4")
    command = [sys.executable, "-m", "avse", "enhance", str(film), "-o", str(output), *options]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=code, env={**os.environ, "PYTHONPATH": str(code)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed.")
    output.unlink()
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--code", type=Path, action="append", default=[], help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, action="append", help="default: all")
    arguments, options = parser.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| picture | code | s, wall clock | CPU s | times real time | MB |")
    print("|---|---|---|---|---|---|")
    for name in arguments.size or SIZES:
        film = arguments.folder / f"{name}.mp4"
        if not film.is_file():
            make(film, SIZES[name])
        found: dict[Path, list[tuple[float, float, float]]] = {code.resolve(): [] for code in (HERE, *arguments.code)}
        for _ in range(arguments.rounds):
            for code, runs in found.items():
                runs.append(cost(code, film, options))
        for code, runs in found.items():
            wall, cpu, memory = np.median(np.array(runs), axis=0)
            print(
                f"| {name} | {code.name} | {wall:.1f} | {cpu:.1f} | {SECONDS / wall:.1f} | {memory:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()

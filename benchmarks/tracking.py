"""Compares the mouth trackers: who still finds the mouth when the picture is bad, and how fast.

    python benchmarks/tracking.py [DATA_FOLDER]

Each tracker follows the mouth through a fixed sample of development clips, as they are and blurred, dark, rotated in
the plane, and squeezed as by a head turned away. Printed are the share of frames with a mouth, and how far the mouth
lies from where the same tracker saw it in the clean clip (median and 90th percentile over frames), in per cent of the
distance from eyes to mouth. Then the speed from file to clip, in times real time:
by wall clock and by CPU time over all cores.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from avse import plugins
from avse.data.synthetic.recording import write_video
from avse.media import read_clip
from avse.media.faces.crop import Frame, MouthCropper

TRACKERS = ("mtcnn", "haar")
GRID, LRW_AR = 6, 10  # clips of each, spread evenly over the development part
Warp = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def as_it_is(frame: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return frame, np.eye(2, 3)


def blurred(frame: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return cv2.GaussianBlur(frame, None, frame.shape[0] / 70), np.eye(2, 3)


def dark(frame: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    noisy = 0.1 * frame + 3.0 * rng.standard_normal(frame.shape, dtype=np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8), np.eye(2, 3)


def _warped(matrix: np.ndarray) -> Warp:
    def warp(frame: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = frame.shape[:2]
        centre = np.array([width / 2, height / 2])
        whole = np.hstack([matrix, (centre - matrix @ centre)[:, None]])
        return cv2.warpAffine(frame, whole, (width, height), borderMode=cv2.BORDER_REFLECT), whole

    return warp


def _rotated(degrees: float) -> Warp:
    angle = np.deg2rad(degrees)
    return _warped(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


CONDITIONS: dict[str, Warp] = {
    "clean": as_it_is,
    "blurred": blurred,
    "dark": dark,
    "rotated by 20 degrees": _rotated(20),
    "rotated by 35 degrees": _rotated(35),
    "squeezed to 60 %": _warped(np.diag([0.6, 1.0])),
}


def sample(data: Path) -> list[tuple[Path, Path]]:
    """Pairs of sound and video."""
    with open(data / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "av_speech" and row["split"] == "dev"]
    chosen = []
    for dataset, count in (("grid", GRID), ("lrwar", LRW_AR)):
        part = sorted((row for row in rows if row["dataset"] == dataset), key=lambda row: row["id"])
        chosen += [part[index * len(part) // count] for index in range(min(count, len(part)))]
    return [(data / row["audio"], data / row["video"]) for row in chosen]


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def follow(tracker: str, frames: list[np.ndarray], condition: Warp) -> tuple[np.ndarray, np.ndarray]:
    """Mouth centres in the coordinates of the clean frames, and eye-to-mouth distances; NaN where there is none."""
    rng = np.random.default_rng(0)
    warped = [condition(frame, rng) for frame in frames]
    cropper = MouthCropper(plugins.get("mouth_tracker", tracker)(), roi="face")
    centres, sizes = np.full((len(frames), 2), np.nan), np.full(len(frames), np.nan)
    for index, _ in enumerate(cropper.run(Frame.from_array(frame) for frame, _ in warped)):
        if cropper.place is not None:
            matrix = warped[index][1]
            centres[index] = np.linalg.solve(matrix[:, :2], cropper.place.centre - matrix[:, 2])
            sizes[index] = cropper.place.size
    return centres, sizes


def compare(clips: list[tuple[Path, Path]]) -> None:
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    away: dict[tuple[str, str], list[np.ndarray]] = {}
    for _, video in clips:
        frames = frames_of(video)
        for tracker in TRACKERS:
            clean, sizes = follow(tracker, frames, as_it_is)
            for name, condition in CONDITIONS.items():
                centres = clean if name == "clean" else follow(tracker, frames, condition)[0]
                found.setdefault((name, tracker), []).append(np.isfinite(centres[:, 0]))
                away.setdefault((name, tracker), []).append(np.hypot(*(centres - clean).T) / np.nanmedian(sizes))
    print(f"{len(clips)} clips\n")
    print("| condition | tracker | frames with a mouth | off its clean track, median | 90th percentile |")
    print("|---|---|---|---|---|")
    for name in CONDITIONS:
        for tracker in TRACKERS:
            middle, far = 100 * np.nanpercentile(np.concatenate(away[name, tracker]), [50, 90])
            share = 100 * np.concatenate(found[name, tracker]).mean()
            print(f"| {name} | {tracker} | {share:.1f} % | {middle:.1f} % | {far:.1f} % |")


def speed(clip: tuple[Path, Path]) -> None:
    sound, video = clip
    audio, frames = read_clip(sound).audio, frames_of(video)
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.mp4"
        scale = 1080 / frames[0].shape[0]
        fitted = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for frame in frames]
        side = 1920 - fitted[0].shape[1]
        write_video(
            large, np.stack([np.pad(f, ((0, 0), (side // 2, side - side // 2), (0, 0))) for f in fitted]), audio
        )
        print("\n| picture | tracker | times real time (wall clock) | times real time (CPU) |")
        print("|---|---|---|---|")
        for name, path in ((f"{frames[0].shape[1]}x{frames[0].shape[0]}", video), ("1920x1080", large)):
            for tracker in TRACKERS:
                instance = plugins.get("mouth_tracker", tracker)()
                read_clip(sound, video=path, tracker=instance)  # loads the networks
                wall, cpu = time.perf_counter(), time.process_time()
                read_clip(sound, video=path, tracker=instance)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                seconds = len(audio) / 16_000
                print(f"| {name} | {tracker} | {seconds / wall:.1f} | {seconds / cpu:.1f} |")


def main() -> None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AVSE_DATA", beside))
    if not (data / "manifest.csv").is_file():
        raise SystemExit(f"{data}: no manifest.csv. Give the folder of clips: python benchmarks/tracking.py FOLDER")
    clips = sample(data)
    compare(clips)
    speed(clips[0])


if __name__ == "__main__":
    main()

"""Mel band levels of the clean speech of unseen speakers, predicted from features of the mouth: what are they worth?

    python benchmarks/mel_bands.py embed MANIFEST CACHE_FOLDER OUT.json
    python benchmarks/mel_bands.py turned MANIFEST CACHE_FOLDER OUT.json

`embed`: ridge regressions from the bands of noisy audio (recorded noise, -5 dB), from the features of `conv3d` (that of
`lip-synchrony`), and from what `avse embed` gives of `av-diffusion-small`. Two clips of each training speaker fit them,
development speakers choose their weight decay; noises are of the same split as the clip.

`turned`: the bands that `lip-synchrony` predicts from plain crops, and from those of `frontalization`, by how far the
head is turned out of the plane of the picture (median over the clip). Development and test clips of speakers who are
not in training; needs plugins/avse_face_mesh. Frames count where both trackers see a mouth, clips with 20 such frames.

The score is the correlation of predicted and true levels of a clip: over time, the mean over bands (`embed`), or over
time and bands together, as `lip-synchrony` is scored elsewhere (`turned`). Intervals are of a bootstrap over speakers.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import avse
from avse import plugins
from avse.contracts.mouth_tracker import Face
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Clip, shift_video
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, read_manifest
from avse.evaluation.statistics import bootstrap_means, drawn
from avse.evaluation.studies.frontends import _read
from avse.files import write_json
from avse.media import read_clip
from avse.media.faces.head_pose import PoseFit
from avse.model_folder import find
from avse.mouth_trackers.frontalization import Frontalization
from avse.priors.diffusion.generation import diffusion_prior, frame_features
from avse.training.lip_reading import SynchronyLoss

CORPORA, FRAMES, CONTEXT = ("grid", "lrwar", "glips", "lrs"), 100, 2
CLIPS = {"train": (2, 400), "dev": (8, 100), "test": (8, 170)}  # of a speaker, and in all
TURNS = {
    "below 10 degrees": (0, 10),
    "10 to 20 degrees": (10, 20),
    "20 to 30 degrees": (20, 30),
    "above 30 degrees": (30, 180),
}
INPUTS = {
    "noisy bands": ["noisy"],
    "`conv3d`": ["conv3d"],
    "`av_diffusion`, front-end": ["visual"],
    "`av_diffusion`, mouth and silence": ["mouth"],
    "noisy bands, `conv3d`": ["noisy", "conv3d"],
    "noisy bands, `av_diffusion`, front-end": ["noisy", "visual"],
    "noisy bands, `av_diffusion`, mouth and silence": ["noisy", "mouth"],
    "noisy bands, `av_diffusion`, noisy audio alone": ["noisy", "alone"],
    "noisy bands, `av_diffusion`, noisy audio and mouth": ["noisy", "both"],
    "noisy bands, `conv3d`, `av_diffusion`, noisy audio and mouth": ["noisy", "conv3d", "both"],
}
BASE = "noisy bands, `conv3d`"


class Embeddings:
    """Features of clips in noise."""

    def __init__(self, cache: ClipCache) -> None:
        self.cache, self.lips = cache, _read(find("lip-synchrony"), "cpu")[0]
        self.loss = SynchronyLoss(bands=self.lips.head.out_features)
        self.prior = diffusion_prior(avse.load("av-diffusion-small").system, "av-diffusion-small", sees=True)

    @torch.no_grad()
    def __call__(self, utterance: Utterance, noise: Utterance, rng: random.Random) -> dict[str, np.ndarray]:
        (mouth, valid), audio = self.cache.mouth(utterance), self.cache.sound(utterance)
        frames = min(len(audio) // SAMPLES_PER_FRAME, len(valid), FRAMES)
        samples, mouth, valid = frames * SAMPLES_PER_FRAME, mouth[:frames], valid[:frames]
        clean, sound = self.cache.excerpt(utterance, 0, samples), self.cache.sound(noise)
        added = np.resize(self.cache.excerpt(noise, rng.randrange(max(1, len(sound) - samples)), samples), samples)
        added = added * np.sqrt(np.square(clean).mean() / (np.square(added).mean() + 1e-12) * 10**0.5)
        noisy = (clean + added).astype(np.float32)
        shown = lambda heard: Batch.from_clips([Clip(heard, mouth, valid)], [heard])
        both, visual = frame_features(self.prior, shown(noisy))
        found = {
            "levels": self.loss.levels(shown(clean))[0],
            "noisy": self.loss.levels(shown(noisy))[0],
            "conv3d": self.lips.video_input["visual_frontend"](shown(clean).mouth, shown(clean).valid)[0],
            "visual": visual,
            "both": both,
            "alone": frame_features(self.prior, shown(noisy).without_video())[0],
            "mouth": frame_features(self.prior, shown(np.zeros_like(noisy)))[0],
        }
        return {name: value.numpy().astype(np.float64) for name, value in found.items()}


def correlation(predicted: np.ndarray, true: np.ndarray) -> float:
    """Over time, the mean over bands; both of shape (video_frames, bands)."""
    one, other = predicted - predicted.mean(axis=0), true - true.mean(axis=0)
    return float(((one * other).sum(0) / np.sqrt((one**2).sum(0) * (other**2).sum(0) + 1e-9)).mean())


def inputs_of(clip: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """Features of a clip side by side; what knows one frame alone has those around it too."""

    def around(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
        return np.concatenate([padded[shift : shift + len(values)] for shift in range(2 * CONTEXT + 1)], axis=1)

    single = ("noisy", "conv3d", "visual")
    return np.concatenate([around(clip[name]) if name in single else clip[name] for name in names], axis=1)


def regress(clips: dict[str, list[dict[str, np.ndarray]]], names: list[str]) -> list[float]:
    """Correlations of the test clips."""
    train = np.concatenate([inputs_of(clip, names) for clip in clips["train"]])
    levels = np.concatenate([clip["levels"] for clip in clips["train"]])
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    train = (train - mean) / spread
    square, product = train.T @ train / len(train), train.T @ (levels - levels.mean(axis=0)) / len(train)

    def scores(split: str, weights: np.ndarray) -> list[float]:
        return [correlation((inputs_of(c, names) - mean) / spread @ weights, c["levels"]) for c in clips[split]]

    found = [np.linalg.solve(square + decay * np.eye(len(square)), product) for decay in np.logspace(-4, 1.5, 12)]
    return scores("test", max(found, key=lambda weights: np.mean(scores("dev", weights))))


def embed(manifest: str, cache: ClipCache) -> list[dict]:
    features, rng = Embeddings(cache), random.Random(0)
    clips: dict[str, list[dict[str, np.ndarray]]] = {}
    speakers = []
    chosen, noises = {}, {}
    for split, (each, most) in CLIPS.items():
        rows = read_manifest(manifest, splits=[split])
        noises[split] = [row for row in rows if row.kind == "noise"]
        rows = [row for row in rows if row.clean and row.video and row.dataset in CORPORA]
        rng.shuffle(rows)
        seen: Counter = Counter()
        chosen[split] = []
        for row in rows:
            if seen[row.dataset, row.speaker] < each:
                seen[row.dataset, row.speaker] += 1
                chosen[split].append(row)
        chosen[split] = chosen[split][:most]
    for split, rows in chosen.items():
        clips[split] = []
        for row in rows:
            rng.seed(row.id)
            noise = rng.choice(noises[split])
            if cache.mouth(row)[1].any():
                clips[split].append(features(row, noise, rng))
                speakers += [f"{row.dataset} {row.speaker}"] if split == "test" else []
    found = {name: np.array(regress(clips, names)) for name, names in INPUTS.items()}
    cells = []
    for name, values in found.items():
        cells.append({"system": name, "video": "with", **means(values, speakers)})
        if name != BASE:
            cells.append({"system": name, "video": "difference", **means(values - found[BASE], speakers)})
    return cells


class Watched(Frontalization):
    """Notes how far each face is turned, in degrees."""

    turns: tuple[float, ...] = ()

    def _fit(self, face: Face) -> tuple[PoseFit, float]:
        found = super()._fit(face)
        self.turns += (float(np.degrees(np.arccos(np.clip(found[0].rotation[0, 2, 2], -1, 1)))),)
        return found


def turned(manifest: str, cache: ClipCache) -> list[dict]:
    lips = _read(find("lip-synchrony"), "cpu")[0]
    loss = SynchronyLoss(bands=lips.head.out_features)
    known = {(row.dataset, row.speaker) for row in read_manifest(manifest, splits=["train"])}
    rows = []
    for row in read_manifest(manifest, splits=["dev", "test"]):
        if not (row.clean and row.video) or (row.dataset, row.speaker) in known:
            continue
        tracker = Watched()
        frontal = read_clip(row.audio, video=row.video, tracker=tracker)
        crops = cache.mouth(row), shift_video(frontal.mouth, frontal.valid, row.offset)
        audio = cache.excerpt(row, 0, len(cache.sound(row)))
        frames = min(*(len(valid) for _, valid in crops), len(audio) // SAMPLES_PER_FRAME, 250)
        valid = crops[0][1][:frames] & crops[1][1][:frames]
        if not tracker.turns or valid.sum() < 20:
            continue
        audio = audio[: frames * SAMPLES_PER_FRAME]
        scores = []
        for mouth, _ in crops:
            batch = Batch.from_clips([Clip(audio, mouth[:frames], valid)], [audio])
            with torch.no_grad():
                scores.append(loss.scores(lips(batch), batch)["correlation"][0])
        rows.append((float(np.median(tracker.turns)), f"{row.dataset} {row.speaker}", *scores))
    cells = []
    for name, (low, high) in TURNS.items():
        part = [row for row in rows if low <= row[0] < high and np.isfinite(row[2:]).all()]
        plain, frontal = (np.array([row[place] for row in part]) for place in (2, 3))
        columns = {"plain": plain, "frontal": frontal, "difference": frontal - plain}
        for video, values in columns.items() if part else ():
            cells.append({"system": name, "video": video, **means(values, [row[1] for row in part])})
    return cells


def means(values: np.ndarray, speakers: list[str]) -> dict:
    places = [{"speaker": speaker, "target": str(place)} for place, speaker in enumerate(speakers)]
    [interval] = bootstrap_means(values[:, None], drawn(places), seed=0)
    return {"metric": "correlation"} | {
        name: round(value, 3) if isinstance(value, float) else value for name, value in vars(interval).items()
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    study, manifest, folder, out = sys.argv[1:]
    cache = ClipCache(folder, plugins.get("mouth_tracker", "mtcnn")())
    cells = {"embed": embed, "turned": turned}[study](manifest, cache)
    speakers = ", ".join(dict.fromkeys(str(cell["groups"]) for cell in cells))
    provenance = f"Measured by benchmarks/mel_bands.py; intervals over {speakers} speakers"
    write_json(Path(out), {"system": "", "provenance": provenance, "cells": cells})

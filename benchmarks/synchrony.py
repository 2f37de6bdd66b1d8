"""Offsets of audio that was shifted on purpose: how many are found within a frame, at which noise; fits the confidence.

    python benchmarks/synchrony.py MANIFEST CACHE_FOLDER [SPLIT]

Clips are cut to 3 s (shorter ones are taken whole), their audio is late by -10 to 10 video frames, drawn at random, and
continued by other speech of their speaker. The truth of long recordings is their own offset in clean audio (the median
over pieces and shifts), that of GLips and LRW-AR is what the corpus says (no offset).
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
from scipy.optimize import minimize

from avse import plugins
from avse.contracts.types import SAMPLES_PER_FRAME, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, read_manifest
from avse.data.mixing import mix_at_snr
from avse.synchrony import CONFIDENT, LAGS, SyncEstimate, denoised, estimate_offset, pooled

FRAMES, PIECES, SHIFTS, LARGEST = 75, 6, 4, 10
SNRS = (None, 20, 5, 0, -5)
SHORT = ("glips", "lrwar")
CONTEXT = (LARGEST + 2) * SAMPLES_PER_FRAME


def trials(manifest: str, cache: ClipCache, split: str):
    """Utterance, SNR, how the audio was treated, true shift, and what was estimated, of each piece and shift."""
    rng = np.random.default_rng(0)
    utterances = read_manifest(manifest, splits=[split])
    noises = [row for row in utterances if row.kind == "noise"]
    faces = [row for row in utterances if row.kind == "speech" and row.video is not None]
    sound = lambda row: cache.excerpt(row, 0, len(cache.sound(row)))
    level = lambda audio: 0.05 * audio / (np.sqrt(np.mean(audio**2)) + 1e-6)
    for row in faces:
        (mouth, valid), audio = cache.mouth(row), sound(row)
        count = min(len(valid), len(audio) // SAMPLES_PER_FRAME)
        length = min(FRAMES, count)
        mates = [level(sound(mate)) for mate in rng.choice([mate for mate in faces if mate.speaker == row.speaker], 2)]
        before, after = (np.resize(mate, CONTEXT) for mate in mates)
        longer = np.concatenate([before, level(audio[: count * SAMPLES_PER_FRAME]), after]).astype(np.float32)
        for first in list(range(0, count - length + 1, length))[:PIECES]:
            piece = longer[first * SAMPLES_PER_FRAME :][: length * SAMPLES_PER_FRAME + 2 * CONTEXT]
            for snr in SNRS:
                noisy = piece
                if snr is not None:
                    noise = np.roll(sound(noises[rng.integers(len(noises))]), rng.integers(16000))
                    noisy = mix_at_snr(piece, np.resize(noise, len(piece)).astype(np.float32), snr)[0]
                heard = {"as it is": noisy}
                if snr is not None:
                    heard["enhanced"] = denoised(noisy)
                for shift in rng.choice(np.arange(-LARGEST, LARGEST + 1), SHIFTS, replace=False):
                    start = CONTEXT - shift * SAMPLES_PER_FRAME
                    for how, piece_heard in heard.items():
                        late = piece_heard[start:][: length * SAMPLES_PER_FRAME]
                        clip = Clip(late, mouth[first:], valid[first:])
                        yield row, snr, how, shift, estimate_offset(clip, clean=True)


def group(row: Utterance) -> str:
    return row.dataset if row.dataset in (*SHORT, "grid", "spokespeople") else "hdtf, lrs, voxceleb2"


def main() -> None:
    manifest, folder, split = [*sys.argv[1:], "dev"][:3]
    cache = ClipCache(folder, plugins.get("mouth_tracker", "mtcnn")())
    found = [trial for trial in trials(manifest, cache, split) if trial[-1].frames]
    own = defaultdict(list)
    for row, snr, _, shift, estimate in found:
        if snr is None and row.dataset not in SHORT:
            own[row.id].append(estimate.offset_frames - shift)
    truth = {name: float(np.median(values)) for name, values in own.items()}
    rows = [
        (group(row), row.speaker, snr, how, shift + truth.get(row.id, 0.0), estimate)
        for row, snr, how, shift, estimate in found
    ]
    hit = lambda estimate, true: abs(estimate.offset_frames - true) <= 1
    for how in ("as it is", "enhanced"):
        for name in dict.fromkeys(row[0] for row in rows):
            shares = []
            for snr in SNRS:
                hits = [hit(row[5], row[4]) for row in rows if row[0] == name and row[2] == snr and row[3] == how]
                shares.append(f"{snr} dB {np.mean(hits):.2f} ({len(hits)})" if hits else "-")
            print(f"{how:9} {name:21} {'   '.join(shares)}")
    used = [row for row in rows if row[2] is None or row[3] == "enhanced"]
    fit(used + pools(used), hit)


def pools(rows: list) -> list:
    """Two, four and eight pieces of a speaker that are moved to one common shift, taken together."""
    rng = np.random.default_rng(0)
    by_speaker = defaultdict(list)
    for row in rows:
        by_speaker[row[:3]].append(row)
    made = []
    for (_, speaker, snr), members in by_speaker.items():
        for count in (2, 4, 8):
            for _ in range(12 if len(members) >= count else 0):
                common = int(rng.integers(-5, 6))
                picked = [members[index] for index in rng.choice(len(members), count, replace=False)]
                moved = [SyncEstimate.of_curve(_moved(e.curve, common - round(t)), e.frames) for *_, t, e in picked]
                made.append((f"{count} pieces", speaker, snr, "pooled", common, pooled(moved)))
    return made


def _moved(curve: np.ndarray, lags: int) -> np.ndarray:
    moved = np.full_like(curve, np.nan)
    kept = (np.arange(len(LAGS)) - lags >= 0) & (np.arange(len(LAGS)) - lags < len(LAGS))
    moved[kept] = curve[np.flatnonzero(kept) - lags]
    return moved


def fit(rows: list, hit) -> None:
    """Logistic regression, each group as heavy as the root of its rows; left-out speakers for the check."""
    rows = [row for row in rows if row[5].frames]
    evidence = np.array([row[5].evidence for row in rows])
    hits = np.array([hit(row[5], row[4]) for row in rows], float)
    names = np.array([row[0] for row in rows])
    weights = np.array([np.sum(names == name) ** -0.5 for name in names])

    def regression(chosen: np.ndarray) -> np.ndarray:
        x, y, w = evidence[chosen], hits[chosen], weights[chosen]
        return minimize(lambda p: np.sum(w * (np.logaddexp(0, p[0] * x + p[1]) - y * (p[0] * x + p[1]))), [1, 0]).x

    speakers = np.array([row[1] for row in rows])
    confidence = np.zeros(len(rows))
    for speaker in set(speakers):
        slope, intercept = regression(speakers != speaker)
        confidence[speakers == speaker] = 1 / (1 + np.exp(-(slope * evidence + intercept)))[speakers == speaker]
    bins = np.minimum((10 * confidence).astype(int), 9)
    error = sum(abs(np.sum((hits - confidence)[bins == one])) for one in range(10)) / len(rows)
    print("slope, intercept", regression(np.full(len(rows), True)).round(3), f"calibration error {error:.3f}")
    for name in dict.fromkeys(names):
        mine, sure = names == name, (names == name) & (confidence >= CONFIDENT)
        right = f"of which right {hits[sure].mean():.3f}" if sure.any() else ""
        print(f"{name:21} right {hits[mine].mean():.3f}, mean confidence {confidence[mine].mean():.3f}; "
              f"confidence at least {CONFIDENT}: {np.sum(sure) / np.sum(mine):.2f} {right}")  # fmt: skip


if __name__ == "__main__":
    main()

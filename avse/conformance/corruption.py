"""Checks of the kind `corruption`."""

from __future__ import annotations

from functools import partial

import numpy as np

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.complexity import grows_without_torch
from avse.conformance.core import Check, build, expect
from avse.contracts.corruption import SEVERITIES, Corruption
from avse.contracts.types import MOUTH_SIZE


def _example_clip(frames: int = 25, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Crops with a dark opening that grows and shrinks on a textured face, and a validity mask with a gap."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:MOUTH_SIZE, :MOUTH_SIZE] - MOUTH_SIZE / 2
    opening = 4 + 10 * np.abs(np.sin(np.arange(frames) / 3.0))
    lips = (rows[None] / opening[:, None, None]) ** 2 + (columns[None] / 25.0) ** 2 < 1
    mouth = np.where(lips, 40.0, 150.0) + 10 * rng.standard_normal((1, MOUTH_SIZE, MOUTH_SIZE))
    valid = np.ones(frames, dtype=bool)
    valid[frames // 2 : frames // 2 + 3] = False
    return np.clip(mouth, 0, 255).astype(np.uint8), valid


def _shapes(cls: type) -> None:
    for frames in (0, 1, 2, 25, 60):
        for severity in SEVERITIES:
            mouth, valid = _example_clip(frames)
            out, seen = _severe(cls, severity)(mouth, valid, np.random.default_rng(1))
            expect(
                out.shape == mouth.shape and out.dtype == np.uint8,
                f"{frames} frames at severity {severity} gave crops {out.dtype} {out.shape}",
            )
            expect(
                seen.shape == valid.shape and seen.dtype == bool,
                f"{frames} frames at severity {severity} gave valid {seen.dtype} {seen.shape}",
            )


def _leaves_input(cls: type) -> None:
    mouth, valid = _example_clip()
    kept_mouth, kept_valid = mouth.copy(), valid.copy()
    _severe(cls, 5)(mouth, valid, np.random.default_rng(1))
    expect(np.array_equal(mouth, kept_mouth), "the crops given were changed in place")
    expect(np.array_equal(valid, kept_valid), "the validity given was changed in place")


def _repeats(cls: type) -> None:
    corruption = _severe(cls, 4)
    runs = [corruption(*_example_clip(), np.random.default_rng(seed)) for seed in (7, 8, 7)][::2]
    expect(np.array_equal(runs[0][0], runs[1][0]), "equal generators gave different crops")
    expect(np.array_equal(runs[0][1], runs[1][1]), "equal generators gave different validity")


def _does_something(cls: type) -> None:
    mild, severe = _harm(cls, 1), _harm(cls, 5)
    expect(severe > 0, "at severity 5, eight seeds left the clip as it was")
    expect(severe >= mild, f"severity 5 changes the crops less than 1 does: by {severe:.3g} and {mild:.3g} grey levels")


def _harm(cls: type, severity: int) -> float:
    """Mean change over eight seeds in grey levels; a frame that is lost counts as half of all there are."""
    corruption = _severe(cls, severity)
    mouth, valid = _example_clip()
    harm = 0.0
    for seed in range(8):
        out, seen = corruption(mouth, valid, np.random.default_rng(seed))
        changed = np.abs(out.astype(float) - mouth).mean(axis=(1, 2))
        harm += float(np.where(seen != valid, 128.0, np.where(seen, changed, 0.0)).mean()) / 8
    return harm


def _refuses_severity(cls: type) -> None:
    for severity in (0, 6, 2.5):
        try:
            _severe(cls, severity)
        except ValueError:
            continue
        expect(False, f"severity {severity} was accepted")


def _severe(cls: type, severity: float) -> Corruption:
    build(cls)
    return cls(**{**cls.example_arguments(), "severity": severity})


def _invalid_frames(cls: type) -> None:
    mouth, valid = _example_clip()
    for start in (0, 8):
        hidden = valid.copy()
        hidden[start : start + 6] = False
        other = np.where(hidden[:, None, None], mouth, 255 - mouth)
        for seed in range(4):
            runs = [_severe(cls, 4)(given, hidden, np.random.default_rng(seed)) for given in (mouth, other)]
            expect(np.array_equal(runs[0][1], runs[1][1]), "other crops in the invalid frames changed the validity")
            same = np.array_equal(runs[0][0][runs[0][1]], runs[1][0][runs[1][1]])
            expect(same, "other crops in the invalid frames changed those of valid frames")


def _hostile(cls: type) -> None:
    mouth, valid = _example_clip()
    cases = {
        "black crops": (mouth * 0, valid),
        "white crops": (mouth * 0 + 255, valid),
        "no valid frame": (mouth, np.zeros_like(valid)),
    }
    for name, (crops, seen) in cases.items():
        out, still = _severe(cls, 5)(crops, seen, np.random.default_rng(1))
        expect(out.shape == crops.shape and out.dtype == np.uint8, f"{name} gave crops {out.dtype} {out.shape}")
        expect(seen.any() or not still.any(), f"{name} became valid")


def _long_inputs(times: int, seed: int) -> tuple:
    return *_example_clip(100 * times, seed), np.random.default_rng(seed)


CHECKS = [
    DOCUMENTED,
    Check(
        "shapes",
        _shapes,
        "clips of 0, 1, 2, 25 and 60 frames keep their shape and dtype at every severity",
        "return (frames, 88, 88) uint8 and (frames,) bool; look at clips shorter than what is drawn",
    ),
    Check("leaves_input", _leaves_input, "the arrays given are not changed", "work on mouth.copy() and valid.copy()"),
    Check(
        "invalid_frames_ignored",
        _invalid_frames,
        "what invalid frames hold reaches no valid frame",
        "copy, mix and measure valid frames only",
    ),
    Check("repeatable", _repeats, "equal generators give equal results", "draw only from the `rng` given"),
    Check(
        "does_something",
        _does_something,
        "severity 5 changes a clip, and no less than severity 1 does",
        "make the effect grow with the severity",
    ),
    Check(
        "refuses_severity",
        _refuses_severity,
        "a severity that is not 1, 2, 3, 4 or 5 raises ValueError",
        "call super().__init__(severity)",
    ),
    RECIPE_ROUND_TRIP,
    Check(
        "hostile_input",
        _hostile,
        "black and white crops keep their shape and dtype; without a valid frame none becomes valid",
        "clip to 0 ... 255 before .astype(np.uint8); divide by max(spread, small)",
    ),
    Check(
        "complexity",
        partial(grows_without_torch, inputs=_long_inputs),
        "time and memory grow no faster with the frames of a clip than the attribute `complexity` says",
        "work frame by frame",
    ),
]
DOES_NOT_APPLY = {
    "padding": "takes one clip, without padding",
    "batch_equals_singles": "takes one clip, without padding",
    "no_video_is_audio_only": "gives video, no sound",
    "gradients": "nothing to learn",
    "precision": "crops are uint8",
    "weights_round_trip": "nothing to learn",
    "causal": "spoils whole recordings, before anything listens",
    "devices": "works on NumPy arrays",
}

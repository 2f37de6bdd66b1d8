"""Checks of the kind `corruption`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.complexity import grows_without_torch
from avse.conformance.core import Check, Checks, build, expect
from avse.contracts.corruption import SEVERITIES, Corruption
from avse.contracts.types import MOUTH_SIZE

CHECKS = Checks([DOCUMENTED])


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


@CHECKS.add(
    "shapes", hint="return (frames, 88, 88) uint8 and (frames,) bool; some clips are shorter than the events drawn"
)
def _shapes(cls: type[Any]) -> None:
    """Clips of 0, 1, 2, 25 and 60 frames keep their shape and dtype at every severity."""
    for frames in (0, 1, 2, 25, 60):
        for severity in SEVERITIES:
            given = _example_clip(frames)
            outputs = _severe(cls, severity)(*given, np.random.default_rng(1))
            for name, before, after in zip(("crops", "valid"), given, outputs):
                expect(
                    after.shape == before.shape and after.dtype == before.dtype,
                    f"{frames} frames at severity {severity} gave {name} {after.dtype} {after.shape}",
                )


@CHECKS.add("leaves_input", hint="work on mouth.copy() and valid.copy()")
def _leaves_input(cls: type[Any]) -> None:
    """The input does not change."""
    given = _example_clip()
    _severe(cls, 5)(*given, np.random.default_rng(1))
    for name, changed, before in zip(("crops", "validity"), given, _example_clip()):
        expect(np.array_equal(changed, before), f"the {name} of the input changed in place")


@CHECKS.add("repeatable", hint="draw from the argument `rng` only")
def _repeats(cls: type[Any]) -> None:
    """Equal generators give equal results."""
    corruption = _severe(cls, 4)
    first, _, again = (corruption(*_example_clip(), np.random.default_rng(seed)) for seed in (7, 8, 7))
    for name, one, two in zip(("crops", "validity"), first, again):
        expect(np.array_equal(one, two), f"equal generators gave different {name}")


@CHECKS.add("does_something", hint="make the effect grow with the severity")
def _does_something(cls: type[Any]) -> None:
    """Severity 5 changes a clip, by no less than severity 1."""
    mild, severe = _harm(cls, 1), _harm(cls, 5)
    expect(severe > 0, "at severity 5, the clip stayed the same under eight seeds")
    expect(severe >= mild, f"severity 5 changes the crops less than 1 does: by {severe:.3g} and {mild:.3g} grey levels")


def _harm(cls: type[Any], severity: int) -> float:
    """Mean change over eight seeds in grey levels; a lost frame counts 128."""
    corruption = _severe(cls, severity)
    mouth, valid = _example_clip()
    harm = 0.0
    for seed in range(8):
        out, out_valid = corruption(mouth, valid, np.random.default_rng(seed))
        changed = np.abs(out.astype(float) - mouth).mean(axis=(1, 2))
        harm += float(np.where(out_valid != valid, 128.0, np.where(out_valid, changed, 0.0)).mean()) / 8
    return harm


@CHECKS.add("refuses_severity", hint="call super().__init__(severity)")
def _refuses_severity(cls: type[Any]) -> None:
    """A severity that is not 1, 2, 3, 4 or 5 raises ValueError."""
    for severity in (0, 6, 2.5):
        try:
            _severe(cls, severity)
        except ValueError:
            continue
        expect(False, f"severity {severity} was accepted")


def _severe(cls: type[Any], severity: float) -> Corruption:
    build(cls)
    return cls(**{**cls.example_arguments(), "severity": severity})


@CHECKS.add("invalid_frames_ignored", hint="copy, mix and measure valid frames only")
def _invalid_frames(cls: type[Any]) -> None:
    """The content of invalid frames reaches no valid frame."""
    mouth, valid = _example_clip()
    for start in (0, 8):
        hidden = valid.copy()
        hidden[start : start + 6] = False
        other = np.where(hidden[:, None, None], mouth, 255 - mouth)
        for seed in range(4):
            (crops, kept), (other_crops, other_kept) = (
                _severe(cls, 4)(given, hidden, np.random.default_rng(seed)) for given in (mouth, other)
            )
            expect(np.array_equal(kept, other_kept), "other crops in the invalid frames changed the validity")
            same = np.array_equal(crops[kept], other_crops[other_kept])
            expect(same, "other crops in the invalid frames changed those of valid frames")


@CHECKS.add("hostile_input", hint="clip to 0 ... 255 before .astype(np.uint8); divide by max(spread, small)")
def _hostile(cls: type[Any]) -> None:
    """Black and white crops keep their shape and dtype; without a valid frame none becomes valid."""
    mouth, valid = _example_clip()
    cases = {
        "black crops": (mouth * 0, valid),
        "white crops": (mouth * 0 + 255, valid),
        "no valid frame": (mouth, np.zeros_like(valid)),
    }
    for name, (crops, crops_valid) in cases.items():
        out, out_valid = _severe(cls, 5)(crops, crops_valid, np.random.default_rng(1))
        expect(out.shape == crops.shape and out.dtype == np.uint8, f"{name} gave crops {out.dtype} {out.shape}")
        expect(crops_valid.any() or not out_valid.any(), f"{name} became valid")


def _long_inputs(times: int, seed: int) -> tuple:
    return *_example_clip(100 * times, seed), np.random.default_rng(seed)


CHECKS += [
    RECIPE_ROUND_TRIP,
    Check("complexity", partial(grows_without_torch, inputs=_long_inputs), hint="work frame by frame"),
]
DOES_NOT_APPLY = {
    **dict.fromkeys(("padding", "batch_equals_singles"), "takes one clip, without padding"),
    "no_video_is_audio_only": "gives video, no audio",
    **dict.fromkeys(("gradients", "weights_round_trip"), "nothing to learn"),
    "precision": "crops are uint8",
    "causal": "corrupts whole clips before a system sees them",
    "devices": "works on NumPy arrays",
}

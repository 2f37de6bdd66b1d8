"""Checks of the kind `mouth_tracker`."""

from __future__ import annotations

import numpy as np

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.core import Check, build, expect
from avse.contracts.mouth_tracker import Face
from avse.contracts.types import MOUTH_SIZE


def _pictures() -> list[np.ndarray]:
    """Grey, noise, a schematic face, and sizes at which detectors stumble."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:240, :320]
    drawn = np.full((240, 320, 3), 90, dtype=np.uint8)
    for y, x, height, width, level in (
        (120, 160, 80, 60, 190),
        (100, 138, 6, 11, 40),
        (100, 182, 6, 11, 40),
        (165, 160, 7, 22, 60),
    ):
        drawn[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1] = level
    sizes = (1, 1), (3, 200), (200, 3), (24, 24), (120, 160)
    noise = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    return [drawn, np.full((120, 160, 3), 127, dtype=np.uint8), *noise]


def _gives_faces(cls: type) -> None:
    tracker = build(cls)
    for frame in _pictures()[:2]:
        for min_size in (0.0, 1000.0):
            _expect_faces(tracker.detect(frame, min_size), f"a picture of {frame.shape[1]} x {frame.shape[0]} pixels")


def _expect_faces(found: object, what: str) -> None:
    expect(isinstance(found, list), f"{what} gave a {type(found).__name__}")
    for face in found:
        expect(isinstance(face, Face), f"{what}: the list holds a {type(face).__name__}")
        points = [face.mouth_left, face.mouth_right, face.eye_left, face.eye_right]
        values = [*face.box, face.score, *(value for point in points if point is not None for value in point)]
        expect(np.isfinite(values).all(), f"{what}: a face holds numbers that are not finite: {face}")
        expect(face.box[2] > 0 and face.box[3] > 0 and 0 <= face.score <= 1, f"{what}: impossible face: {face}")


def _warps_crops(cls: type) -> None:
    tracker = build(cls)
    bare = Face((80, 40, 160, 160), mouth_left=(136, 165), mouth_right=(184, 165))
    for face in [*tracker.detect(_pictures()[0]), bare]:
        for faces, index in (([(3, face)], 3), ([(3, face), (8, face)], 6)):
            warp = tracker.warp(faces, index)
            if warp is None:
                continue
            shape = np.shape(warp.offsets)
            expect(shape == (MOUTH_SIZE, MOUTH_SIZE, 2), f"the offsets of a warp have shape {shape}")
            expect(np.isfinite(warp.offsets).all(), "the offsets of a warp hold numbers that are not finite")
            expect(0 <= warp.confidence <= 1, f"the confidence of a warp is {warp.confidence}")


def _hostile(cls: type) -> None:
    tracker = build(cls)
    drawn, grey, *noise = _pictures()
    cases = [(frame, f"noise of {frame.shape[1]} x {frame.shape[0]} pixels") for frame in noise]
    cases += [(grey * 0, "a black picture"), (grey * 0 + 255, "a white picture"), (drawn[:, ::-1], "a mirrored view")]
    for frame, name in cases:
        _expect_faces(tracker.detect(frame), name)


def _leaves_picture(cls: type) -> None:
    tracker = build(cls)
    for frame in _pictures():
        kept = frame.copy()
        tracker.detect(frame)
        expect(np.array_equal(frame, kept), "the picture given was changed in place")


def _repeats(cls: type) -> None:
    tracker = build(cls)
    drawn, *others = _pictures()
    before = tracker.detect(drawn)
    for frame in others:
        tracker.detect(frame)
    expect(tracker.detect(drawn) == before, "the same picture gave other faces after others were looked at")


CHECKS = [
    DOCUMENTED,
    Check(
        "gives_faces",
        _gives_faces,
        "a picture gives a list of `Face` with finite numbers, boxes of some size, and scores in [0, 1]",
        "turn the detector's scores into [0, 1], and its boxes into (x, y, width, height) in pixels",
    ),
    Check("leaves_picture", _leaves_picture, "the picture given is not changed", "work on frame.copy()"),
    Check(
        "repeatable",
        _repeats,
        "the faces of a picture do not depend on those looked at before",
        "keep no state between calls: following a face over time is the caller's work",
    ),
    Check(
        "warps_crops",
        _warps_crops,
        "`warp` gives None, or finite offsets of shape (88, 88, 2) and a confidence in [0, 1], also without landmarks",
        "return Warp(np.zeros((88, 88, 2)), 0.0) where the landmarks say nothing",
    ),
    RECIPE_ROUND_TRIP,
    Check(
        "hostile_input",
        _hostile,
        "pictures from 1 x 1 pixel on, noise, black, white and views of other pictures give lists of sound faces",
        "return [] where the detector cannot run; np.ascontiguousarray(frame)",
    ),
]
_PICTURE = "looks at one picture at a time"
DOES_NOT_APPLY = {
    "shapes": "gives a list of faces: see gives_faces",
    "padding": _PICTURE,
    "batch_equals_singles": _PICTURE,
    "no_video_is_audio_only": _PICTURE,
    "invalid_frames_ignored": _PICTURE,
    "gradients": "nothing to learn here",
    "precision": "pictures are uint8",
    "weights_round_trip": "nothing to learn here",
    "causal": _PICTURE,
    "devices": "works on NumPy arrays",
    "complexity": _PICTURE,
}

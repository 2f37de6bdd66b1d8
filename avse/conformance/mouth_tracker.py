"""Checks of the kind `mouth_tracker`."""

from __future__ import annotations

from typing import Any

import numpy as np

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.core import Checks, build, expect
from avse.contracts.mouth_tracker import Face
from avse.contracts.types import MOUTH_SIZE

CHECKS = Checks([DOCUMENTED])


def _frames() -> list[np.ndarray]:
    """A schematic face, grey, and noise of sizes at which detectors fail."""
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


@CHECKS.add(
    "gives_faces", hint="scale the detector's scores to [0, 1], and give boxes as (x, y, width, height) in pixels"
)
def _gives_faces(cls: type[Any]) -> None:
    """A frame gives a list of `Face` with finite numbers, boxes of positive size, and scores in [0, 1]."""
    tracker = build(cls)
    for frame in _frames()[:2]:
        for min_size in (0.0, 1000.0):
            _expect_faces(tracker.detect(frame, min_size), f"a frame of {frame.shape[1]} x {frame.shape[0]} pixels")


def _expect_faces(faces: Any, what: str) -> None:
    expect(isinstance(faces, list), f"{what} gave a {type(faces).__name__}")
    for face in faces:
        expect(isinstance(face, Face), f"{what}: the list holds a {type(face).__name__}")
        points = [face.mouth_left, face.mouth_right, face.eye_left, face.eye_right]
        values = [*face.box, face.score, *(value for point in points if point is not None for value in point)]
        expect(np.isfinite(values).all(), f"{what}: a face holds numbers that are not finite: {face}")
        expect(face.box[2] > 0 and face.box[3] > 0 and 0 <= face.score <= 1, f"{what}: impossible face: {face}")


@CHECKS.add("warps_crops", hint="return Warp(np.zeros((88, 88, 2)), 0.0) if there are no landmarks")
def _warps_crops(cls: type[Any]) -> None:
    """`warp` gives None, or finite offsets of shape (88, 88, 2) and a confidence in [0, 1], also without landmarks."""
    tracker = build(cls)
    bare = Face((80, 40, 160, 160), mouth_left=(136, 165), mouth_right=(184, 165))
    for face in [*tracker.detect(_frames()[0]), bare]:
        for faces, index in (([(3, face)], 3), ([(3, face), (8, face)], 6)):
            warp = tracker.warp(faces, index)
            if warp is None:
                continue
            shape = np.shape(warp.offsets)
            expect(shape == (MOUTH_SIZE, MOUTH_SIZE, 2), f"the offsets of a warp have shape {shape}")
            expect(np.isfinite(warp.offsets).all(), "the offsets of a warp hold numbers that are not finite")
            expect(0 <= warp.confidence <= 1, f"the confidence of a warp is {warp.confidence}")


@CHECKS.add("hostile_input", hint="return [] where the detector cannot run; np.ascontiguousarray(frame)")
def _hostile(cls: type[Any]) -> None:
    """Frames from 1 x 1 pixel on, noise, black, white and views of other arrays give lists of possible faces."""
    tracker = build(cls)
    drawn, grey, *noise = _frames()
    cases = [(frame, f"noise of {frame.shape[1]} x {frame.shape[0]} pixels") for frame in noise]
    cases += [(grey * 0, "a black frame"), (grey * 0 + 255, "a white frame"), (drawn[:, ::-1], "a mirrored view")]
    for frame, name in cases:
        _expect_faces(tracker.detect(frame), name)


@CHECKS.add("leaves_picture", hint="work on frame.copy()")
def _leaves_picture(cls: type[Any]) -> None:
    """The frame does not change."""
    tracker = build(cls)
    for frame in _frames():
        copy = frame.copy()
        tracker.detect(frame)
        expect(np.array_equal(frame, copy), "the frame changed in place")


@CHECKS.add("repeatable", hint="keep no state between calls: the caller follows faces over time")
def _repeats(cls: type[Any]) -> None:
    """The faces of a frame do not depend on earlier calls."""
    tracker = build(cls)
    drawn, *others = _frames()
    before = tracker.detect(drawn)
    for frame in others:
        tracker.detect(frame)
    expect(tracker.detect(drawn) == before, "the same frame gave other faces after a call with another frame")


CHECKS.append(RECIPE_ROUND_TRIP)
_OF_CLIPS = ("padding", "batch_equals_singles", "no_video_is_audio_only", "invalid_frames_ignored", "complexity")
DOES_NOT_APPLY = {
    "shapes": "gives a list of faces: see gives_faces",
    **dict.fromkeys((*_OF_CLIPS, "causal"), "takes one frame at a time"),
    **dict.fromkeys(("gradients", "weights_round_trip"), "nothing to learn here"),
    "precision": "frames are uint8",
    "devices": "works on NumPy arrays",
}

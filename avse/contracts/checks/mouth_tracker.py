"""Checks of the kind `mouth_tracker`."""

from __future__ import annotations

import numpy as np

from avse.contracts.checks import (
    DOCUMENTED,
    Check,
    build,
    expect,
)
from avse.contracts.mouth_tracker import Face


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
    for frame in _pictures():
        for min_size in (0.0, 1000.0):
            found = tracker.detect(frame, min_size)
            expect(isinstance(found, list), f"a picture of {frame.shape[:2]} gave a {type(found).__name__}")
            for face in found:
                expect(isinstance(face, Face), f"the list holds a {type(face).__name__}")
                points = [face.mouth_left, face.mouth_right, face.eye_left, face.eye_right]
                values = [*face.box, face.score, *(value for point in points if point is not None for value in point)]
                expect(np.isfinite(values).all(), f"a face holds numbers that are not finite: {face}")
                expect(face.box[2] > 0 and face.box[3] > 0 and 0 <= face.score <= 1, f"impossible face: {face}")


def _leaves_picture(cls: type) -> None:
    tracker = build(cls)
    for frame in _pictures():
        kept = frame.copy()
        tracker.detect(frame)
        expect(np.array_equal(frame, kept), "the picture given was changed in place")


def _remembers_nothing(cls: type) -> None:
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
        "any picture, from 1 x 1 pixel on, gives a list of `Face` with finite numbers, boxes of some size, and scores "
        "in [0, 1]",
        "return [] where the detector cannot run; turn its scores into [0, 1]",
    ),
    Check("leaves_picture", _leaves_picture, "the picture given is not changed", "work on frame.copy()"),
    Check(
        "remembers_nothing",
        _remembers_nothing,
        "the faces of a picture do not depend on those looked at before",
        "keep no state between calls: following a face over time is the caller's work",
    ),
]

"""Kind `mouth_tracker`: finds faces, and the mouth in each, in one picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from avse.contracts.checks import DOCUMENTED, Check, build, expect
from avse.contracts.plugin import Plugin

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """One face in one picture. Points are (x, y) in pixels, x to the right, y down; "left" is left in the picture.

    Arguments
    ---------
    box : tuple of float
        (x, y, width, height) of the face.
    mouth_left, mouth_right, eye_left, eye_right : (x, y), or None
        Corners of the mouth and centres of the eyes. None where the tracker does not know: the mouth is then placed
        by the proportions of the box.
    score : float
        How sure the tracker is, in [0, 1].

    Example
    -------
    >>> Face(box=(10, 20, 80, 100), score=0.9).centre
    (50.0, 70.0)
    """

    box: tuple[float, float, float, float]
    mouth_left: Point | None = None
    mouth_right: Point | None = None
    eye_left: Point | None = None
    eye_right: Point | None = None
    score: float = 1.0

    @property
    def centre(self) -> Point:
        """Centre of the box."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2

    @property
    def size(self) -> float:
        """Geometric mean of the box's sides, in pixels."""
        return float(np.sqrt(max(self.box[2], 0.0) * max(self.box[3], 0.0)))

    def scaled(self, factor: float) -> Face:
        """The same face in the picture resized by `factor`."""
        point = lambda value: None if value is None else (value[0] * factor, value[1] * factor)
        return Face(
            tuple(value * factor for value in self.box),  # type: ignore[arg-type]
            point(self.mouth_left),
            point(self.mouth_right),
            point(self.eye_left),
            point(self.eye_right),
            self.score,
        )


class MouthTracker(Plugin, ABC):
    """Finds the faces of one picture.

    A tracker looks at one picture at a time and remembers nothing: which face to follow, smoothing over time and
    the cropping are done by `avse.media.mouth`, the same way for every tracker.

    Example
    -------
    >>> from avse.mouth_trackers.haar import Haar
    >>> Haar().detect(np.zeros((120, 160, 3), dtype=np.uint8))
    []
    """

    @abstractmethod
    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        """Find every face.

        Arguments
        ---------
        frame : array, shape (height, width, 3), uint8
            A picture, red first. The caller has reduced large pictures.
        min_size : float
            The caller looks for no face with a box smaller than this many pixels: a hint that saves time.

        Returns
        -------
        list of Face
            In any order; empty where there is none.
        """


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

"""Kind `mouth_tracker`: detects faces, and the mouth in each, in one frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from avse.contracts.plugin import Plugin

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """One face in one frame. Points are (x, y) in pixels, x to the right, y down; "left" is left in the frame.

    Arguments
    ---------
    box : tuple of float
        (x, y, width, height) of the face.
    mouth_left, mouth_right, eye_left, eye_right : (x, y), or None
        Corners of the mouth and centres of the eyes. None if the tracker does not detect them: they then follow from
        the box.
    score : float
        Confidence of the detection, in [0, 1].
    landmarks : array, shape (points, 3), or None
        Points of the whole face, as (x, y, depth) in pixels, depth away from the camera, if the tracker gives them.
        Ignored in comparisons of faces.

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
    landmarks: np.ndarray | None = field(default=None, compare=False, repr=False)

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
        """The same face in the frame resized by `factor`."""
        return self._changed(factor, (0.0, 0.0))

    def moved(self, right: float, down: float) -> Face:
        """The same face, shifted by so many pixels."""
        return self._changed(1.0, (right, down))

    def _changed(self, factor: float, shift: Point) -> Face:
        def point(p: Point | None) -> Point | None:
            return None if p is None else (p[0] * factor + shift[0], p[1] * factor + shift[1])

        x, y, width, height = self.box
        return replace(
            self,
            box=(x * factor + shift[0], y * factor + shift[1], width * factor, height * factor),
            mouth_left=point(self.mouth_left),
            mouth_right=point(self.mouth_right),
            eye_left=point(self.eye_left),
            eye_right=point(self.eye_right),
            landmarks=None if self.landmarks is None else self.landmarks * factor + np.array([*shift, 0.0]),
        )


@dataclass(frozen=True)
class Warp:
    """How to cut the crop of one frame, if not as a square.

    Arguments
    ---------
    offsets : array, shape (88, 88, 2)
        Position of each pixel of the crop in the frame, from the midpoint of the mouth's corners: (x, y) in pixels.
    confidence : float
        Confidence in the crop, in [0, 1]. Zero: the frame is not valid.
    """

    offsets: np.ndarray
    confidence: float = 1.0


class MouthTracker(Plugin, ABC):
    """Detects the faces of one frame.

    A tracker takes one frame at a time and keeps no state: `avse.media.faces.crop` chooses the face, smooths its
    position over time and cuts the crop, for all trackers. A tracker that estimates the head pose can warp the crop
    (`warp`).

    Example
    -------
    >>> from avse.mouth_trackers.haar import Haar
    >>> Haar().detect(np.zeros((120, 160, 3), dtype=np.uint8))
    []
    """

    @abstractmethod
    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        """Detect every face.

        Arguments
        ---------
        frame : array, shape (height, width, 3), uint8
            RGB. The caller reduces large frames.
        min_size : float
            The caller ignores faces with a smaller box, in pixels: a hint that saves time.

        Returns
        -------
        list of Face
            In any order; empty if there is none.
        """

    def warp(self, faces: Sequence[tuple[int, Face]], index: int) -> Warp | None:
        """How to warp the crop at frame `index`; by default not at all.

        Arguments
        ---------
        faces : sequence of (int, Face)
            The detections of the followed face around that frame, with increasing frame numbers and no missed detection
            between them. Landmarks are in pixels of the frame that is cropped.
        index : int
            From the first to the last of those numbers.

        Returns
        -------
        Warp or None
            Offsets of shape (88, 88, 2) and a confidence; None: a square, rotated so that the mouth is level.
        """
        return None

    def __repr__(self) -> str:
        # Identifies the tracker in the names of cached crops, so that it shows all settings and no address in memory.
        settings = {name: value for name, value in sorted(vars(self).items()) if not name.startswith(("_", "config"))}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"

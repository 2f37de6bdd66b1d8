"""Kind `mouth_tracker`: finds faces, and the mouth in each, in one picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

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

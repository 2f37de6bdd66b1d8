"""Kind `mouth_tracker`: finds faces, and the mouth in each, in one picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
    landmarks : array, shape (points, 3), or None
        Points all over the face, as (x, y, depth) in pixels, depth away from the camera; for trackers that find them.
        Not looked at when faces are compared.

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
        """The same face in the picture resized by `factor`."""
        return self._changed(factor, (0.0, 0.0))

    def moved(self, right: float, down: float) -> Face:
        """The same face, that many pixels away."""
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
    """How the crop of one frame is cut, other than as a square of the picture.

    Arguments
    ---------
    offsets : array, shape (88, 88, 2)
        Where each pixel of the crop lies in the picture, from the midpoint of the mouth's corners: (x, y) in pixels.
    confidence : float
        How far the crop can be trusted, in [0, 1]. Zero: the frame is not valid.
    """

    offsets: np.ndarray
    confidence: float = 1.0


class MouthTracker(Plugin, ABC):
    """Finds the faces of one picture.

    A tracker looks at one picture at a time and remembers nothing: which face to follow, smoothing over time and
    the cropping are done by `avse.media.faces.crop`, the same way for every tracker. One that knows how the head is
    turned can say how the crop is bent (`warp`).

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

    def warp(self, faces: Sequence[tuple[int, Face]], index: int) -> Warp | None:
        """How the crop at frame `index` is bent; here not at all.

        Arguments
        ---------
        faces : sequence of (int, Face)
            The followed face wherever it was found around that frame, with the frames' numbers, rising; between two of
            them nothing was missed. The landmarks are in pixels of the picture that crops are cut from.
        index : int
            From the first to the last of those numbers.

        Returns
        -------
        Warp or None
            Offsets of shape (88, 88, 2) and a confidence; None: a square of the picture, turned so that it is level.
        """
        return None

    def __repr__(self) -> str:
        # Identifies the tracker in the names of cached crops, so that it shows all settings and no address in memory.
        settings = {name: value for name, value in sorted(vars(self).items()) if not name.startswith(("_", "config"))}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"

"""Haar cascades, inside OpenCV 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.plugins import register

# Eyes and mouth corners in the (square) box of the frontal-face cascade, as shares of its side.
_EYES = np.array([[0.31, 0.39], [0.69, 0.39]])
_MOUTH_BELOW_EYES = 1.12  # distance between the eyes' line and the mouth, in distances between the eyes
_MOUTH_WIDTH = 0.8


@register("mouth_tracker", "haar")
class Haar(MouthTracker):
    """Frontal faces by boosted Haar features; the mouth follows from the positions of the eyes.

    It is fast, needs no network, and does not detect the mouth itself. The cascades come with OpenCV 4.

    Arguments
    ---------
    min_face : float
        Smallest face to detect, as a share of the frame's shorter side.
    neighbours : int
        Overlapping detections that a face needs; more give fewer false and more missed faces.

    Example
    -------
    >>> Haar().detect(np.zeros((120, 160, 3), dtype=np.uint8))
    []
    """

    paper = "Viola and Jones, Rapid Object Detection Using a Boosted Cascade of Simple Features, 2001"

    def __init__(self, min_face: float = 0.15, neighbours: int = 4) -> None:
        self.min_face, self.neighbours = min_face, neighbours
        self._cascades: tuple[Any, ...] | None = None

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        import cv2

        if self._cascades is None:
            folder = cv2.data.haarcascades  # type: ignore[attr-defined]
            names = ("haarcascade_frontalface_default.xml", "haarcascade_eye.xml")
            self._cascades = tuple(cv2.CascadeClassifier(folder + name) for name in names)
        faces, eyes = self._cascades
        grey = cv2.equalizeHist(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
        smallest = int(max(24, self.min_face * min(grey.shape), min_size))
        boxes, _, weights = faces.detectMultiScale3(
            grey, 1.1, self.neighbours, minSize=(smallest, smallest), outputRejectLevels=True
        )
        detections = []
        for (x, y, width, height), weight in zip(boxes, np.ravel(weights)):
            top = grey[y : y + int(0.6 * height), x : x + width]
            side = max(8, width // 6)
            boxes_of_eyes = eyes.detectMultiScale(top, 1.1, 3, minSize=(side, side), maxSize=(width // 2, width // 2))
            pair = _eyes(np.array([x, y], dtype=float), width, boxes_of_eyes)
            score = 1 - float(np.exp(-weight / 3))  # reject levels grow with the confidence from about 0 to 10
            detections.append(_face((float(x), float(y), float(width), float(height)), pair, score))
        return detections


def _eyes(corner: np.ndarray, side: float, boxes_of_eyes: Any) -> np.ndarray:
    """The two eyes: detections near the expected positions if there are two, else the expected positions."""
    expected = corner + _EYES * side
    pair = expected.copy()
    for index, place in enumerate(expected):
        centres = [corner + (ex + ew / 2, ey + eh / 2) for ex, ey, ew, eh in boxes_of_eyes]
        near = [centre for centre in centres if np.hypot(*(centre - place)) < 0.12 * side]
        if not near:
            return expected
        pair[index] = min(near, key=lambda centre: np.hypot(*(centre - place)))
    return pair


def _face(box: tuple[float, float, float, float], eyes: np.ndarray, score: float) -> Face:
    across = eyes[1] - eyes[0]
    down = np.array([-across[1], across[0]])
    mouth = eyes.mean(axis=0) + _MOUTH_BELOW_EYES * down
    point = lambda value: (float(value[0]), float(value[1]))
    half = across * _MOUTH_WIDTH / 2
    return Face(box, point(mouth - half), point(mouth + half), point(eyes[0]), point(eyes[1]), score)

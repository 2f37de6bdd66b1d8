"""Where faces are: BlazeFace, over the scales at which faces may appear."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MODELS = Path(__file__).parent / "models"
LEAST_SCORE = 0.5
_INPUT = 128  # side of the image that the network was trained on, in pixels
_LEAST_FACE = 0.16  # the smallest face that it finds there, as a share of that side
_GRIDS = ((8, 2), (16, 6))  # pixels between the anchors of a grid, and how many stand at each place
_OVERLAP = 0.3  # intersection over union of two boxes of one face


@dataclass(frozen=True)
class Detection:
    """One face, in pixels of the image.

    Arguments
    ---------
    box : array, shape (4,)
        Left, top, right, bottom.
    points : array, shape (6, 2)
        Both eyes (the one on the left of an upright face first), nose, mouth, both ears.
    score : float
    """

    box: np.ndarray
    points: np.ndarray
    score: float


class BlazeFace:
    """Finds faces by a network of single-shot boxes.

    Arguments
    ---------
    min_face : float
        Smallest face to detect, as a share of the image's shorter side.
    """

    def __init__(self, min_face: float) -> None:
        self.min_face = min_face
        self._network: Any = None

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Detection]:
        """Find faces.

        Arguments
        ---------
        frame : array, shape (height, width, 3), uint8, red first
        min_size : float
            No smaller face is looked for, in pixels.

        Returns
        -------
        list of Detection
            The surest first.
        """
        height, width = frame.shape[:2]
        smallest = max(self.min_face * min(height, width), min_size, 1.0)
        side = _INPUT
        found = [self._at_scale(frame, side / max(height, width))]
        # One look at twice the size for each halving of the smallest face, but none at an enlarged image.
        while side * smallest / max(height, width) < _LEAST_FACE * _INPUT and side < max(height, width):
            side *= 2
            found.append(self._at_scale(frame, side / max(height, width)))
        boxes, points, scores = (np.concatenate(parts) for parts in zip(*found))
        return _merge(boxes, points, scores)

    def _at_scale(self, frame: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Candidates in the image resized by `scale`: boxes (n, 4), points (n, 6, 2), scores (n,)."""
        import cv2

        if self._network is None:
            self._network = cv2.dnn.readNetFromTFLite(str(MODELS / "face_detection_short_range.tflite"))
        size = np.maximum(np.round(np.array(frame.shape[1::-1]) * scale), 1).astype(int)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(frame, tuple(size.tolist()), interpolation=way)
        side = int(max(size))
        image = np.zeros((side, side, 3), dtype=np.float32)  # grey beyond the image
        left, top = ((side - size) // 2).tolist()
        image[top : top + size[1], left : left + size[0]] = small.astype(np.float32) / 127.5 - 1.0
        self._network.setInput(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        logits, shifts = self._network.forward(("classificators", "regressors"))
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits.ravel(), -80.0, 80.0)))
        keep = scores >= LEAST_SCORE
        shifts, anchors = shifts.reshape(-1, 16)[keep], _anchors(side)[keep]
        centre, half = shifts[:, :2] + anchors, shifts[:, 2:4] / 2
        points = shifts[:, 4:].reshape(-1, 6, 2) + anchors[:, None]
        back = lambda values: (values - (left, top)) * np.array(frame.shape[1::-1]) / size
        boxes = np.concatenate([back(centre - half), back(centre + half)], axis=1)
        return boxes, back(points), scores[keep]


def _anchors(side: int) -> np.ndarray:
    """Centres of the anchors in a square image, in the order of the network's outputs, shape (anchors, 2)."""
    grids = []
    for stride, count in _GRIDS:
        places = (np.arange(-(-side // stride)) + 0.5) * stride
        y, x = np.meshgrid(places, places, indexing="ij")
        grids.append(np.repeat(np.stack([x, y], axis=2).reshape(-1, 2), count, axis=0))
    return np.concatenate(grids)


def _merge(boxes: np.ndarray, points: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Candidates of one face become one: their mean, weighted by score."""
    order = np.argsort(-scores, kind="stable")
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    found = []
    while len(order):
        best = order[0]
        corner, opposite = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.prod(np.maximum(opposite - corner, 0.0), axis=1)
        same = common > _OVERLAP * (area[best] + area[order] - common)
        same[0] = True
        group, order = order[same], order[~same]
        if area[best] > 0:
            box, six = (np.average(values[group], axis=0, weights=scores[group]) for values in (boxes, points))
            found.append(Detection(box, six, float(scores[best])))
    return found

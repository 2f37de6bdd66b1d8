"""Mouth tracker `face_mesh`: 468 points on each face, lips among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.media.faces.shape_model import ShapeModel
from avse.plugins import register

from .detector import MODELS, BlazeFace, Detection

# Points of the mesh, in the order in which they are met going around, beginning with the corner on the left of an
# upright face and over its upper side.
OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LEFT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE = (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
# Of the mouth, what speech moves: both lips.
LANDMARK_PARTS = {
    "eye_left": LEFT_EYE,
    "eye_right": RIGHT_EYE,
    "mouth_left": (OUTER_LIP[0], INNER_LIP[0]),
    "mouth_right": (OUTER_LIP[10], INNER_LIP[10]),
    "mouth": OUTER_LIP + INNER_LIP,
}

_POINTS = 468
_INPUT = 192  # side of the image that the network takes, in pixels
_MARGIN = 1.5  # side of that image, in sides of the face's box


@dataclass(frozen=True)
class Mesh:
    """One face as a net of points.

    Arguments
    ---------
    landmarks : array, shape (468, 3)
        (x, y, depth) in pixels of the image; depth grows away from the camera.
    score : float
        How sure it is that there is a face, in [0, 1].
    """

    landmarks: np.ndarray
    score: float

    @property
    def points(self) -> np.ndarray:
        """Shape (468, 2): the landmarks as they are seen, (x, y)."""
        return self.landmarks[:, :2]

    @property
    def outer_lip(self) -> np.ndarray:
        """Shape (20, 2): from the corner on the left over the upper lip and back below the lower."""
        return self.points[list(OUTER_LIP)]

    @property
    def inner_lip(self) -> np.ndarray:
        """Shape (20, 2), in the order of `outer_lip`."""
        return self.points[list(INNER_LIP)]


@register("mouth_tracker", "face_mesh")
class FaceMesh(MouthTracker):
    """Eyes and lips by MediaPipe's face mesh, which OpenCV runs; nothing else is needed and nothing is downloaded.

    A first network (BlazeFace) detects faces; a second estimates a mesh of 468 points on each, in an upright crop of
    the face. A corner of the mouth is the mean of those of the outer and of the inner lip, an eye the mean of its 16
    points: the average has a smaller error, and crops are steadier than with single landmarks.

    Arguments
    ---------
    min_face : float
        Smallest face to detect, as a share of the image's shorter side. Halving it costs about four times more.
    passes : int
        How often the mesh is estimated, each time in the crop that follows from the previous one. A second one corrects
        a bad box; crops of clean video do not improve.
    min_score : float
        Smallest score of a face by the second network, in [0, 1].

    Example
    -------
    >>> FaceMesh().detect(np.zeros((120, 160, 3), dtype=np.uint8))
    []
    """

    paper = "Kartynnik et al., Real-time facial surface geometry from monocular video on mobile GPUs, 2019"

    def __init__(self, min_face: float = 0.12, passes: int = 1, min_score: float = 0.5) -> None:
        if not 0.0 < min_face <= 1.0:
            raise ValueError(f"min_face must be above 0 and at most 1, got {min_face}.")
        if passes < 1:
            raise ValueError(f"passes must be at least 1, got {passes}.")
        self.min_face, self.passes, self.min_score = min_face, passes, min_score
        self._detector = BlazeFace(min_face)
        self._network: Any = None

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        """Find every face; see `MouthTracker.detect`: a image (height, width, 3) in, a list of `Face` out."""
        return [_face(mesh) for mesh in self.meshes(frame, min_size)]

    @property
    def shape(self) -> ShapeModel:
        """How the landmarks of `Face` lie on faces that look into the camera, for `frontalization`."""
        return ShapeModel.load(MODELS / "face_shape.npz")

    def meshes(self, frame: np.ndarray, min_size: float = 0.0) -> list[Mesh]:
        """All points of every face, for whoever needs more than the corners of the mouth.

        Arguments
        ---------
        frame : array, shape (height, width, 3), uint8
            Red first.
        min_size : float
            No smaller face is looked for, in pixels.

        Returns
        -------
        list of Mesh
            The face that was found most surely first.
        """
        found = (self._lay(frame, detection) for detection in self._detector.detect(frame, min_size))
        return [mesh for mesh in found if mesh is not None]

    def _lay(self, frame: np.ndarray, detection: Detection) -> Mesh | None:
        points, eyes = detection.box.reshape(2, 2), detection.points[:2]
        for _ in range(self.passes):
            square = _square(points, eyes)
            if square is None:
                return None
            landmarks, score = self._landmarks(frame, square)
            if score < self.min_score:
                return None
            points = landmarks[:, :2]
            eyes = np.stack([points[list(LEFT_EYE)].mean(axis=0), points[list(RIGHT_EYE)].mean(axis=0)])
        return Mesh(landmarks, score)

    def _landmarks(self, frame: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, float]:
        """The mesh in a square of the image, given as the affine map from the network's image to it."""
        import cv2

        if self._network is None:
            self._network = cv2.dnn.readNetFromTFLite(str(MODELS / "face_landmark.tflite"))
        face = cv2.warpAffine(frame, square, (_INPUT, _INPUT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        self._network.setInput(np.ascontiguousarray(face.astype(np.float32).transpose(2, 0, 1)[None] / 255.0))
        flag, mesh = (np.asarray(part).ravel() for part in self._network.forward(("conv2d_31", "conv2d_21")))
        points = mesh.reshape(_POINTS, 3)
        seen = points[:, :2] @ square[:, :2].T + square[:, 2]
        depth = points[:, 2:] * np.hypot(*square[:, 0])  # in units of the network's image, as x and y are
        score = 1.0 / (1.0 + np.exp(-np.clip(flag[0], -80.0, 80.0)))
        return np.hstack([seen, depth]).astype(float), float(score)


def _square(points: np.ndarray, eyes: np.ndarray) -> np.ndarray | None:
    """Affine map (2, 3) from the network's image to the square around a face with level eyes; None if it is empty."""
    across = eyes[1] - eyes[0]
    length = float(np.hypot(*across))
    low, high = points.min(axis=0), points.max(axis=0)
    side = _MARGIN * float(max(high - low))
    if not (np.isfinite(side) and side > 1.0 and length > 0.0):
        return None
    step = side / _INPUT * np.array([[across[0], -across[1]], [across[1], across[0]]]) / length
    return np.hstack([step, ((low + high) / 2 - step @ np.full(2, _INPUT / 2))[:, None]])


def _face(mesh: Mesh) -> Face:
    mean = lambda *indices: tuple(mesh.points[list(indices)].mean(axis=0).tolist())
    (left, top), (right, bottom) = mesh.points.min(axis=0).tolist(), mesh.points.max(axis=0).tolist()
    return Face(
        box=(left, top, right - left, bottom - top),
        mouth_left=mean(OUTER_LIP[0], INNER_LIP[0]),
        mouth_right=mean(OUTER_LIP[10], INNER_LIP[10]),
        eye_left=mean(*LEFT_EYE),
        eye_right=mean(*RIGHT_EYE),
        score=mesh.score,
        landmarks=mesh.landmarks,
    )

"""Frontal mouth crops of turned heads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avse import plugins
from avse.contracts.mouth_tracker import Face, MouthTracker, Warp
from avse.contracts.types import MOUTH_SIZE
from avse.errors import AvseError
from avse.media.faces.head_pose import PoseFit, confidence, fit, smooth
from avse.media.faces.shape_model import ShapeModel
from avse.plugins import register

_SIDE_OF_CROP = 1.7  # in distances from eyes to mouth, as every crop's
_EYE_TO_MOUTH = 1.15  # that distance, in distances between the eyes, of a common face
_COARSE = 22  # side of the grid for the depth of a crop; divides its side
_SMOOTHING = 2e-3  # of the surface through the landmarks, in squared distances from eyes to mouth
_TURN_SPREAD, _SIZE_SPREAD = 3.0, 12.0  # standard deviations of the smoothing over time, in frames
_REACH = 0.65  # landmarks for the surface: largest distance from the middle of the crop, in sides of it
# Smallest size of a visible pixel in the frame, relative to a frontal face; and beside the lips.
_THINNEST, _STEEP = 0.15, 0.3
# In pixels of the crop: margin along a border, rows over which it is smoothed, and reach of the lips.
_MARGIN, _BORDER, _LIPS = 4, 9, 24
_ROUNDS = 12  # iterations of the alignment; more change the rotation by less than a tenth of a degree
_KEPT = 64  # faces in the cache of fits


@register("mouth_tracker", "frontalization")
class Frontalization(MouthTracker):
    """Shows the mouth of a turned head from the front, for any three-dimensional landmarks.

    Landmarks are aligned with a deformable frontal face: rotation, scale and translation, and the coefficients of the
    shape, with errors of a generalised Student-t distribution, in which outliers have a small weight. A Kalman smoother
    filters the coefficients over time. Each pixel of the crop is mapped on the surface of the face, rotated with the
    head, and read from the frame: this removes the rotation of the head and keeps the motion of the lips. If the head
    hides one side of the face, the other side is mirrored.

    Arguments
    ---------
    source : MouthTracker or None
        Detects faces with landmarks; its attribute `shape` is the `avse.media.faces.shape_model.ShapeModel` of these
        landmarks. None: `face_mesh`, of the package in `plugins/avse_face_mesh`.
    shape : str or None
        File of another shape model (`ShapeModel.save`). None: that of the source.
    min_confidence : float
        Smallest mean weight of the landmarks of the mouth in a valid frame, in [0, 1].
    mu, nu : float
        Of the distribution: see `avse.media.faces.head_pose.fit`.

    Raises
    ------
    AvseError
        If the source is not installed, or gives no landmarks.

    Example
    -------
    >>> tracker = Frontalization()  # doctest: +SKIP
    >>> clip = avse.read_clip("talk.mp4", tracker=tracker)  # doctest: +SKIP
    """

    paper = (
        "Kang, Sadeghi, Horaud, Alameda-Pineda, Expression-preserving face frontalization improves visually assisted "
        "speech processing, 2023"
    )

    def __init__(
        self,
        source: MouthTracker | None = None,
        shape: str | None = None,
        min_confidence: float = 0.05,
        mu: float = 1.5,
        nu: float = 1.5,
    ) -> None:
        if not 0.0 <= min_confidence <= 1.0:
            raise ValueError(f"min_confidence must be from 0 to 1, got {min_confidence}.")
        if not (mu > 0 and nu > 0):
            raise ValueError(f"mu and nu must be above 0, got {mu} and {nu}.")
        self.source = _default_source() if source is None else source
        self.shape, self.min_confidence, self.mu, self.nu = shape, min_confidence, mu, nu
        model = getattr(self.source, "shape", None) if shape is None else ShapeModel.load(Path(shape))
        if not isinstance(model, ShapeModel):
            raise AvseError(
                f"mouth_tracker/frontalization: the source {self.source!r} gives no 3-D landmarks with a `shape` of "
                "theirs. Use `face_mesh`, or give shape=FILE that `ShapeModel.save` wrote."
            )
        self._model = model
        self._fits: OrderedDict[int, tuple[Face, PoseFit, float]] = OrderedDict()
        self._smoothed: tuple[list[Face], np.ndarray, dict[int, tuple[np.ndarray, float]]] | None = None

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        """Find every face; see `MouthTracker.detect`: a frame (height, width, 3) in, a list of `Face` out."""
        return self.source.detect(frame, min_size)

    def warp(self, faces: Sequence[tuple[int, Face]], index: int) -> Warp | None:
        """See `MouthTracker.warp`."""
        frames = np.array([frame for frame, _ in faces])
        found = [self._fit(face) for _, face in faces]
        trust = float(np.interp(index, frames, [sure for _, sure in found]))
        usable = [number for number, (one, _) in enumerate(found) if one.usable[0]]
        if not usable or trust < self.min_confidence:
            return Warp(np.zeros((MOUTH_SIZE, MOUTH_SIZE, 2)), 0.0)
        frames, fits = frames[usable], [found[number][0] for number in usable]
        rotation, scale = (np.concatenate([getattr(one, name) for one in fits]) for name in ("rotation", "scale"))
        steps = np.arange(frames[0], frames[-1] + 1)
        over_time = np.stack([np.interp(steps, frames, unit) for unit in np.eye(len(frames))])  # (detections, frames)
        turn = over_time @ _weights(steps - index, _TURN_SPREAD) @ rotation.reshape(-1, 9)
        left, _, right = np.linalg.svd(turn.reshape(3, 3))
        size = float(np.exp(over_time @ _weights(steps - index, _SIZE_SPREAD) @ np.log(scale)))
        depth, side = self._surface([faces[number][1] for number in usable], fits, frames, index)
        return Warp(size * _offsets(depth, side, left @ right), trust)

    def _fit(self, face: Face) -> tuple[PoseFit, float]:
        """Pose and shape of one face, and their confidence; cached, since many frames use one face."""
        kept = self._fits.get(id(face))
        if kept is None or kept[0] is not face:
            landmarks = np.full_like(self._model.mean, np.nan) if face.landmarks is None else face.landmarks
            try:
                found = fit(landmarks[None], self._model, mu=self.mu, nu=self.nu, iterations=_ROUNDS)
            except ValueError as error:
                problem = f"the shape model is of other landmarks: {error}"
                raise AvseError(f"mouth_tracker/frontalization: {problem}") from error
            sure = float(confidence(found, landmarks[None], self._model, nu=self.nu)[0])
            kept = self._fits[id(face)] = (face, found, sure)
            if len(self._fits) > _KEPT:
                self._fits.popitem(last=False)
        return kept[1], kept[2]

    def _surface(
        self, faces: list[Face], fits: list[PoseFit], frames: np.ndarray, index: int
    ) -> tuple[np.ndarray, float]:
        """Depth of the frontal face on a coarse grid over the crop, and the side of the crop, at a frame."""
        known = self._smoothed
        if known is None or len(known[0]) != len(faces) or any(a is not b for a, b in zip(known[0], faces)):
            fields = zip(*(vars(pose).values() for pose in fits))
            joined = PoseFit(*map(np.concatenate, fields))
            known = self._smoothed = faces, self._model.shapes(smooth(joined, self._model, frames)), {}
        _, shapes, surfaces = known
        after = int(np.clip(np.searchsorted(frames, index), 0, len(frames) - 1))
        before = max(after - 1, 0) if frames[after] > index else after
        for number in {before, after} - set(surfaces):
            surfaces[number] = _surface(shapes[number], self._model)
        share = (index - frames[before]) / max(frames[after] - frames[before], 1)
        (near, one), (far, other) = surfaces[before], surfaces[after]
        return (1 - share) * near + share * far, (1 - share) * one + share * other


def _default_source() -> MouthTracker:
    if "face_mesh" not in plugins.names("mouth_tracker"):
        raise AvseError(
            "mouth_tracker/frontalization: its source of landmarks, the package avse-face-mesh, is not installed. "
            "Install it with `pip install ./plugins/avse_face_mesh`, or give another source."
        )
    return plugins.get("mouth_tracker", "face_mesh")()


def _weights(away: np.ndarray, spread: float) -> np.ndarray:
    weights = np.exp(-0.5 * (away / spread) ** 2)
    return weights / weights.sum()


def _grid(count: int) -> np.ndarray:
    """Centres of that many pixels, from the middle of the crop, in sides of it."""
    return (np.arange(count) + 0.5) / count - 0.5


def _middle(shape: np.ndarray, model: ShapeModel, *parts: str) -> np.ndarray:
    return np.mean([shape[list(model.parts[part])].mean(axis=0) for part in parts], axis=0)


def _surface(shape: np.ndarray, model: ShapeModel) -> tuple[np.ndarray, float]:
    """Depth of a frontal face over the crop from the mouth's corners, a smooth spline, and the side of the crop."""
    from scipy.interpolate import RBFInterpolator

    left, right = (_middle(shape, model, part) for part in ("eye_left", "eye_right"))
    mouth = _middle(shape, model, "mouth_left", "mouth_right")
    unit = max(float(np.hypot(*(mouth - (left + right) / 2)[:2])), _EYE_TO_MOUTH * float(np.hypot(*(right - left)[:2])))
    points = (shape - mouth) / unit
    near = np.abs(points[:, :2]).max(axis=1) < _REACH * _SIDE_OF_CROP
    points = points[near] if near.sum() >= 3 else points
    spline = RBFInterpolator(points[:, :2], points[:, 2], kernel="thin_plate_spline", smoothing=_SMOOTHING)
    x, y = np.meshgrid(_grid(_COARSE) * _SIDE_OF_CROP, _grid(_COARSE) * _SIDE_OF_CROP)
    depth = spline(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(_COARSE, _COARSE)
    return depth * unit, _SIDE_OF_CROP * unit


def _offsets(depth: np.ndarray, side: float, rotation: np.ndarray) -> np.ndarray:
    """Positions of the pixels of the crop in the frame, shape (88, 88, 2), for a face at scale one."""
    import cv2

    depth = cv2.resize(depth, (MOUTH_SIZE, MOUTH_SIZE), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(_grid(MOUTH_SIZE) * side, _grid(MOUTH_SIZE) * side)
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    level = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    seen = np.stack([x, y, depth], axis=2) @ (level.T @ rotation[:2]).T
    width = side / MOUTH_SIZE
    seen[..., 1] = _rising(seen[..., 1], _THINNEST * width)
    hidden = _hidden(seen[..., 0], width)
    seen[hidden] = seen[:, ::-1][hidden]
    return seen @ level.T


def _hidden(places: np.ndarray, width: float) -> np.ndarray:
    """Hidden pixels: those from which on, away from the middle, positions (88, 88) increase by little of a width."""
    import cv2

    rises = np.diff(places, axis=1)
    half = places.shape[1] // 2
    hidden = np.zeros(places.shape, dtype=bool)
    for side, outwards in (
        (hidden[:, half:], rises[:, half - 1 :]),
        (hidden[:, half - 1 :: -1], rises[:, half - 1 :: -1]),
    ):
        seen, surely = (_until(outwards < share * width) for share in (_THINNEST, _STEEP))
        # A margin beside the mouth and a border smoothed over rows lead through skin, not along the edge of the face.
        surely = np.where(surely < half, surely - _MARGIN, half).astype(np.float32)
        smooth = cv2.blur(surely[:, None], (1, _BORDER), borderType=cv2.BORDER_REPLICATE)[:, 0]
        side[:] = np.arange(half) >= np.maximum(np.minimum(surely, smooth), np.minimum(seen, _LIPS))[:, None]
    return hidden & ~hidden[:, ::-1]


def _until(stops: np.ndarray) -> np.ndarray:
    """Number of entries of each row before the first true one."""
    return np.where(stops.any(axis=1), np.argmax(stops, axis=1), stops.shape[1])


def _rising(places: np.ndarray, least: float) -> np.ndarray:
    """Positions that increase by at least `least` from row to row, away from the middle; hidden rows are stretched."""
    steps = np.maximum(np.diff(places, axis=0), least)
    middle = len(places) // 2
    below = places[middle - 1] - np.cumsum(steps[: middle - 1][::-1], axis=0)[::-1]
    above = places[middle - 1] + np.cumsum(steps[middle - 1 :], axis=0)
    return np.concatenate([below, places[middle - 1 : middle], above])

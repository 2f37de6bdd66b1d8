"""Head pose and face shape from three-dimensional landmarks, robust to outliers.

Coordinates of landmarks are those of the frame: x to the right, y down, depth away from the camera, in pixels. A
`ShapeModel` describes frontal faces; `fit` estimates rotation, translation, scale and deformation; `smooth` applies the
dynamics of the deformation over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avse.media.faces.shape_model import ShapeModel

_LEAST_POINTS = 4
_ALTERNATING = 6  # first iterations, which alternate between pose and shape
_MOTIONS = 7  # degrees of freedom of the pose: translation, rotation, and scale
_FLAT = 1e-5  # landmarks on a line: largest ratio of their second to their first extent
_ROUND = 30.0  # largest ratio between the variances of an error along two directions
_SETTLED = 1e-4  # change of a landmark that ends the iterations, as a share of the face's radius


@dataclass(frozen=True)
class PoseFit:
    """Pose and shape, frame by frame: `landmarks = scale * rotation @ shape + translation + error`.

    Arguments
    ---------
    rotation : array, shape (video_frames, 3, 3)
    scale : array, shape (video_frames,)
    translation : array, shape (video_frames, 3)
    coefficients : array, shape (video_frames, modes)
        Of the shape model.
    weights : array, shape (video_frames, points), in [0, 1]
        Weight of each landmark: one if it agrees with the model, zero if it is missing.
    covariance : array, shape (video_frames, 3, 3)
        Of the error of an inlier.
    usable : array, shape (video_frames,), bool
        False if too few landmarks are given, or all on a line; the pose is then the identity, the shape the mean.
    precision : array, shape (video_frames, modes, modes)
        Inverse covariance of the coefficients given this frame alone; zero if it has no information.
    evidence : array, shape (video_frames, modes)
        `precision` times the coefficients given this frame alone.
    """

    rotation: np.ndarray
    scale: np.ndarray
    translation: np.ndarray
    coefficients: np.ndarray
    weights: np.ndarray
    covariance: np.ndarray
    usable: np.ndarray
    precision: np.ndarray
    evidence: np.ndarray

    def frontal(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks, shape (video_frames, points, 3), in the pose and size of the shape model."""
        moved = np.asarray(landmarks, dtype=float) - self.translation[:, None]
        return moved @ self.rotation / self.scale[:, None, None]


def procrustes(
    shapes: np.ndarray, landmarks: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least-squares scale, rotation and translation from shapes to landmarks.

    Arguments
    ---------
    shapes, landmarks : array, shape (video_frames, points, 3)
    weights : array, shape (video_frames, points)
        At least zero.

    Returns
    -------
    rotation : array, shape (video_frames, 3, 3)
        Proper: never a reflection.
    scale : array, shape (video_frames,)
    translation : array, shape (video_frames, 3)

    Example
    -------
    >>> face = np.random.default_rng(0).standard_normal((1, 9, 3))
    >>> rotation, scale, translation = procrustes(face, 2 * face + 1, np.ones((1, 9)))
    >>> bool(np.allclose(rotation, np.eye(3)) and np.allclose(scale, 2) and np.allclose(translation, 1))
    True
    """
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    middle, target = ((share[:, None] @ part)[:, 0] for part in (shapes, landmarks))
    centred = shapes - middle[:, None]
    weighted = share[..., None] * centred
    cross = (landmarks - target[:, None]).mT @ weighted
    left, values, right = np.linalg.svd(cross)
    proper = np.ones_like(values)
    proper[:, 2] = np.linalg.det(left @ right)
    rotation = (left * proper[:, None]) @ right
    spread = (weighted * centred).sum(axis=(1, 2))
    scale = (values * proper).sum(axis=1) / np.maximum(spread, 1e-300)
    return rotation, scale, target - scale[:, None] * (rotation @ middle[..., None])[..., 0]


def fit(
    landmarks: np.ndarray,
    model: ShapeModel,
    coefficients: np.ndarray | None = None,
    mu: float = 1.5,
    nu: float = 1.5,
    iterations: int = 25,
    robust: bool = True,
) -> PoseFit:
    """Pose and shape of each frame by itself, with errors that follow a generalised Student-t distribution.

    Expectation-maximisation: each landmark's weight is `(mu + 3/2) / (nu + d/2)`, where `d` is its squared Mahalanobis
    distance from the model; pose, shape and covariance follow. The first iterations have an isotropic covariance and
    alternate between pose (`procrustes`) and shape (a linear system). They converge slowly if a deformation resembles a
    rotation; later iterations take one Gauss-Newton step in both at once, with a full covariance.

    Arguments
    ---------
    landmarks : array, shape (video_frames, points, 3)
        NaN if a landmark is missing.
    model : ShapeModel
    coefficients : array, shape (video_frames, modes), or None
        The shape if it is known, e.g. from `smooth`; only pose and errors are then estimated.
    mu, nu : float
        Parameters of the gamma prior of a landmark's weight. The smaller `mu`, the heavier the tails; equal values give
        the Student-t distribution with `2 mu` degrees of freedom.
    iterations : int
    robust : bool
        False: all weights are one (least squares).

    Returns
    -------
    PoseFit

    Raises
    ------
    ValueError
        If the shape of the landmarks does not fit the model.

    Paper: Kang, Sadeghi, Horaud and Alameda-Pineda, Expression-preserving face frontalization, 2023.

    Example
    -------
    >>> parts = dict(eye_left=[0], eye_right=[1], mouth_left=[2], mouth_right=[3], mouth=[2, 3])
    >>> face = np.random.default_rng(0).standard_normal((20, 3))
    >>> model = ShapeModel(face, np.zeros((0, 20, 3)), np.zeros(0), np.zeros(0), 0.05, parts)
    >>> landmarks = 3 * face[None] + 5.0
    >>> landmarks[0, 7] += 50.0
    >>> pose = fit(landmarks, model)
    >>> bool(np.allclose(pose.scale, 3, atol=0.01)), int(pose.weights[0].argmin())
    (True, 7)
    """
    landmarks = np.asarray(landmarks, dtype=float)
    points, modes = model.mean.shape[0], len(model.basis)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (points, 3):
        raise ValueError(f"landmarks must have shape (frames, {points}, 3) for this model, got {landmarks.shape}.")
    frames = len(landmarks)
    seen = np.isfinite(landmarks).all(axis=2)
    usable = _has_extent(landmarks, seen)
    seen &= usable[:, None]
    y = np.where(seen[..., None], landmarks, 0.0)
    count = np.maximum(seen.sum(axis=1), 1)[:, None, None]
    known = coefficients is not None
    a = np.array(coefficients, dtype=float) if known else np.zeros((frames, modes))
    shapes, weights = model.shapes(a), seen.astype(float)
    free = 0 if known else modes
    prior = np.concatenate([1 / model.variance[:free], np.zeros(_MOTIONS)])
    metric = np.tile(np.eye(3), (frames, 1, 1))
    precision, evidence = np.zeros((frames, modes, modes)), np.zeros((frames, modes))
    error = np.full_like(y, np.inf)
    for turn in range(iterations):
        before, joint = error, turn >= _ALTERNATING
        if not joint:
            rotation, scale, translation = procrustes(shapes, y, weights)
        size = np.where(scale > 0, scale, 1.0)[:, None, None]
        if free or joint:
            # One step of weighted least squares in the coordinates of the model.
            columns = np.broadcast_to(model.basis[:free], (frames, free, points, 3))
            if joint:
                columns = np.concatenate([columns, _motions(shapes)], axis=1)
            rest = np.where(seen[..., None], (y - translation[:, None]) @ rotation / size - shapes, 0.0)
            sharp = np.square(size) * (rotation.mT @ metric @ rotation)
            flat = columns.reshape(frames, columns.shape[1], 3 * points)
            pulled = ((columns @ sharp[:, None]) * weights[:, None, :, None]).reshape(flat.shape)
            normal, right = pulled @ flat.mT, (pulled @ rest.reshape(frames, 3 * points, 1))[..., 0]
            if free:
                precision, evidence = _of_shape(normal, right, a)
            penalty = prior[: normal.shape[1]]
            right[:, :free] -= penalty[:free] * a[:, :free]
            step = np.linalg.solve(normal + _solvable(normal, penalty), right[..., None])[..., 0]
            if free:
                a = a + step[:, :free]
                shapes = model.shapes(a)
            if joint:
                moved, turned, grown = np.split(step[:, free:], [3, 6], axis=1)
                translation = translation + size[:, 0] * (rotation @ moved[..., None])[..., 0]
                rotation, scale = rotation @ _rotation(turned), scale * np.exp(grown[:, 0])
        error = np.where(seen[..., None], y - scale[:, None, None] * (shapes @ rotation.mT) - translation[:, None], 0.0)
        covariance, metric = _bounded(
            (weights[..., None] * error).mT @ error / count, size * model.noise, isotropic=not joint
        )
        distance = ((error @ metric) * error).sum(axis=2)
        if robust:
            weights = seen * (mu + 1.5) / (nu + distance / 2)
        change = np.abs(error - before).max(axis=(1, 2), initial=0.0)
        if joint and (change <= _SETTLED * size[:, 0, 0] * model.radius).all():
            break
    believed = seen * nu / (nu + distance / 2)
    usable = usable & (scale > 0) & np.isfinite(scale)
    return PoseFit(
        np.where(usable[:, None, None], rotation, np.eye(3)),
        np.where(usable, scale, 1.0),
        np.where(usable[:, None], translation, 0.0),
        np.where(usable[:, None], a, 0.0) if not known else a,
        np.where(usable[:, None], believed, 0.0),
        covariance,
        usable,
        np.where(usable[:, None, None], precision, 0.0),
        np.where(usable[:, None], evidence, 0.0),
    )


def smooth(pose: PoseFit, model: ShapeModel, indices: np.ndarray | None = None) -> np.ndarray:
    """Coefficients smoothed over time: a Kalman filter forwards, Rauch-Tung-Striebel backwards.

    Each coefficient is a stationary first-order autoregressive process with correlation `memory`. Frames without
    information are interpolated.

    Arguments
    ---------
    pose : PoseFit
    model : ShapeModel
    indices : array, shape (video_frames,), or None
        Number of each frame in the video, increasing; None: consecutive.

    Returns
    -------
    array, shape (video_frames, modes)

    Example
    -------
    >>> parts = dict(eye_left=[0], eye_right=[1], mouth_left=[2], mouth_right=[3], mouth=[2, 3])
    >>> rng = np.random.default_rng(0)
    >>> face, mode = rng.standard_normal((20, 3)), rng.standard_normal((1, 20, 3))
    >>> model = ShapeModel(face, mode, np.ones(1), np.full(1, 0.9), 0.05, parts)
    >>> landmarks = np.repeat(model.shapes(np.ones((1, 1))), 5, axis=0)
    >>> landmarks[2] = np.nan
    >>> smooth(fit(landmarks, model), model).round(1).ravel().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    frames, modes = pose.evidence.shape
    indices = np.arange(frames) if indices is None else np.asarray(indices)
    decay = model.memory ** np.diff(indices, prepend=indices[:1])[:, None]  # (video_frames, modes)
    prior = np.diag(model.variance)
    means, covariances = np.zeros((frames, modes)), np.zeros((frames, modes, modes))
    expected, predicted = means.copy(), covariances.copy()
    for t in range(frames):
        if t == 0:
            predicted[t] = prior
        else:
            expected[t] = decay[t] * means[t - 1]
            predicted[t] = decay[t][:, None] * covariances[t - 1] * decay[t] + (1 - np.square(decay[t])) * prior
        # Without the inverse of the predicted covariance, which loses rank if the memory is long.
        gain = np.eye(modes) + predicted[t] @ pose.precision[t]
        covariances[t] = np.linalg.solve(gain, predicted[t])
        covariances[t] = (covariances[t] + covariances[t].T) / 2
        means[t] = expected[t] + covariances[t] @ (pose.evidence[t] - pose.precision[t] @ expected[t])
    for t in range(frames - 2, -1, -1):
        back = np.linalg.solve(predicted[t + 1], decay[t + 1][:, None] * covariances[t]).T
        means[t] += back @ (means[t + 1] - expected[t + 1])
    return means


def confidence(
    pose: PoseFit, landmarks: np.ndarray, model: ShapeModel, part: str = "mouth", nu: float = 1.5
) -> np.ndarray:
    """Agreement of the landmarks of a part with the model.

    The weights of `PoseFit` are relative to the other landmarks of a frame; these are relative to the noise of the
    model, so that they are small in a frame in which all landmarks are wrong.

    Arguments
    ---------
    pose : PoseFit
    landmarks : array, shape (video_frames, points, 3)
    model : ShapeModel
    part : str
        One of `PARTS`.
    nu : float
        As in `fit`.

    Returns
    -------
    array, shape (video_frames,), in [0, 1]
        Mean weight; about one half for errors as large as the noise, zero if the fit is not usable.
    """
    chosen = list(model.parts[part])
    error = pose.frontal(landmarks)[:, chosen] - model.shapes(pose.coefficients)[:, chosen]
    distance = np.square(error / model.noise).sum(axis=2)
    weights = nu / (nu + np.where(np.isfinite(distance), distance, np.inf) / 2)
    return np.where(pose.usable, weights.mean(axis=1), 0.0)


def _has_extent(landmarks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Whether there are enough landmarks, not all on a line."""
    share = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    y = np.where(seen[..., None], landmarks, 0.0)
    y = np.where(seen[..., None], y - share[:, None] @ y, 0.0)
    peak = np.abs(y).max(axis=(1, 2), initial=0.0)
    y = y / np.maximum(peak, 1e-300)[:, None, None]
    extents = np.sqrt(np.maximum(np.linalg.eigvalsh(y.mT @ y), 0.0))  # ascending
    return (seen.sum(axis=1) >= _LEAST_POINTS) & (peak > 0) & (extents[:, 1] > _FLAT * extents[:, 2])


def _motions(shapes: np.ndarray) -> np.ndarray:
    """Derivatives of faces (video_frames, points, 3) by translation, rotation, scale: (video_frames, 7, points, 3)."""
    shifts = np.broadcast_to(np.eye(3)[:, None], (len(shapes), 3, shapes.shape[1], 3))
    turns = np.cross(np.eye(3)[:, None], shapes[:, None])
    return np.concatenate([shifts, turns, shapes[:, None]], axis=1)


def _of_shape(normal: np.ndarray, right: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision of the coefficients with the pose marginalised, and precision times coefficients."""
    modes = coefficients.shape[1]
    precision, pull = normal[:, :modes, :modes], right[:, :modes]
    if normal.shape[1] > modes:
        cross, pose = normal[:, :modes, modes:], normal[:, modes:, modes:]
        share = np.linalg.solve(pose + _solvable(pose), cross.mT).mT
        precision = precision - share @ cross.mT
        pull = pull - (share @ right[:, modes:, None])[..., 0]
    return precision, pull + (precision @ coefficients[..., None])[..., 0]


def _solvable(normal: np.ndarray, penalty: np.ndarray | float = 0.0) -> np.ndarray:
    """Diagonal to add to normal equations: a penalty, and a small value that keeps them regular without landmarks."""
    size = np.trace(normal, axis1=1, axis2=2)[:, None]
    return (penalty + np.where(size > 0, 1e-12 * size, 1.0))[..., None] * np.eye(normal.shape[1])


def _rotation(turns: np.ndarray) -> np.ndarray:
    """Rotations, shape (video_frames, 3, 3), about vectors of shape (video_frames, 3) by their length (Rodrigues)."""
    angle = np.linalg.norm(turns, axis=1)[:, None, None]
    cross = np.cross(np.eye(3), turns[:, None])
    return np.eye(3) + np.sinc(angle / np.pi) * cross + np.square(np.sinc(angle / 2 / np.pi)) / 2 * cross @ cross


def _bounded(covariance: np.ndarray, least: np.ndarray, isotropic: bool) -> tuple[np.ndarray, np.ndarray]:
    """A covariance (video_frames, 3, 3) with at least that std, isotropic or of a bounded ratio, and its inverse."""
    floor = np.maximum(np.square(least), 1e-300)
    if isotropic:
        values = np.maximum(np.trace(covariance, axis1=1, axis2=2)[:, None, None] / 3, floor)
        return values * np.eye(3), np.eye(3) / values
    values, axes = np.linalg.eigh(covariance)
    values = np.maximum(values[:, None], np.maximum(floor, values[:, None, -1:] / _ROUND))
    return (axes * values) @ axes.mT, (axes / values) @ axes.mT

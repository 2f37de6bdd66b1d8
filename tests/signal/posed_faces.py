"""Three-dimensional faces made by code: 78 landmarks, four deformations, any pose, noise and outliers."""

from __future__ import annotations

import numpy as np

from avse.media.faces.shape_model import ShapeModel

LIPS = 16  # landmarks on each lip's outline


def depth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Surface of the face: an ellipsoid, with a nose in front of it."""
    bowl = 1 - np.sqrt(np.clip(1 - 0.5 * x**2 - 0.12 * y**2, 0.05, None))
    return 1.2 * bowl - 0.45 * np.exp(-8 * x**2 - 5 * (y - 0.55) ** 2)


def face_model() -> ShapeModel:
    """In distances from eyes to mouth; the mouth's corners have y = 1. Opening is the first deformation."""
    angle = 2 * np.pi * np.arange(LIPS) / LIPS
    outer = np.stack([-0.38 * np.cos(angle), 1 - 0.14 * np.sin(angle)], axis=1)
    inner = np.stack([-0.3 * np.cos(angle), 1 - 0.05 * np.sin(angle)], axis=1)
    circle = np.stack([np.cos(angle[::2]), np.sin(angle[::2])], axis=1)
    eyes = np.concatenate([[side * 0.43, 0.0] + [0.15, 0.06] * circle for side in (-1, 1)])
    jaw = np.linspace(-1, 1, 15)
    jaw = np.stack([0.85 * np.sin(jaw * 1.4), 0.35 + 1.25 * np.cos(jaw * 1.4)], axis=1)
    nose = np.array([[0, 0.0], [0, 0.2], [0, 0.4], [0, 0.58], [-0.17, 0.65], [0.17, 0.65], [0, 0.7]])
    brows = np.array([[x, -0.25] for x in (-0.6, -0.4, -0.2, 0.2, 0.4, 0.6)] + [[0.0, -0.3], [0.0, -0.5]])
    flat = np.concatenate([outer, inner, eyes, jaw, nose, brows[:6], brows[6:]])
    mean = np.hstack([flat, depth(*flat.T)[:, None]])
    basis = np.zeros((4, len(mean), 3))
    below = np.zeros(len(mean))
    below[: 2 * LIPS] = np.where(flat[: 2 * LIPS, 1] > 1.0 + 1e-6, 1.0, 0.0)
    below[48 + 3 : 48 + 12] = 0.8  # the chin follows the lower lip
    basis[0, :, 1] = below  # opening
    basis[1, : 2 * LIPS, 0] = flat[: 2 * LIPS, 0]  # spreading
    basis[2, :, 0] = 0.4 * flat[:, 0]  # a wide face
    basis[3, :, 2] = 0.5 * mean[:, 2]  # a deep face
    parts = {
        "eye_left": tuple(range(32, 40)),
        "eye_right": tuple(range(40, 48)),
        "mouth_left": (0, LIPS),
        "mouth_right": (LIPS // 2, LIPS + LIPS // 2),
        "mouth": tuple(range(2 * LIPS)),
    }
    return ShapeModel(mean, basis, np.array([0.04, 0.04, 0.04, 0.04]), np.array([0.8, 0.8, 0.99, 0.99]), 0.02, parts)


def opening(faces: np.ndarray) -> np.ndarray:
    """Height of the mouth between the lips, in its widths, as it is seen; of faces (video_frames, points, 3)."""
    upper, lower = faces[:, LIPS + LIPS // 4, :2], faces[:, LIPS + 3 * LIPS // 4, :2]
    corners = faces[:, LIPS, :2], faces[:, LIPS + LIPS // 2, :2]
    return np.linalg.norm(lower - upper, axis=1) / np.linalg.norm(corners[1] - corners[0], axis=1)


def turn(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotations, shape (video_frames, 3, 3), from angles in degrees."""
    yaw, pitch, roll = (np.deg2rad(np.atleast_1d(angle)) for angle in (yaw, pitch, roll))
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    build = lambda *rows: np.stack([np.stack(row, axis=1) for row in rows], axis=1)
    across = build((np.cos(yaw), zero, np.sin(yaw)), (zero, one, zero), (-np.sin(yaw), zero, np.cos(yaw)))
    down = build((one, zero, zero), (zero, np.cos(pitch), -np.sin(pitch)), (zero, np.sin(pitch), np.cos(pitch)))
    level = build((np.cos(roll), -np.sin(roll), zero), (np.sin(roll), np.cos(roll), zero), (zero, zero, one))
    return level @ across @ down


def angle_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Degrees, shape (video_frames,), between rotations."""
    trace = np.trace(one.mT @ other, axis1=1, axis2=2)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))

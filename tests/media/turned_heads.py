"""Pictures of heads turned in space: a frontal picture laid on the surface through its landmarks."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import RBFInterpolator


def surface(landmarks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Depth of each pixel (height, width) of a picture, from landmarks (points, 3) of the face in it."""
    height, width = shape[:2]
    size = np.ptp(landmarks[:, 0])
    known = landmarks[:: max(1, len(landmarks) // 120)]
    middle, reach = known.mean(axis=0), 1.1 * size
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)[:, None]
    around = middle[:2] + reach * np.hstack([np.cos(angle), np.sin(angle)])
    points = np.concatenate([known[:, :2], around])
    depths = np.concatenate([known[:, 2], np.full(24, landmarks[:, 2].max())])
    spline = RBFInterpolator(points / size, depths, smoothing=1e-3)
    x, y = np.meshgrid(np.linspace(0, width - 1, width // 8), np.linspace(0, height - 1, height // 8))
    mask = np.stack([x.ravel(), y.ravel()], axis=1)
    away = mask - middle[:2]
    away *= np.minimum(1.0, reach / np.maximum(np.hypot(*away.T), 1e-9))[:, None]
    import cv2

    return cv2.resize(
        spline((middle[:2] + away) / size).reshape(x.shape), (width, height), interpolation=cv2.INTER_CUBIC
    )


def turned(picture: np.ndarray, depth: np.ndarray, rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The picture (height, width, 3), its surface turned around a centre (x, y, depth); nearer parts hide others."""
    import cv2

    height, width = depth.shape
    fine = 2
    size = (width * fine, height * fine)
    colour = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC).reshape(-1, 3)
    z = cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR).ravel()
    y, x = np.divmod(np.arange(len(z)), width * fine)
    points = np.stack([(x + 0.5) / fine - 0.5, (y + 0.5) / fine - 0.5, z], axis=1)
    moved = (points - centre) @ rotation.T + centre
    column, row = np.round(moved[:, 0]).astype(int), np.round(moved[:, 1]).astype(int)
    mask = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    order = np.flatnonzero(mask)[np.argsort(-moved[mask, 2], kind="stable")]  # the nearest is written last
    place = row[order] * width + column[order]
    nearest = np.full(height * width, np.inf)
    nearest[place] = moved[order, 2]
    front = moved[order, 2] < nearest[place] + 2.0
    gather = lambda values: np.bincount(place[front], values, height * width)
    count = gather(np.ones(front.sum()))
    total = np.stack([gather(channel) for channel in colour[order[front]].T], axis=1)
    seen = (total / np.maximum(count, 1)[:, None]).reshape(height, width, 3).astype(np.uint8)
    return cv2.inpaint(seen, (count.reshape(height, width) == 0).astype(np.uint8), 3, cv2.INPAINT_TELEA)

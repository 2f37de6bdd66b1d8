"""Corruption `head_turn`: a turned head."""

from __future__ import annotations

import numpy as np

from avse.contracts.corruption import Corruption
from avse.contracts.types import VIDEO_RATE
from avse.plugins import register

_RADIUS = 0.8  # of the face, in widths of the crop
_DISTANCE = 6.0  # of the camera from the front of the face, in the same unit
_STRAIGHT = np.deg2rad(1.0)


@register("corruption", "head_turn")
class HeadTurn(Corruption):
    """The head turns aside early in the clip and stays turned, swaying a little; a tracker follows the mouth.

    The crop is mapped on a cylinder and projected in perspective: one half of the mouth is foreshortened, and
    background appears beyond the edge of the face.

    Arguments
    ---------
    severity : int
        By 15, 30, 45, 60 or 75 degrees.
    """

    levels = (15.0, 30.0, 45.0, 60.0, 75.0)
    paper = "Cheng et al., Towards Pose-Invariant Lip-Reading, ICASSP 2020"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        background = int(rng.integers(20, 200))
        corrupted = mouth.copy()
        for index, angle in enumerate(self._angles(len(valid), rng)):
            if abs(angle) < _STRAIGHT:
                continue
            columns, rows, face = _turned(angle, mouth.shape[1])
            warped = cv2.remap(mouth[index], columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            corrupted[index] = np.round(face * warped + (1 - face) * background).astype(np.uint8)
        return corrupted, valid.copy()

    def _angles(self, frames: int, rng: np.random.Generator) -> np.ndarray:
        """Angle of the head in radians, shape (video_frames,)."""
        start, side = rng.uniform(0, 0.3) * frames, 1 if rng.random() < 0.5 else -1
        seconds = (np.arange(frames) - start) / VIDEO_RATE
        turned = np.clip(seconds / 0.4, 0, 1)  # a turn takes 0.4 s
        smooth = turned**2 * (3 - 2 * turned)
        sway = 1 + 0.06 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * seconds)
        return side * np.deg2rad(self.severity_level) * smooth * sway


def _turned(angle: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source column and row of each pixel of a turned face, and the opacity of the face: all (size, size)."""
    grid = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float64)
    across = grid + _RADIUS * np.sin(angle)  # the tracker keeps the mouth in the middle
    place = np.arcsin(np.clip(across / _RADIUS, -1, 1))
    source = _RADIUS * np.sin(np.clip(place - angle, -np.pi / 2, np.pi / 2))
    closer = _RADIUS * (np.cos(place) - np.cos(angle))  # than the mouth is
    tall = grid[:, None] * (_DISTANCE - closer)[None] / _DISTANCE
    face = np.clip((_RADIUS - np.abs(across)) * size, 0, 1)  # its edge is one pixel soft
    columns = np.broadcast_to(source * size + size / 2 - 0.5, tall.shape)
    return columns.astype(np.float32), (tall * size + size / 2 - 0.5).astype(np.float32), face[None]

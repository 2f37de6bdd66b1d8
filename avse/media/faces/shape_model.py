"""The shape of a frontal face and its deformations.

Coordinates of landmarks are those of a frame: x to the right, y down, depth away from the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avse.errors import AvseError

PARTS = ("eye_left", "eye_right", "mouth_left", "mouth_right", "mouth")


@dataclass(frozen=True)
class ShapeModel:
    """A deformable frontal face: `mean + sum_k coefficient_k basis_k`.

    Arguments
    ---------
    mean : array, shape (points, 3)
        (x, y, depth) in any unit.
    basis : array, shape (modes, points, 3)
    variance : array, shape (modes,)
        Of each coefficient over people and time; their mean is zero.
    memory : array, shape (modes,)
        Correlation of each coefficient between neighbouring video frames, in [0, 1).
    noise : float
        Standard deviation of the error of a coordinate of an inlier, in the unit of `mean`; the smallest in a fit.
    parts : mapping from str to sequence of int
        Landmarks of the parts named in `PARTS`; "left" is left in the frame, `mouth` is all that moves in speech.

    Raises
    ------
    AvseError
        If shapes do not fit together, a number is not finite, or a part is missing.

    Example
    -------
    >>> cross = [[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0], [0, 0, -1]]
    >>> parts = dict(eye_left=[0], eye_right=[1], mouth_left=[2], mouth_right=[3], mouth=[2, 3])
    >>> model = ShapeModel(np.array(cross), np.zeros((0, 5, 3)), np.zeros(0), np.zeros(0), 0.05, parts)
    >>> model.shapes(np.zeros((2, 0))).shape
    (2, 5, 3)
    """

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray
    memory: np.ndarray
    noise: float
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points, modes = len(self.mean), len(self.basis)
        shapes = {"mean": (points, 3), "basis": (modes, points, 3), "variance": (modes,), "memory": (modes,)}
        for name, shape in shapes.items():
            value = np.asarray(getattr(self, name), dtype=float)
            if value.shape != shape or not np.isfinite(value).all():
                raise AvseError(f"shape model: {name} must be finite, of shape {shape}; it is {value.shape}.")
            object.__setattr__(self, name, value)
        if (self.variance <= 0).any() or (self.memory < 0).any() or (self.memory >= 1).any() or not self.noise > 0:
            raise AvseError("shape model: variance and noise must be above 0, memory from 0 to below 1.")
        missing = [name for name in PARTS if not len(self.parts.get(name, ()))]
        if missing:
            raise AvseError(f"shape model: has no landmarks for {', '.join(missing)}.")
        parts = {name: tuple(int(index) for index in self.parts[name]) for name in PARTS}
        if not all(0 <= index < points for part in parts.values() for index in part):
            raise AvseError(f"shape model: parts must be indices of its {points} landmarks.")
        object.__setattr__(self, "parts", parts)

    @property
    def radius(self) -> float:
        """Root mean square distance of the mean's landmarks from their centre."""
        return float(np.sqrt(np.square(self.mean - self.mean.mean(axis=0)).sum(axis=1).mean()))

    def shapes(self, coefficients: np.ndarray) -> np.ndarray:
        """Frontal faces, shape (video_frames, points, 3), of coefficients of shape (video_frames, modes)."""
        return self.mean + np.tensordot(coefficients, self.basis, axes=1)

    def save(self, path: str | Path) -> None:
        """Write to a `.npz` file."""
        values: dict[str, Any] = {f"part_{name}": np.array(part, np.int32) for name, part in self.parts.items()}
        values |= {name: getattr(self, name).astype(np.float32) for name in ("mean", "basis", "variance", "memory")}
        np.savez_compressed(path, noise=np.float32(self.noise), **values)

    @classmethod
    def load(cls, path: str | Path) -> ShapeModel:
        """Read a file of `save`.

        Raises
        ------
        AvseError
            If the file is missing or not a shape model.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                parts = {name: tuple(arrays[f"part_{name}"].tolist()) for name in PARTS}
                values = {name: arrays[name] for name in ("mean", "basis", "variance", "memory")}
                return cls(**values, noise=float(arrays["noise"]), parts=parts)
        except (OSError, KeyError, ValueError) as error:
            raise AvseError(f"{path}: is not a shape model of `ShapeModel.save` ({error}).") from error

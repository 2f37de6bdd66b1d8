"""Corruption `occlusion`: an object in front of the mouth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avse.contracts.corruption import Corruption
from avse.contracts.types import MOUTH_SIZE
from avse.plugins import register

_MARGIN = 8  # pixels by which an object may move
_SIDE = MOUTH_SIZE + 2 * _MARGIN

Place = tuple[np.ndarray, np.ndarray]  # columns and rows of pixels from the middle of the crop, in crops


@register("corruption", "occlusion")
class Occlusion(Corruption):
    """A hand, a microphone or a mask covers a part of the crop and moves a little.

    Arguments
    ---------
    severity : int
        The part has 15, 30, 45, 60 or 80 % of the crop.
    object : str
        `hand`, `microphone`, `mask`, or `any`: a random one.

    Raises
    ------
    ValueError
        If the severity or the object is not one of these.

    Example
    -------
    >>> mouth, valid = Occlusion(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, bool(0.7 < (mouth[0] != 99).mean() < 0.9)
    ((10, 88, 88), True)
    """

    levels = (0.15, 0.3, 0.45, 0.6, 0.8)
    paper = "Hong et al., Watch or Listen: Robust Audio-Visual Speech Recognition, CVPR 2023"

    def __init__(self, severity: int = 3, object: str = "any") -> None:
        super().__init__(severity)
        if object not in ("any", *_OBJECTS):
            raise ValueError(f"object must be any, {', '.join(_OBJECTS)}, got {object!r}.")
        self.object = object

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        chosen = list(_OBJECTS)[rng.integers(len(_OBJECTS))]
        draw = _OBJECTS[chosen if self.object == "any" else self.object]
        skin = float(np.median(mouth[valid])) if valid.any() else 128.0
        cover, look = _fitted(draw(skin, rng), self.severity_level)
        look = look + cv2.GaussianBlur(rng.standard_normal(look.shape), (0, 0), 0.7) * 6
        time = np.arange(len(valid)) / 6.0
        phases = rng.uniform(0, 2 * np.pi, size=4)
        right = 2 * np.sin(time + phases[0]) + np.sin(2.3 * time + phases[1])
        down = 2 * np.sin(1.3 * time + phases[2]) + np.sin(1.9 * time + phases[3])
        corrupted = mouth.copy()
        for index in range(len(valid)):
            move = np.array([[1, 0, right[index] - _MARGIN], [0, 1, down[index] - _MARGIN]])
            over, shade = (cv2.warpAffine(layer, move, mouth.shape[:0:-1]) for layer in (cover, look))
            corrupted[index] = np.clip(np.round(over * shade + (1 - over) * mouth[index]), 0, 255)
        return corrupted, valid.copy()


Drawn = Callable[[Place, float], tuple[np.ndarray, np.ndarray]]
"""Takes places and a size; gives the depth of each place in the object (negative: outside), and its brightness."""


def _fitted(draw: Drawn, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Opacity and brightness of an object that covers a share of the crop, both (_SIDE, _SIDE)."""
    steps = (np.arange(_SIDE) + 0.5 - _SIDE / 2) / MOUTH_SIZE
    place = (np.broadcast_to(steps, (_SIDE, _SIDE)), np.broadcast_to(steps[:, None], (_SIDE, _SIDE)))
    inner = slice(_MARGIN, _SIDE - _MARGIN)
    low, high = 0.0, 4.0
    for _ in range(12):
        size = (low + high) / 2
        covered = (draw(place, size)[0][inner, inner] > 0).mean()
        low, high = (size, high) if covered < share else (low, size)
    depth, bright = draw(place, high)
    return np.clip(depth * MOUTH_SIZE + 0.5, 0, 1), bright  # an edge one pixel soft


def _hand(skin: float, rng: np.random.Generator) -> Drawn:
    """Four fingers, a thumb and a palm, from the left, the right or below."""
    angle = rng.choice([0.0, 0.5, 1.0]) * np.pi + rng.uniform(-0.4, 0.4)  # fingers point left, up or right
    point = np.array([-np.cos(angle), -np.sin(angle)])
    aside, thumb = rng.uniform(-0.1, 0.1), rng.choice([-1, 1])
    wide, tone = rng.uniform(0.2, 0.24), skin * rng.uniform(0.8, 1.15)  # of a finger
    lengths = np.array([2.6, 3.2, 3.0, 2.3])[::thumb]

    def draw(place: Place, size: float) -> tuple[np.ndarray, np.ndarray]:
        ahead = (place[0] * point[0] + place[1] * point[1]) / wide + 7 - 4 * size  # from the knuckles on
        beside = (place[1] * point[0] - place[0] * point[1] + aside) / wide
        parts = [_bar(ahead, beside - row + 1.5, 0.0, length, 0.5) for row, length in enumerate(lengths)]
        out = -thumb * beside - 2
        parts.append(_bar(0.8 * (ahead + 2) + 0.6 * out, 0.8 * out - 0.6 * (ahead + 2), 0.0, 2.2, 0.55))
        fingers, palm = np.maximum.reduce(parts), _bar(ahead, beside, -40.0, -1.6, 2.1)
        rounded = np.sqrt(np.clip(fingers / 0.5, 0, 1))  # dark where two fingers meet
        flat = np.clip(palm / 0.6, 0, 1)  # the back of the hand, which fingers run into
        return np.maximum(fingers, palm) * wide, tone * (0.6 + 0.4 * (flat + (1 - flat) * rounded))

    return draw


def _microphone(skin: float, rng: np.random.Generator) -> Drawn:
    """A round grille on a dark handle."""
    centre, tilt = np.array([rng.uniform(-0.12, 0.12), rng.uniform(-0.02, 0.15)]), rng.uniform(-0.7, 0.7)
    point, metal = np.array([np.sin(tilt), np.cos(tilt)]), rng.uniform(45, 110)

    def draw(place: Place, size: float) -> tuple[np.ndarray, np.ndarray]:
        wide = 0.4 * size
        across, along = (place[0] - centre[0]) / wide, (place[1] - centre[1]) / wide
        down, beside = across * point[0] + along * point[1], across * point[1] - along * point[0]
        head, handle = 1 - np.hypot(across, along), _bar(down, beside, 1.0, 40.0, 0.42)
        mesh = 0.85 + 0.15 * np.sin(75 * wide * across) * np.sin(75 * wide * along)
        shine = np.exp(-4 * ((across + 0.35) ** 2 + (along + 0.4) ** 2))
        ball = (metal * np.sqrt(np.clip(1 - 0.8 * (across**2 + along**2), 0.1, 1)) + 90 * shine) * mesh
        stick = 0.35 * metal * (1 + 0.8 * np.clip(handle / 0.42, 0, 1))
        return np.maximum(head, handle) * wide, np.where(head > 0, ball, stick)

    return draw


def _mask(skin: float, rng: np.random.Generator) -> Drawn:
    """Pleated cloth, from the chin upwards."""
    cloth, curve, tilt = rng.choice([45.0, 150.0, 215.0]), rng.uniform(0.15, 0.35), rng.uniform(-0.1, 0.1)
    light = np.clip(skin / 130, 0.5, 1.3)

    def draw(place: Place, size: float) -> tuple[np.ndarray, np.ndarray]:
        across, along = place
        depth = along - (0.62 - 0.5 * size) - curve * across**2 - tilt * across
        pleats = 1 - 0.22 * np.exp(-(((depth * 5) % 1 - 0.5) ** 2) / 0.012)
        hem = 1 + 0.12 * np.exp(-((depth - 0.03) ** 2) / 0.0004)
        return depth, cloth * light * pleats * hem * (1 - 0.9 * across**2)

    return draw


def _bar(along: np.ndarray, beside: np.ndarray, start: float, end: float, radius: float) -> np.ndarray:
    """Depth in a bar with round ends."""
    return radius - np.hypot(along - np.clip(along, start, end), beside)


_OBJECTS: dict[str, Callable[[float, np.random.Generator], Drawn]] = {
    "hand": _hand,
    "microphone": _microphone,
    "mask": _mask,
}

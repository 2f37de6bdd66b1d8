"""A drawn face whose mouth follows an articulation.

The head is painted once for a speaker; for each frame, the mouth and the eyelids are painted on it, the jaw moves, and
the head rotates a little in front of its background.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from avse.contracts.types import VIDEO_RATE
from avse.data.synthetic.articulation import TRACK_RATE, Tracks

SIZE = 256
"""Width and height of a frame in pixels."""

_SHIFT = 4
_SKINS = [(236, 200, 178), (224, 182, 156), (214, 168, 138), (198, 148, 116), (172, 122, 92), (138, 94, 70)]
_HAIRS = [(38, 28, 24), (62, 42, 30), (92, 62, 40), (140, 104, 62), (176, 142, 92), (112, 52, 32), (120, 118, 118)]
_IRISES = [(70, 46, 30), (88, 66, 40), (70, 96, 110), (84, 104, 72)]


@dataclass(frozen=True)
class FaceAppearance:
    """The appearance of a speaker; lengths in pixels of a `SIZE` frame, colours as red, green, blue in 0 to 255."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    iris: tuple[int, int, int]
    lips: tuple[int, int, int]
    clothes: tuple[int, int, int]
    wall: tuple[int, int, int]
    long_hair: bool
    half_width: float
    half_height: float
    eye_distance: float
    eye_size: float
    nose: float
    mouth: float
    brow: float
    light: float
    texture_seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, female: bool) -> FaceAppearance:
        """That of a random speaker."""
        skin = np.array(_SKINS[rng.integers(len(_SKINS))]) + rng.integers(-6, 7, 3)
        lips = skin * np.array([0.86, 0.58, 0.58]) + (np.array([14, -4, 0]) if female else 0)
        return cls(
            skin=_colour(skin),
            hair=_HAIRS[rng.integers(len(_HAIRS))],
            iris=_IRISES[rng.integers(len(_IRISES))],
            lips=_colour(lips),
            clothes=_colour(rng.integers(30, 200, 3)),
            wall=_colour(rng.integers(70, 190) + rng.integers(-25, 26, 3)),
            long_hair=bool(rng.random() < (0.8 if female else 0.05)),
            half_width=float(rng.uniform(50, 56)),
            half_height=float(rng.uniform(68, 75)),
            eye_distance=float(rng.uniform(21.5, 24.5)),
            eye_size=float(rng.uniform(9.5, 11.5)),
            nose=float(rng.uniform(27, 32)),
            mouth=float(rng.uniform(19, 23)),
            brow=float(rng.uniform(3.0, 4.6) * (0.75 if female else 1.0)),
            light=float(rng.uniform(-1, 1)),
            texture_seed=int(rng.integers(2**31)),
        )


def draw_face(tracks: Tracks, face: FaceAppearance, rng: np.random.Generator) -> np.ndarray:
    """Draw the video of an articulation.

    Arguments
    ---------
    tracks : Tracks
    face : FaceAppearance
    rng : numpy.random.Generator
        For the motion of the head, the blinks and the noise of the camera.

    Returns
    -------
    array, shape (frames, SIZE, SIZE, 3), uint8
        Red, green, blue at 25 frames per second; frame `f` shows the middle of its 40 ms.
    """
    frames = round(len(tracks.opening) * VIDEO_RATE / TRACK_RATE)
    moments = (np.arange(frames) + 0.5) * TRACK_RATE / VIDEO_RATE - 0.5
    points = np.arange(len(tracks.opening))
    mouth = [np.interp(moments, points, track) for track in (tracks.opening, tracks.width, tracks.teeth)]
    painter = _Painter(face)
    motion = _motion(frames, rng)
    lids = _blinks(frames, rng)
    grain = rng.normal(0, 2.0, (8, SIZE, SIZE, 1)).astype(np.float32)
    video = np.empty((frames, SIZE, SIZE, 3), dtype=np.uint8)
    for index in range(frames):
        opening, width, teeth = (float(track[index]) for track in mouth)
        image = painter.frame(opening, width, teeth, float(lids[index]), motion[index])
        video[index] = np.clip(image + grain[rng.integers(len(grain))], 0, 255)
    return video


def _motion(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Shift right, shift down (pixels), turn (degrees) and scale of the head, shape (video_frames, 4)."""
    wander = gaussian_filter1d(rng.standard_normal((frames + 40, 4)), 9, axis=0)[20:-20]
    start = rng.uniform(-1, 1, 4) * [8, 5, 3, 0.05]
    return start + wander * [14, 9, 9, 0.05] + [0, 0, 0, 1]


def _blinks(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Closure of the eyes, from 0 to 1, shape (video_frames,)."""
    lids = np.zeros(frames)
    moment = float(rng.exponential(60))
    while moment < frames:
        lids = np.maximum(lids, 1 - np.abs(np.arange(frames) - moment) / 2.5)
        moment += 12 + float(rng.exponential(65))
    return np.clip(lids, 0, 1)


class _Painter:
    """Paints one speaker. Positions are relative to the middle of the frame, y downwards."""

    def __init__(self, face: FaceAppearance) -> None:
        self.face = face
        self.centre = np.array([SIZE / 2, SIZE / 2 + 2])
        self.eyes_y = -0.14 * face.half_height
        self.nose_y = self.eyes_y + face.nose
        self.mouth_y = self.nose_y + 19.0
        self.wall = self._wall()
        self.head, self.alpha = self._head()
        y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
        self.grid_x, self.grid_y = x, y
        below = np.clip((y - self.centre[1] - self.mouth_y) / 14, 0, 1)
        fade = np.clip(1 - (y - self.centre[1] - face.half_height) / 22, 0, 1)
        side = np.exp(-0.5 * ((x - self.centre[0]) / (0.75 * face.half_width)) ** 2)
        self.jaw = (below * fade * side).astype(np.float32)

    def frame(self, opening: float, width: float, teeth: float, lid: float, motion: np.ndarray) -> np.ndarray:
        """One frame, shape (SIZE, SIZE, 3), float32."""
        head = self.head.copy()
        drop = 9.0 * opening
        for side in (-1, 1):
            self._eye(head, side, lid)
        head = cv2.remap(head, self.grid_x, self.grid_y - drop * self.jaw, cv2.INTER_LINEAR)
        alpha = cv2.remap(self.alpha, self.grid_x, self.grid_y - drop * self.jaw, cv2.INTER_LINEAR)
        self._mouth(head, opening, width, teeth, drop)
        head = cv2.GaussianBlur(head, (0, 0), 0.7)
        shift_x, shift_y, turn, scale = (float(value) for value in motion)
        matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE * 0.8), turn, scale)
        matrix[:, 2] += np.array([shift_x, shift_y])
        head = cv2.warpAffine(head, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(alpha, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)[..., None]
        return self.wall + alpha * (head.astype(np.float32) - self.wall)

    def _wall(self) -> np.ndarray:
        rng = np.random.default_rng(self.face.texture_seed)
        wall = np.full((SIZE, SIZE, 3), self.face.wall, dtype=np.float32)
        spots = rng.normal(0, 14, (5, 5, 1)).astype(np.float32)
        wall += cv2.resize(spots, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)[..., None]
        return np.clip(wall, 0, 255)

    def _head(self) -> tuple[np.ndarray, np.ndarray]:
        """The head without mouth and lids, and its opacity."""
        face, w, h = self.face, self.face.half_width, self.face.half_height
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        alpha = np.zeros((SIZE, SIZE), np.uint8)

        def both(points: np.ndarray, colour: tuple[int, int, int]) -> None:
            self._fill(image, points, colour)
            self._fill(alpha, points, 255)

        hair_back = 1.28 if face.long_hair else 1.1
        both(_ellipse(0, -0.16 * h, hair_back * w, 1.06 * h), face.hair)
        if face.long_hair:
            both(np.array([(-1.25 * w, -10), (1.25 * w, -10), (1.3 * w, 1.15 * h), (-1.3 * w, 1.15 * h)]), face.hair)
        neck = _shade(face.skin, 0.78)
        both(np.array([(-0.52 * w, 0.5 * h), (0.52 * w, 0.5 * h), (0.6 * w, 1.5 * h), (-0.6 * w, 1.5 * h)]), neck)
        both(_ellipse(0, 1.95 * h, 2.1 * w, 0.62 * h), face.clothes)
        for side in (-1, 1):
            both(_ellipse(side * 1.0 * w, 0.02 * h, 7, 14), _shade(face.skin, 0.9))
        outline = self._outline()
        both(outline, face.skin)
        image = self._shaded(image, outline)
        self._features(image)
        fringe = [(-1.02 * w, 0.05 * h), (-1.0 * w, -0.5 * h), (-0.55 * w, -0.98 * h), (0.5 * w, -1.0 * h),
                  (1.0 * w, -0.5 * h), (1.02 * w, 0.05 * h), (0.9 * w, -0.3 * h), (0.62 * w, -0.6 * h),
                  (-0.2 * w, -0.66 * h), (-0.72 * w, -0.52 * h), (-0.9 * w, -0.3 * h)]  # fmt: skip
        both(_smooth_polygon(fringe), face.hair)
        edge = cv2.GaussianBlur(cv2.erode(alpha, np.ones((3, 3), np.uint8)), (0, 0), 1.0)
        return image, edge.astype(np.float32) / 255

    def _outline(self) -> np.ndarray:
        """The outline of the face: a wide forehead and a narrower chin."""
        angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        x, y = np.sin(angle), -np.cos(angle)
        narrow = np.where(y > 0, 1 - 0.2 * np.clip(y, 0, 1) ** 2, 1.0)
        return np.stack([self.face.half_width * x * narrow, self.face.half_height * y], axis=1)

    def _shaded(self, image: np.ndarray, outline: np.ndarray) -> np.ndarray:
        """Light from one side, shadows at the edge and the eye sockets, cheeks, and the texture of skin."""
        face, h = self.face, self.face.half_height
        mask: np.ndarray = np.zeros((SIZE, SIZE), np.uint8)
        self._fill(mask, outline, 255)
        inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
        y, x = np.mgrid[:SIZE, :SIZE] - self.centre[::-1, None, None]
        light = 0.74 + 0.28 * np.clip(inside / (0.7 * face.half_width), 0, 1) ** 0.6
        light += 0.09 * face.light * x / face.half_width - 0.03 * y / h
        for side in (-1, 1):
            light -= 0.17 * _bump(x - side * face.eye_distance, y - self.eyes_y + 1, 13, 8)
            light += 0.06 * _bump(x - side * 0.52 * face.half_width, y - self.nose_y + 3, 12, 9)
            light -= 0.10 * _bump(x - side * 7, y - self.eyes_y - 8, 4, 10)
            light -= 0.08 * _bump(x - side * (face.mouth + 5), y - self.mouth_y + 6, 3, 9)
        light += 0.12 * _bump(x, y - (self.eyes_y + self.nose_y) / 2, 3.2, 11)
        light -= 0.10 * _bump(x, y - self.mouth_y - 13, 12, 3.5)
        rng = np.random.default_rng(face.texture_seed + 1)
        light += 0.25 * cv2.GaussianBlur(rng.normal(0, 0.25, (SIZE, SIZE)), (0, 0), 2.0)
        light = np.where(mask > 0, light, 0.92 + 0.12 * face.light * x / SIZE)
        return np.clip(image * light[..., None], 0, 255).astype(np.uint8)

    def _features(self, image: np.ndarray) -> None:
        face = self.face
        dark = _shade(face.skin, 0.5)
        for side in (-1, 1):
            x = side * face.eye_distance
            top = np.array([(-14, -3), (-5, -6.5), (6, -7), (15, -1.5)])
            bottom = np.array([(6, -7 + face.brow), (-5, -6.5 + face.brow), (-14, -1 + face.brow / 2)])
            brow = np.concatenate([top, bottom]) * [side, 1] + [x, self.eyes_y - 11]
            self._fill(image, _smooth_polygon(brow), _mix(face.hair, face.skin, 0.25))
            self._fill(image, _ellipse(side * 4.6, self.nose_y + 0.5, 2.6, 1.5), dark)
            wing = [(side * 8.2, self.nose_y - 6), (side * 10.2, self.nose_y - 1), (side * 7.5, self.nose_y + 2.4)]
            self._line(image, np.array(wing), _shade(face.skin, 0.68))
        under = [(-6, self.nose_y + 2.2), (0, self.nose_y + 3.8), (6, self.nose_y + 2.2)]
        self._line(image, np.array(under), _shade(face.skin, 0.66))
        self._fill(image, _ellipse(0, self.nose_y - 4, 3.2, 2.6), _shade(face.skin, 1.1))
        image[:] = cv2.GaussianBlur(image, (0, 0), 0.9)

    def _eye(self, head: np.ndarray, side: int, lid: float) -> None:
        face, x, y = self.face, side * self.face.eye_distance, self.eyes_y
        half, height = face.eye_size, 0.46 * face.eye_size * (1 - 0.95 * lid)
        t = np.linspace(-1, 1, 13)
        upper = np.stack([x + half * t, y - height * (1 - t**2) ** 0.7], axis=1)
        lower = np.stack([x + half * t, y + 0.75 * height * (1 - t**2) ** 0.8], axis=1)
        shape = np.concatenate([upper, lower[::-1]])
        crease = upper - [0, 3.2]
        self._line(head, crease, _shade(face.skin, 0.7))
        if lid < 0.7:
            mask = np.zeros((SIZE, SIZE), np.uint8)
            self._fill(mask, shape, 255)
            eye = np.full_like(head, (226, 222, 218))
            self._fill(eye, _ellipse(x, y - 0.6, 4.9, 4.9), face.iris)
            self._fill(eye, _ellipse(x, y - 0.6, 2.3, 2.3), (14, 12, 12))
            self._fill(eye, _ellipse(x + 1.6, y - 2.4, 1.1, 1.1), (250, 250, 250))
            head[mask > 127] = eye[mask > 127]
        self._line(head, upper, _shade(face.skin, 0.22), 2)
        self._line(head, lower, _shade(face.skin, 0.6))

    def _mouth(self, head: np.ndarray, opening: float, width: float, teeth: float, drop: float) -> None:
        face, y = self.face, self.mouth_y
        half = face.mouth * (0.66 + 0.46 * width - 0.06 * opening)
        full = 1.25 - 0.45 * width
        gap_up, gap_down = 2.2 * opening, 2.2 * opening + 1.25 * drop
        t = np.linspace(-1, 1, 25)
        arc = np.clip(1 - t**2, 0, 1)
        bow = 1 - 0.28 * np.exp(-((t / 0.14) ** 2)) - 0.25 * np.abs(t)
        top_outer = y - gap_up - 5.2 * full * arc**0.6 * bow
        top_inner = y - gap_up * arc**0.6
        low_inner = y + gap_down * arc**0.6
        low_outer = y + gap_down + (6.2 * full * arc**0.55) - gap_down * (1 - arc**0.45)
        x = half * t

        def band(above: np.ndarray, under: np.ndarray, x: np.ndarray = x) -> np.ndarray:
            return np.concatenate([np.stack([x, above], 1), np.stack([x, under], 1)[::-1]])

        self._fill(head, band(low_outer - 1, low_outer + 2.5), _shade(face.skin, 0.84))
        self._fill(head, band(top_inner, low_inner), (52, 22, 24))
        gap = gap_up + gap_down
        if gap > 1.5:
            row_height = min(1.0 + 3.4 * teeth, (0.2 + 0.5 * teeth) * gap)
            edge = np.minimum(top_inner + row_height * arc**0.3, low_inner)
            ivory = _mix((60, 30, 30), (232, 226, 214), 0.35 + 0.65 * teeth)
            self._fill(head, band(top_inner, edge, (0.86 * half) * t), ivory)
            tongue = np.maximum(low_inner - 0.5 * max(gap_down - 4.0, 0.0) * arc, edge)
            self._fill(head, band(tongue, low_inner, 0.7 * x), (150, 72, 74))
        self._fill(head, band(top_outer, top_inner), _shade(face.lips, 0.9))
        self._fill(head, band(low_inner, low_outer), face.lips)
        shine = y + gap_down + 3.0 * full
        self._line(head, np.stack([0.35 * x, np.full_like(x, shine)], 1), _shade(face.lips, 1.22))
        if gap <= 1.5:
            self._line(head, np.stack([x, (top_inner + low_inner) / 2], 1), _shade(face.lips, 0.45))

    def _fill(self, image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int] | int) -> None:
        cv2.fillPoly(image, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def _line(self, image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int], width: int = 1) -> None:
        cv2.polylines(image, [self._fixed(points)], False, colour, width, cv2.LINE_AA, _SHIFT)

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        return np.round((np.asarray(points) + self.centre) * 2**_SHIFT).astype(np.int32)


def _ellipse(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + half_width * np.cos(angle), y + half_height * np.sin(angle)], axis=1)


def _smooth_polygon(points: np.ndarray | list[tuple[float, float]]) -> np.ndarray:
    """A closed curve near the corners (twice Chaikin's corner cutting)."""
    curve = np.array(points, dtype=float)
    for _ in range(2):
        following = np.roll(curve, -1, axis=0)
        curve = np.stack([0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following], axis=1).reshape(-1, 2)
    return curve


def _bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.exp(-0.5 * ((x / width) ** 2 + (y / height) ** 2))


def _colour(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.asarray(values), 0, 255).astype(int).tolist()
    return red, green, blue


def _shade(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return _colour(np.array(colour) * factor)


def _mix(first: tuple[int, int, int], second: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """A mixture with `share` of the second colour."""
    return _colour((1 - share) * np.array(first) + share * np.array(second))

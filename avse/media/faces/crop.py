"""Mouth crops from video frames: the choice of a face, its landmarks over time, and the aligned 88 x 88 crop.

A `MouthTracker` detects the faces in every fifth frame (and in the last); landmarks are interpolated between two
detections and smoothed over time. A frame is valid only if the followed face was found at the detections on both sides
of it; nothing is extrapolated.

The crop is a square around the midpoint of the mouth's corners, rotated so that eyes and mouth are level. Its side is
1.7 times the distance from eyes to mouth, or that of a frontal face with the same distance between the eyes, if that
is larger. Mouth corners at rest take about 42 % of its width; nose tip, lower cheeks and chin are inside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.contracts.types import MOUTH_SIZE, VIDEO_RATE
from avse.errors import AvseError

INTERVAL = 5  # frames between detections
LOOKAHEAD = 30  # frames read ahead of the one that is cropped: half the span of the smoothing
MAX_ROI_SIDE = 128  # a square video up to this size without a face is assumed to hold mouth crops

_DETECTION_SIDE = 640  # longer side of the frames in which faces are detected
_FULL_INTERVAL = 25  # frames between detections in the whole frame while a face is followed
_LIFETIME = 25  # frames after which a track without a detection ends
_CENTRE_SPREAD, _SHAPE_SPREAD = 3.0, 12.0  # standard deviations of the smoothing, in frames
_SIDE_OF_CROP = 1.7  # in distances from eyes to mouth
_SHARP = 1.5  # pixels of a reduced frame for each of a crop, at least
_EYE_TO_MOUTH = 1.15  # that distance, in distances between the eyes, of a frontal face
# Landmarks as shares of the box, for trackers without landmarks: eyes left, right, mouth left, right.
_IN_BOX = np.array([[0.31, 0.38], [0.69, 0.38], [0.34, 0.77], [0.66, 0.77]])


@dataclass
class Frame:
    """One video frame.

    Arguments
    ---------
    size : (int, int)
        Height and width, in the pixels of faces and mouths.
    reduced : callable
        Takes a divisor of both; gives the frame in grey, (height, width) uint8.
    rgb : callable
        Takes the largest length of the longer side; gives the frame in colour, (height, width, 3) uint8.
    scale : float
        The width over that of the displayed frame.
    """

    size: tuple[int, int]
    reduced: Callable[[int], np.ndarray]
    rgb: Callable[[int], np.ndarray]
    scale: float = 1.0

    @cached_property
    def grey(self) -> np.ndarray:
        """The frame in grey, at its size."""
        return self.reduced(1)

    @classmethod
    def from_array(cls, frame: np.ndarray) -> Frame:
        """A frame from an array of shape (height, width, 3), uint8, RGB."""
        import cv2

        def rgb(side: int) -> np.ndarray:
            factor = min(1.0, side / max(frame.shape[:2]))
            return frame if factor == 1 else cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)

        def reduced(divisor: int) -> np.ndarray:
            width, height = (max(1, round(side / divisor)) for side in grey.shape[::-1])
            return shrunk(grey, (width, height))

        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        return cls(grey.shape, reduced, rgb)


@dataclass
class _Track:
    """One face over time: the frames in which it was detected, with eyes and mouth corners."""

    frames: list[int]
    faces: list[Face]
    points: list[np.ndarray] = field(default_factory=list)

    @property
    def last(self) -> Face:
        return self.faces[-1]

    def add(self, index: int, face: Face) -> None:
        self.frames.append(index)
        self.faces.append(face)
        self.points.append(_points(face))

    def within(self, first: int, last: int) -> list[Face]:
        return [face for index, face in zip(self.frames, self.faces) if first <= index <= last]

    def forget(self, before: int) -> None:
        while len(self.frames) > 1 and self.frames[1] < before:
            del self.frames[0], self.faces[0], self.points[0]


class _Seen(NamedTuple):
    """What is kept of a frame until it is cropped: its pixels, reduced or not, and its size and scale."""

    grey: np.ndarray
    size: tuple[int, int]
    scale: float


class MouthPosition(NamedTuple):
    """The centre of a mouth (x, y), the direction across the face, and the distance from eyes to mouth."""

    centre: np.ndarray
    across: np.ndarray
    size: float


class MouthCropper:
    """Follows one face through a video and crops its mouth.

    Arguments
    ---------
    tracker : MouthTracker
        Finds faces.
    face : "largest", int, or (x, y, width, height)
        Which of several faces to follow: the largest, one by its number from left to right starting at 0, or the one
        that overlaps a box (in pixels of the displayed frame).
    roi : "auto", "face", or "mouth"
        "mouth": the frames already are mouth crops. "auto": they are if they are square, of at most 128 pixels, and
        show no face in the first second.

    Attributes
    ----------
    place : MouthPosition, or None
        The mouth of the last crop, in pixels of `Frame.size`; None if the crop is not valid.
    box : tuple of float, or None
        The face of that crop: x, y, width and height, relative to the width and height of the frame.
    confidence : float
        The confidence of the tracker in the last crop, in [0, 1]: see `Warp`. One for trackers without confidence; zero
        for a crop that is not valid.

    Example
    -------
    >>> from avse.mouth_trackers.mtcnn import MTCNN
    >>> grey = Frame.from_array(np.full((120, 160, 3), 128, dtype=np.uint8))
    >>> crops = list(MouthCropper(MTCNN()).run([grey] * 3))
    >>> len(crops), crops[0][0].shape, crops[0][1]
    (3, (88, 88), False)
    """

    def __init__(
        self, tracker: MouthTracker, face: str | int | tuple[float, ...] = "largest", roi: str = "auto"
    ) -> None:
        self.tracker, self.face, self.roi = tracker, face, roi
        self.place: MouthPosition | None = None
        self.box: tuple[float, ...] | None = None
        self.confidence = 0.0
        self._tracks: list[_Track] = []
        self._followed: _Track | None = None
        self._detected = -INTERVAL  # frame of the last detection
        self._scanned = -_FULL_INTERVAL  # frame of the last detection in a whole frame
        self._most_faces, self._most_at = 0, 0

    def run(self, frames: Iterable[Frame | None]) -> Iterator[tuple[np.ndarray, bool]]:
        """Crop the mouth in each frame.

        Arguments
        ---------
        frames : iterable of Frame or None
            25 per second; None if there is no frame. It may be endless: about one second is kept in memory.

        Yields
        ------
        crop : array, shape (88, 88), uint8
            Zero if invalid.
        valid : bool

        Raises
        ------
        AvseError
            If the chosen face never appears.
        """
        frames = iter(frames)
        if self.roi == "auto":
            frames = self._looked_at(frames)
        yield from map(_resized, frames) if self.roi == "mouth" else self._follow(frames)

    def _looked_at(self, frames: Iterator[Frame | None]) -> Iterator[Frame | None]:
        """The same frames, once their start has told what they show."""
        start: list[Frame | None] = []
        for frame in frames:
            start.append(frame)
            if len(start) == VIDEO_RATE or frame is not None and not _may_be_mouth(frame):
                break  # large frames cannot be mouth crops, and would fill the memory
        self.roi = "mouth" if self._holds_mouths(start) else "face"
        return chain(start, frames)

    def _holds_mouths(self, frames: list[Frame | None]) -> bool:
        shown = [frame for frame in frames if frame is not None]
        if not shown or not all(map(_may_be_mouth, shown)):
            return False
        return not any(self.tracker.detect(frame.rgb(MAX_ROI_SIDE)) for frame in shown[::INTERVAL])

    def _follow(self, frames: Iterator[Frame | None]) -> Iterator[tuple[np.ndarray, bool]]:
        waiting: deque[tuple[int, _Seen | None]] = deque()
        previous: Frame | None = None
        index = -1
        for index, frame in enumerate(frames):
            if frame is None:
                if previous is not None and self._detected < index - 1:
                    self._detect(index - 1, previous)
                self._detected = index - INTERVAL
            elif index - self._detected >= INTERVAL:
                self._detect(index, frame)
            previous = frame
            waiting.append((index, None if frame is None else self._look(frame)))
            if len(waiting) > LOOKAHEAD:
                yield self._crop(*waiting.popleft())
        if previous is not None and self._detected < index:
            self._detect(index, previous)
        while waiting:
            yield self._crop(*waiting.popleft())
        self.finish()

    def _look(self, frame: Frame) -> _Seen:
        """What crops need of a frame: the smaller, the larger the faces in it are, so that a crop still shrinks it."""
        sides = [_SIDE_OF_CROP * float(_sizes(track.points[-1])) for track in self._tracks]
        divisor = 1
        while sides and min(sides) >= _SHARP * MOUTH_SIZE * 2 * divisor:
            divisor *= 2
        return _Seen(frame.reduced(divisor), frame.size, frame.scale)

    def _detect(self, index: int, frame: Frame) -> None:
        """Detect the faces of one frame and assign them to tracks."""
        rgb = frame.rgb(_DETECTION_SIDE)
        factor = frame.size[1] / rgb.shape[1]
        live = [track for track in self._tracks if index - track.frames[-1] <= _LIFETIME]
        known = [track.last.scaled(1 / factor) for track in live]
        steady = bool(live) and all(track.frames[-1] == self._detected for track in live)
        faces = []
        if steady and index - self._scanned < _FULL_INTERVAL:
            faces = _look_near(self.tracker, rgb, known)
        if len(faces) < len(live) or not faces:
            faces, self._scanned = self.tracker.detect(rgb), index
        faces = [face.scaled(factor) for face in faces]
        self._detected = index
        if len(faces) > self._most_faces:
            self._most_faces, self._most_at = len(faces), index
        pairs = sorted(
            (distance, number, place)
            for number, track in enumerate(live)
            for place, face in enumerate(faces)
            if (distance := _distance(track.last, face)) < 1
        )
        taken: set[int] = set()
        for _, number, place in pairs:
            if live[number].frames[-1] != index and place not in taken:
                live[number].add(index, faces[place])
                taken.add(place)
        for place, face in enumerate(faces):
            if place not in taken:
                track = _Track([], [])
                track.add(index, face)
                live.append(track)
        if self._followed is not None and self._followed not in live:
            live.append(self._followed)
        self._tracks = live

    def _crop(self, index: int, seen: _Seen | None) -> tuple[np.ndarray, bool]:
        nothing = np.zeros((MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8), False
        self.place, self.box, self.confidence = None, None, 0.0
        if seen is None:
            return nothing
        self._choose(index, seen.scale)
        if self._followed is None:
            return nothing
        self._followed.forget(index - LOOKAHEAD - INTERVAL)
        run = self._around(index)
        height, width = seen.size
        if run is None:
            return nothing
        place = _place(self._followed, run, index)
        if not (0 <= place.centre[0] < width and 0 <= place.centre[1] < height):
            return nothing
        detected, faces = self._followed.frames[run], self._followed.faces[run]
        warp = self.tracker.warp(list(zip(detected, faces)), min(index, detected[-1]))
        self.confidence = 1.0 if warp is None else warp.confidence
        if not self.confidence > 0:
            return nothing
        self.place = place
        boxes = np.array([face.box for face in self._followed.faces[run]])
        at = [np.interp(index, self._followed.frames[run], side) for side in boxes.T]
        self.box = tuple(round(float(value) / side, 4) for value, side in zip(at, (width, height, width, height)))
        factor = np.array(seen.grey.shape[::-1]) / (width, height)
        centre = (place.centre + 0.5) * factor - 0.5
        if warp is None:
            return _cut(seen.grey, MouthPosition(centre, place.across, place.size * float(factor.mean()))), True
        return _bend(seen.grey, centre, warp.offsets * factor), True

    def _around(self, index: int) -> slice | None:
        """Which detections of the followed face tell where it is in frame `index`; None if none do."""
        assert self._followed is not None
        return _run(self._followed, index)

    def _choose(self, index: int, scale: float) -> None:
        """Choose the face to follow from frame `index` on, with the frames ahead."""
        first, last = index - INTERVAL + 1, index + LOOKAHEAD
        old = self._followed
        if old is not None and old.within(first, last):
            return
        # A face that appeared beside the followed one is another face, even after the followed one leaves.
        tracks = [t for t in self._tracks if t.within(first, last) and (old is None or t.frames[0] > old.frames[-1])]
        if not tracks:
            return
        if old is not None and self.face != "largest":
            tracks = [track for track in tracks if _distance(old.last, track.faces[0]) < 3]
            self._followed = min(tracks, key=lambda track: _distance(old.last, track.faces[0]), default=old)
        elif self.face == "largest":
            self._followed = max(tracks, key=lambda track: sum(face.size**2 for face in track.within(first, last)))
        elif isinstance(self.face, int):
            fullest = max(
                sorted({frame for track in tracks for frame in track.frames if first <= frame <= last}),
                key=lambda frame: sum(frame in track.frames for track in tracks),
            )
            present = [track for track in tracks if fullest in track.frames]
            present.sort(key=lambda track: track.faces[track.frames.index(fullest)].centre)
            if self.face < len(present):
                self._followed = present[self.face]
        else:
            box = Face(tuple(float(value) * scale for value in self.face))  # type: ignore[arg-type]
            best = max(tracks, key=lambda track: _overlap(box, track.within(first, last)[0]))
            if _overlap(box, best.within(first, last)[0]) > 0.1:
                self._followed = best

    def finish(self) -> None:
        """Raise `AvseError` if the chosen face has not appeared; for callers that stop before the frames end."""
        if self.face == "largest" or self._followed is not None or self.roi == "mouth":
            return
        most = f"at most {self._most_faces} face{'s' * (self._most_faces != 1)} appear at once"
        when = f" (first at {self._most_at / VIDEO_RATE:.2f} s)" if self._most_faces else ""
        if isinstance(self.face, int):
            raise AvseError(
                f"face {self.face} does not appear: {most}{when}; faces count from 0, left to right. "
                "Choose another index, or --face largest."
            )
        raise AvseError(
            f"no face was found in the box {','.join(f'{v:g}' for v in self.face)}; {most}{when}. "
            "The box is x,y,width,height in pixels; try --face largest."
        )


def _look_near(tracker: MouthTracker, rgb: np.ndarray, known: list[Face]) -> list[Face]:
    """Detect near the last positions of faces: many times cheaper than detection in the whole frame."""
    height, width = rgb.shape[:2]
    detections = []
    for face in known:
        reach, (x, y) = face.size, face.centre
        left, top = max(int(x - reach), 0), max(int(y - reach), 0)
        region = rgb[top : max(int(y + reach), 0), left : max(int(x + reach), 0)]
        if min(region.shape[:2]) == 0:
            continue
        near = [other.moved(left, top) for other in tracker.detect(np.ascontiguousarray(region), min_size=0.6 * reach)]
        nearest = min(near, key=lambda other: _distance(face, other), default=None)
        if nearest is not None and _distance(face, nearest) < 1:
            detections.append(nearest)
    return detections


def _points(face: Face) -> np.ndarray:
    """Eyes and mouth corners, shape (4, 2); those that are not known follow from the box."""
    x, y, width, height = face.box
    points = np.array([x, y]) + _IN_BOX * np.array([width, height])
    for row, known in enumerate((face.eye_left, face.eye_right, face.mouth_left, face.mouth_right)):
        if known is not None:
            points[row] = known
    return points


def _distance(one: Face, other: Face) -> float:
    """Dissimilarity of two faces in successive frames; below 1 they may be the same."""
    size = max(one.size, other.size, 1e-6)
    apart = np.hypot(one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]) / size
    return float(apart / 0.6 + abs(np.log(max(one.size, 1e-6) / max(other.size, 1e-6))) / 0.7)


def _overlap(one: Face, other: Face) -> float:
    """Intersection over union of two boxes."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.box, other.box
    wide, high = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    common = max(wide, 0.0) * max(high, 0.0)
    return common / max(aw * ah + bw * bh - common, 1e-9)


def _run(track: _Track, index: int) -> slice | None:
    """The uninterrupted run of detections around a frame; None if the frame is outside such a run."""
    frames = np.array(track.frames)
    after = int(np.searchsorted(frames, index))
    if after == len(frames):
        return None
    if frames[after] != index and (after == 0 or frames[after] - frames[after - 1] > INTERVAL):
        return None
    breaks = np.flatnonzero(np.diff(frames) > INTERVAL) + 1  # detections that start a new run
    return slice(int(max([0, *breaks[breaks <= after]])), int(min([len(frames), *breaks[breaks > after]])))


def _place(track: _Track, run: slice, index: int) -> MouthPosition:
    """Smoothed mouth centre, direction across the face, and eye-to-mouth distance at a frame of a run."""
    frames = np.array(track.frames[run])
    indices = np.arange(max(index - LOOKAHEAD, frames[0]), min(index + LOOKAHEAD, frames[-1]) + 1)
    known = np.stack(track.points[run]).reshape(len(frames), 8)
    points = np.stack([np.interp(indices, frames, column) for column in known.T], axis=1).reshape(-1, 4, 2)
    mouth = points[:, 2:].mean(axis=1)
    across = points[:, 1] - points[:, 0] + points[:, 3] - points[:, 2]
    size = _sizes(points)
    away = (indices - index).astype(float)
    fine, coarse = (np.exp(-0.5 * (away / spread) ** 2) for spread in (_CENTRE_SPREAD, _SHAPE_SPREAD))
    fine, coarse = fine / fine.sum(), coarse / coarse.sum()
    return MouthPosition(fine @ mouth, coarse @ across, float(coarse @ size))


def _sizes(points: np.ndarray) -> np.ndarray:
    """Distances from eyes to mouth, by which crops are sized, of points of shape (..., 4, 2)."""
    eyes, mouth = points[..., :2, :].mean(axis=-2), points[..., 2:, :].mean(axis=-2)
    between = points[..., 1, :] - points[..., 0, :]
    return np.maximum(np.linalg.norm(mouth - eyes, axis=-1), _EYE_TO_MOUTH * np.linalg.norm(between, axis=-1))


def shrunk(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels averaged over squares, to a width and height; by halves as far as they go, which is many times faster.

    >>> shrunk(np.arange(16, dtype=np.uint8).reshape(2, 8), (2, 1)).tolist()
    [[6, 10]]
    """
    import cv2

    while not (pixels.shape[1] % 2 or pixels.shape[0] % 2) and min(np.array(pixels.shape[1::-1]) // size) > 1:
        pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return pixels if pixels.shape[1::-1] == size else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _cut(grey: np.ndarray, place: MouthPosition) -> np.ndarray:
    """The square around a mouth, its rows along the face, as an 88 x 88 crop."""
    import cv2

    centre, across, side = place.centre, place.across, place.size * _SIDE_OF_CROP
    reach = int(np.ceil(side * 0.75)) + 2  # contains the square in any rotation
    left, top = int(centre[0]) - reach, int(centre[1]) - reach
    x0, y0 = max(left, 0), max(top, 0)
    patch = grey[y0 : top + 2 * reach, x0 : left + 2 * reach]
    origin = np.array([x0, y0], dtype=float)
    patch, shrink = _reduced(patch, side, MOUTH_SIZE)
    unit = across / max(float(np.hypot(*across)), 1e-9)
    step = side / MOUTH_SIZE * np.array([[unit[0], -unit[1]], [unit[1], unit[0]]])
    first = centre - step @ np.full(2, (MOUTH_SIZE - 1) / 2)
    matrix = np.hstack([step * shrink[:, None], (((first - origin + 0.5) * shrink) - 0.5)[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(patch, matrix, (MOUTH_SIZE, MOUTH_SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _reduced(patch: np.ndarray, side: float, wanted: float) -> tuple[np.ndarray, np.ndarray]:
    """A patch by area interpolation, since a warp alone would alias if it shrinks `side` to `wanted`; and its scale."""
    import cv2

    shape = np.array(patch.shape[::-1])
    if side <= 1.2 * wanted:
        return patch, np.ones(2)
    size = np.maximum(np.round(shape * wanted / side), 1).astype(int)
    return cv2.resize(patch, tuple(size.tolist()), interpolation=cv2.INTER_AREA), size / shape


def _bend(grey: np.ndarray, centre: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The crop whose pixels lie at `offsets`, shape (88, 88, 2), from the centre; the edge of the frame is repeated."""
    import cv2

    last = np.array(grey.shape[::-1]) - 1
    source = np.clip(centre + offsets, 0, last)
    low, high = np.floor(source.min(axis=(0, 1))).astype(int), np.ceil(source.max(axis=(0, 1))).astype(int) + 1
    patch = grey[low[1] : high[1] + 1, low[0] : high[0] + 1]
    along, down = (np.median(np.hypot(*np.diff(offsets, axis=axis).reshape(-1, 2).T)) for axis in (1, 0))
    patch, shrink = _reduced(patch, np.sqrt(along * down), 1)
    places = ((source - low + 0.5) * shrink - 0.5).astype(np.float32)
    return cv2.remap(patch, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def _may_be_mouth(frame: Frame) -> bool:
    height, width = frame.size
    return height == width <= MAX_ROI_SIDE


def _resized(frame: Frame | None) -> tuple[np.ndarray, bool]:
    import cv2

    if frame is None:
        return np.zeros((MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8), False
    if frame.grey.shape == (MOUTH_SIZE, MOUTH_SIZE):
        return frame.grey, True
    method = cv2.INTER_AREA if frame.grey.shape[1] > MOUTH_SIZE else cv2.INTER_LINEAR
    return cv2.resize(frame.grey, (MOUTH_SIZE, MOUTH_SIZE), interpolation=method), True

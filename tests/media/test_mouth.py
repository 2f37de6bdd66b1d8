"""Which face is followed, when a frame is valid, and how the crop lies; with a tracker that sees drawn squares."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import pytest

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.errors import AvseError
from avse.media.faces.crop import INTERVAL, LOOKAHEAD, Frame, MouthCropper


def drawn(*squares: tuple[float, float, int], height: int = 120, width: int = 240) -> Frame:
    """A picture with squares given by left, top, and side; their brightness grows with the side."""
    picture = np.zeros((height, width, 3), np.uint8)
    for left, top, side in squares:
        picture[max(round(top), 0) : round(top) + side, max(round(left), 0) : round(left) + side] = 130 + side
    return Frame.from_array(picture)


def follow(tracker: MouthTracker, pictures: list[Frame | None], **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Brightness at the middle of each crop (the side of the square that was followed), and validity."""
    crops = list(MouthCropper(tracker, **options).run(pictures))
    middle = np.array([int(crop[44, 44]) - 130 for crop, _ in crops])
    return middle, np.array([valid for _, valid in crops])


def test_the_largest_face_is_followed_even_when_another_outgrows_it(squares: MouthTracker) -> None:
    pictures = [drawn((20, 40, 50), (150, 40, 40))] * 40 + [drawn((20, 40, 50), (150, 30, 60))] * 40
    sides, valid = follow(squares, pictures)
    assert valid.all() and (sides == 50).all()


def test_a_face_is_followed_as_it_moves_and_crosses_where_another_was(squares: MouthTracker) -> None:
    pictures = [drawn((10 + 2 * n, 40, 40), (190, 40, 36)) for n in range(60)]
    sides, valid = follow(squares, pictures, face=0)
    assert valid.all() and (sides == 40).all()


@pytest.mark.parametrize(("face", "side"), [(0, 30), (1, 44), (2, 36), ((150.0, 40.0, 40.0, 40.0), 36)])
def test_a_face_by_place_or_box(face: object, side: int, squares: MouthTracker) -> None:
    sides, valid = follow(squares, [drawn((10, 40, 30), (70, 40, 44), (150, 40, 36))] * 12, face=face)
    assert valid.all() and (sides == side).all()


def test_a_face_that_is_not_there(squares: MouthTracker) -> None:
    pictures = [drawn((10, 40, 40))] * 50 + [drawn((10, 40, 40), (150, 40, 40))] * 25
    with pytest.raises(AvseError, match=r"face 2 does not appear: at most 2 faces .*first at 2\.00 s"):
        follow(squares, pictures, face=2)
    with pytest.raises(AvseError, match=r"no face was found in the box 100,0,20,20"):
        follow(squares, pictures, face=(100.0, 0.0, 20.0, 20.0))
    with pytest.raises(AvseError, match="at most 0 faces appear"):
        follow(squares, [drawn()] * 10, face=0)


def test_a_face_that_leaves_is_not_replaced_by_one_that_was_beside_it(squares: MouthTracker) -> None:
    both, other = drawn((20, 40, 50), (150, 40, 40)), drawn((150, 40, 40))
    _, valid = follow(squares, [both] * 40 + [other] * 100)
    assert valid[:36].all() and not valid[40:].any()


def test_a_face_that_comes_back_is_followed_again(squares: MouthTracker) -> None:
    here, gone = drawn((20, 40, 50)), drawn()
    _, valid = follow(squares, [here] * 40 + [gone] * 60 + [here] * 40)
    assert valid[:36].all() and not valid[40:100].any() and valid[105:].all()


def test_a_cut_to_another_place_is_not_interpolated(squares: MouthTracker) -> None:
    sides, valid = follow(squares, [drawn((10, 40, 50))] * 42 + [drawn((180, 40, 40))] * 43)
    assert (sides[:41] == 50).all() and valid[:41].all()
    assert (sides[45:] == 40).all() and valid[45:].all()
    assert not valid[42:45].any()


def test_frames_between_detections_need_a_face_on_both_sides(squares: MouthTracker) -> None:
    """A detection that fails makes everything from the one before to the one after invalid."""
    here, gone = drawn((20, 40, 50)), drawn()
    pictures = [here] * 30
    pictures[15] = gone  # the fourth detection
    _, valid = follow(squares, pictures)
    assert valid.tolist() == [n <= 10 or n >= 20 for n in range(30)]


def test_the_last_frame_is_looked_at(squares: MouthTracker) -> None:
    here, gone = drawn((20, 40, 50)), drawn()
    assert follow(squares, [here] * 13)[1].all()
    assert follow(squares, [here] * 12 + [gone])[1].tolist() == [True] * 11 + [False] * 2
    assert follow(squares, [here] * 13 + [None] * 4)[1].tolist() == [True] * 13 + [False] * 4
    assert follow(squares, [None] * 3 + [here] * 7)[1].tolist() == [False] * 3 + [True] * 7


def test_an_endless_video_is_read_a_second_ahead_and_rarely_looked_at(squares: MouthTracker) -> None:
    taken = 0

    def pictures() -> Iterator[Frame]:
        nonlocal taken
        for _ in count():
            taken += 1
            yield drawn((20, 40, 50))

    crops = list(islice(MouthCropper(squares).run(pictures()), 200))
    assert len(crops) == 200 and taken <= 200 + LOOKAHEAD + 1
    assert squares.calls <= taken / INTERVAL + 1


class Marks(MouthTracker):
    """Gives the landmarks that were put into it, picture by picture."""

    def __init__(self, points: np.ndarray, noise: float = 0.0) -> None:
        self.points, self.noise, self.rng = points, noise, np.random.default_rng(0)

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        if frame.shape[:2] != (480, 640):  # only a look at the whole picture counts here
            return []
        eye_left, eye_right, mouth_left, mouth_right = map(
            tuple, self.points + self.noise * self.rng.standard_normal((4, 2))
        )
        left, top = self.points.min(axis=0) - 20
        width, height = np.ptp(self.points, axis=0) + 40
        return [Face((left, top, width, height), mouth_left, mouth_right, eye_left, eye_right)]


FRONTAL = np.array([[-40.0, -46.0], [40.0, -46.0], [-33.0, 46.0], [33.0, 46.0]])  # eyes and mouth corners


def turned(points: np.ndarray, degrees: float, scale: float, centre: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ turn.T + np.array(centre)


def spots(points: np.ndarray, size: float) -> Frame:
    """A dark picture with a bright spot at each corner of the mouth."""
    import cv2

    picture = np.zeros((480, 640, 3), np.uint8)
    for x, y in points[2:]:
        cv2.circle(picture, (round(x * 16), round(y * 16)), round(size * 16), (255, 255, 255), -1, cv2.LINE_AA, 4)
    return Frame.from_array(picture)


def corners(crop: np.ndarray) -> np.ndarray:
    """Centres of the spots in the left and right half of a crop."""
    found = []
    for half, start in ((crop[:, :44], 0), (crop[:, 44:], 44)):
        weight = half.astype(float)
        rows, columns = np.indices(half.shape)
        found.append(((weight * columns).sum() / weight.sum() + start, (weight * rows).sum() / weight.sum()))
    return np.array(found)


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("degrees", [-35, 0, 20])
def test_the_crop_is_centred_level_and_of_the_size_of_the_face(degrees: float, scale: float) -> None:
    points = turned(FRONTAL, degrees, scale, (320, 230))
    [(crop, valid), *_] = MouthCropper(Marks(points)).run([spots(points, 6 * scale)] * 3)
    side = 1.7 * 92  # of a frontal face with 92 pixels from eyes to mouth
    expected = 43.5 + 88 / side * np.array([[-33.0, 0.0], [33.0, 0.0]])
    assert valid and corners(crop) == pytest.approx(expected, abs=0.35)
    assert np.ptp(corners(crop)[:, 0]) / 88 == pytest.approx(0.42, abs=0.01)


def test_a_head_turned_to_the_side_keeps_the_size_of_the_crop() -> None:
    points = turned(FRONTAL * [0.5, 1.0], 0, 1.0, (320, 230))
    [(crop, _), *_] = MouthCropper(Marks(points)).run([spots(points, 6)] * 3)
    assert np.ptp(corners(crop)[:, 0]) == pytest.approx(33 * 88 / (1.7 * 92), abs=0.7)


def test_landmarks_are_smoothed_over_time() -> None:
    points = turned(FRONTAL, 0, 1.0, (320, 230))
    crops = [crop for crop, _ in MouthCropper(Marks(points, noise=2.0)).run([spots(points, 6)] * 100)]
    seen = np.stack([corners(crop) for crop in crops]) * (1.7 * 92 / 88)
    steps = np.diff(seen, axis=0)
    assert np.abs(steps).max() < 1.0  # two pixels of noise in each landmark; a jump is what a network sees
    assert np.std(seen[:, 0, 0] - seen[:, 1, 0]) < 1.0


def test_a_steady_movement_is_followed_without_delay() -> None:
    marks = Marks(FRONTAL)
    pictures = []
    for n in range(60):
        points = turned(FRONTAL, 0, 1.0, (200 + 3 * n, 230))
        pictures.append((points, spots(points, 6)))

    def moving() -> Iterator[Frame]:
        for points, picture in pictures:
            marks.points = points
            yield picture

    crops = [crop for crop, _ in MouthCropper(marks, roi="face").run(moving())]
    middle = np.stack([corners(crop).mean(axis=0) for crop in crops[15:45]])
    assert middle == pytest.approx(np.full((30, 2), 43.5), abs=0.4)


def test_crops_at_the_edge_and_mouths_outside_the_picture() -> None:
    edge = turned(FRONTAL, 0, 1.0, (320, 425))  # the mouth at row 471 of 480
    [(crop, valid), *_] = MouthCropper(Marks(edge)).run([spots(edge, 6)] * 3)
    assert valid and crop.any()
    outside = turned(FRONTAL, 0, 1.0, (320, 450))
    [(crop, valid), *_] = MouthCropper(Marks(outside)).run([spots(outside, 6)] * 3)
    assert not valid and not crop.any()


def test_mouth_crops_are_recognised_and_used_as_they_are(squares: MouthTracker) -> None:
    rng = np.random.default_rng(0)
    exact = Frame.from_array(np.repeat(rng.integers(0, 120, (88, 88, 1), dtype=np.uint8), 3, axis=2))
    [(crop, valid), *_] = MouthCropper(squares).run([exact] * 30)
    assert valid and np.array_equal(crop, exact.grey)
    for height, width, is_roi in ((96, 96, True), (128, 128, True), (130, 130, False), (96, 100, False)):
        picture = Frame.from_array(np.full((height, width, 3), 90, np.uint8))
        [(crop, valid), *_] = MouthCropper(squares).run([picture] * 30)
        assert valid is is_roi and (crop == (90 if is_roi else 0)).all()
    face = Frame.from_array(np.pad(np.full((60, 60, 3), 200, np.uint8), ((20, 20), (20, 20), (0, 0))))
    assert next(MouthCropper(squares).run([face] * 30))[0][44, 44] == 200
    assert next(MouthCropper(squares, roi="mouth").run([drawn((0, 0, 40))] * 3))[1]
    assert not next(MouthCropper(squares, roi="face").run([exact] * 3))[1]


def test_crops_of_large_faces_from_reduced_frames_lie_within_half_a_pixel(squares: MouthTracker) -> None:
    import cv2

    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(140, 250, (70, 70, 3), dtype=np.uint8), (561, 561), interpolation=cv2.INTER_CUBIC)
    divisors = []

    def frames(is_reduced: bool) -> Iterator[Frame]:
        for number in range(12):
            picture = np.zeros((1079, 1917, 3), np.uint8)
            picture[300 + number : 861 + number, 700 + 3 * number : 1261 + 3 * number] = np.maximum(texture, 130)
            frame = Frame.from_array(picture)

            def reduced(divisor: int, whole: Frame = frame) -> np.ndarray:
                divisors.append(divisor)
                return whole.reduced(divisor)

            yield (
                Frame(frame.size, reduced, frame.rgb)
                if is_reduced
                else Frame(frame.size, lambda _, whole=frame: whole.grey, frame.rgb)
            )

    pairs = zip(*(MouthCropper(squares, roi="face").run(frames(is_reduced)) for is_reduced in (True, False)))
    for (one, valid), (other, is_seen) in pairs:
        assert valid and is_seen
        (right, down), _ = cv2.phaseCorrelate(one.astype(np.float32), other.astype(np.float32))
        assert np.hypot(right, down) < 0.1
        assert np.abs(one.astype(float) - other).mean() < 3
    assert min(divisors[1:]) >= 2

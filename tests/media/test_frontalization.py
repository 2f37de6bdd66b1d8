"""Crops of turned heads are those of heads that look into the camera, and what cannot be trusted is not valid."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from posed_faces import face_model, turn
from turned_heads import surface, turned

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.data.cache import ClipCache
from avse.errors import AvseError
from avse.media.faces.crop import Frame, MouthCropper
from avse.mouth_trackers.frontalization import Frontalization

MODEL = face_model()
SCALE, CENTRE = 90.0, np.array([320.0, 150.0, 0.0])
SPOTS = (0, 8, 4, 12)  # corners of the mouth on the left and right, middle of the upper and of the lower lip
ANGLES = [(0, 0, 0), (30, 0, 0), (-40, 0, 0), (0, 20, 0), (0, -20, 0), (25, 10, 15)]


class Known(MouthTracker):
    """Knows the landmarks of the next pictures."""

    shape = MODEL

    def __init__(self, *landmarks: np.ndarray | None) -> None:
        self._landmarks, self._calls = landmarks, 0

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        if frame.shape[:2] != (480, 640):  # only a look at the whole picture counts here
            return []
        landmarks = self._landmarks[min(self._calls, len(self._landmarks) - 1)]
        self._calls += 1
        return [face_of(landmarks)]


def face_of(landmarks: np.ndarray | None) -> Face:
    seen = SCALE * MODEL.mean + CENTRE if landmarks is None or not np.isfinite(landmarks).all() else landmarks
    middle = lambda part: tuple(seen[list(MODEL.parts[part]), :2].mean(axis=0))
    (left, top), (right, bottom) = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    box = (left, top, right - left, bottom - top)
    return Face(box, *map(middle, ("mouth_left", "mouth_right", "eye_left", "eye_right")), landmarks=landmarks)


def posed(shape: np.ndarray, angles: tuple[float, float, float]) -> np.ndarray:
    return SCALE * shape @ turn(*angles)[0].T + CENTRE


def spot(place: np.ndarray) -> Frame:
    import cv2

    picture = np.zeros((480, 640, 3), np.uint8)
    x, y = (int(round(value * 16)) for value in place[:2])
    cv2.circle(picture, (x, y), 4 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return Frame.from_array(picture)


def found(crop: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(crop.shape)
    weight = crop.astype(float)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def where(tracker: MouthTracker, landmarks: np.ndarray) -> np.ndarray:
    """Where the spots are in the crop, shape (4, 2)."""
    return np.stack([found(next(MouthCropper(tracker).run([spot(landmarks[index])] * 3))[0]) for index in SPOTS])


@pytest.mark.parametrize("open_by", [0.0, 0.35])
@pytest.mark.parametrize("angles", ANGLES)
def test_lips_are_where_those_of_a_frontal_face_are(angles: tuple[float, float, float], open_by: float) -> None:
    """So the mouth opens as far as it truly does, and its corners are level and as far from the middle."""
    shape = MODEL.shapes(np.array([[open_by, 0.0, 0.0, 0.0]]))[0]
    frontal, landmarks = posed(shape, (0, 0, 0)), posed(shape, angles)
    expected = where(Known(frontal), frontal)
    straight = where(Frontalization(Known(landmarks)), landmarks)
    assert straight == pytest.approx(expected, abs=1.6)
    assert np.ptp(straight[2:, 1]) == pytest.approx(np.ptp(expected[2:, 1]), rel=0.08)
    if max(map(abs, angles[:2])) > 25:
        assert np.abs(where(Known(landmarks), landmarks) - expected).max() > 3


def test_a_frontal_head_gives_the_crop_of_other_trackers() -> None:
    rng = np.random.default_rng(0)
    import cv2

    noise = cv2.GaussianBlur(rng.uniform(0, 255, (480, 640, 3)), (0, 0), 3)
    picture = Frame.from_array(((noise - noise.min()) * 255 / np.ptp(noise)).astype(np.uint8))
    landmarks = posed(MODEL.mean, (0, 0, 0))
    [plain, *_], [bent, *_] = (
        list(MouthCropper(tracker).run([picture] * 3))
        for tracker in (Known(landmarks), Frontalization(Known(landmarks)))
    )
    assert np.abs(plain[0].astype(float) - bent[0]).mean() < 1.5


def test_a_turning_head_is_followed_between_detections() -> None:
    angles = np.linspace(-30, 30, 61)
    every = [posed(MODEL.mean, (angle, 0, 0)) for angle in angles]
    crops = MouthCropper(Frontalization(Known(*every[::5]))).run([spot(landmarks[0]) for landmarks in every])
    corner = np.stack([found(crop) for crop, _ in crops])[10:-10]
    assert np.ptp(corner, axis=0).max() < 1.5


def test_landmarks_that_go_astray_make_frames_invalid() -> None:
    good = posed(MODEL.mean, (20, 0, 0))
    rng = np.random.default_rng(0)
    astray = good + 15 * rng.standard_normal(good.shape)
    cropper = MouthCropper(Frontalization(Known(good, good, astray, good)))
    crops = [(crop, valid, cropper.confidence) for crop, valid in cropper.run([spot(good[4])] * 16)]
    valid = [seen for _, seen, _ in crops]
    trust = np.array([sure for _, _, sure in crops])
    assert valid[:6] == [True] * 6 and valid[10] is False and valid[15] is True
    assert trust[:6].min() > 0.9 and trust[10] == 0 and (np.diff(trust[5:10]) < 0).all()
    assert not crops[10][0].any()


@pytest.mark.parametrize("landmarks", [None, np.full_like(MODEL.mean, np.nan), np.zeros_like(MODEL.mean)])
def test_faces_without_landmarks_are_not_valid(landmarks: np.ndarray | None) -> None:
    crops = list(MouthCropper(Frontalization(Known(landmarks))).run([spot(CENTRE)] * 7))
    assert len(crops) == 7 and not any(valid for _, valid in crops)


def test_no_face_and_one_frame() -> None:
    class Nobody(Known):
        def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
            return []

    assert [valid for _, valid in MouthCropper(Frontalization(Nobody())).run([spot(CENTRE)] * 3)] == [False] * 3
    [(_, valid)] = MouthCropper(Frontalization(Known(posed(MODEL.mean, (9, 9, 9))))).run([spot(CENTRE)])
    assert valid


def test_what_is_no_source_of_landmarks(tmp_path: Path) -> None:
    from avse.mouth_trackers.mtcnn import MTCNN

    with pytest.raises(AvseError, match="gives no 3-D landmarks"):
        Frontalization(MTCNN())
    replace(MODEL, mean=MODEL.mean[:50], basis=MODEL.basis[:, :50]).save(tmp_path / "other.npz")
    other = Frontalization(Known(posed(MODEL.mean, (0, 0, 0))), shape=str(tmp_path / "other.npz"))
    with pytest.raises(AvseError, match="of other landmarks"):
        list(MouthCropper(other).run([spot(CENTRE)] * 3))
    for wrong in ({"min_confidence": 2.0}, {"mu": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}"):
            Frontalization(Known(), **wrong)


def test_crops_are_kept_apart_by_the_settings_of_tracker_and_source(tmp_path: Path) -> None:
    from avse.mouth_trackers.haar import Haar

    one, same, other = (ClipCache(tmp_path, tracker) for tracker in (Haar(), Haar(), Haar(min_face=0.3)))
    assert one._crops == same._crops != other._crops
    assert repr(Haar(min_face=0.3)) == "Haar(min_face=0.3, neighbours=4)"
    assert "source=Known()" in repr(Frontalization(Known()))


REAL = ("grid/s2/pwij3p", "lrwar/a24/19388", "lrwar/a29/09458")


class Fixed(MouthTracker):
    """Gives one face, for one picture."""

    def __init__(self, face: Face, shape: object) -> None:
        self.face, self.shape = face, shape

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        return [self.face]


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Zero-mean normalised cross-correlation of the middle of two crops."""
    return float(np.corrcoef(one[14:74, 14:74].ravel(), other[14:74, 14:74].ravel())[0, 1])


@pytest.mark.parametrize("clip", REAL)
def test_real_heads_that_are_turned(clip: str, data_folder: Path) -> None:
    """A frame is turned in space; the network sees only the turned picture. Three spots lie on the lips."""
    import av
    import cv2

    mesh = pytest.importorskip("avse_face_mesh").FaceMesh()
    with av.open(str(data_folder / "av" / f"{clip}.mp4")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    [own] = mesh.detect(picture)
    depth, middle = surface(own.landmarks, picture.shape), own.landmarks.mean(axis=0)
    spotted = [picture.copy() for _ in range(3)]
    for copy, index in zip(
        spotted, (61, 0, 291)
    ):  # a corner of the mouth, the middle of the upper lip, the other corner
        x, y = (int(round(value * 16)) for value in own.landmarks[index, :2])
        cv2.circle(copy, (x, y), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    crop = lambda kind, face, seen: next(MouthCropper(kind(face), roi="face").run([Frame.from_array(seen)]))[0]
    plain, straight = lambda face: Fixed(face, None), lambda face: Frontalization(Fixed(face, mesh.shape))
    reference = crop(straight, own, picture)
    assert likeness(crop(plain, own, picture), reference) > 0.85  # the heads nearly look into the camera
    gains, lopsided = [], []
    for angles in ((30, 0, 0), (-30, 0, 0), (0, 20, 0), (0, -20, 0)):
        rotation = turn(*angles)[0]
        other, *marked = (turned(one, depth, rotation, middle) for one in (picture, *spotted))
        face = max(mesh.detect(other), key=lambda one: one.size)
        crops = [crop(kind, face, other) for kind in (plain, straight)]
        gains.append(likeness(crops[1], reference) - likeness(crops[0], reference))
        if angles[0]:
            for kind, bare in zip((plain, straight), crops):
                difference = [np.abs(crop(kind, face, one).astype(float) - bare) for one in marked]
                left, mid, right = (found(np.where(one > 0.3 * one.max(), one, 0.0))[0] for one in difference)
                lopsided.append(abs(np.log((mid - left) / (right - mid))))
    before, after = np.mean(lopsided[::2]), np.mean(lopsided[1::2])
    print(f"{clip}: likeness gains {np.round(gains, 2)}, lopsided {before:.2f} -> {after:.2f}")
    assert np.mean(gains) > 0.1 and min(gains) > 0.0
    assert after < 0.6 * before


def test_costs_a_small_multiple_of_its_source(data_folder: Path) -> None:
    import av

    mesh = pytest.importorskip("avse_face_mesh").FaceMesh()
    with av.open(str(data_folder / "av" / f"{REAL[0]}.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(40))]
    seconds = {}
    for tracker in (mesh, Frontalization(mesh)):
        list(MouthCropper(tracker).run([Frame.from_array(frame) for frame in frames[:2]]))  # loads networks
        start = time.process_time()
        crops = list(MouthCropper(tracker).run([Frame.from_array(frame) for frame in frames]))
        seconds[tracker] = time.process_time() - start
        assert all(valid for _, valid in crops)
    print(
        {type(tracker).__name__: f"{1000 * value / len(frames):.1f} ms a frame" for tracker, value in seconds.items()}
    )
    assert seconds[tracker] < 5 * seconds[mesh]

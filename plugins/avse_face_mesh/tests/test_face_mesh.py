"""The tracker keeps the promises of its kind, and its points stay on the face however the picture is turned."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

from avse.datasets.synthetic import synthesize_clip
from avse.testing import parametrize_with_checks
from avse_face_mesh import FaceMesh
from avse_face_mesh.detector import MODELS, _anchors, _merge


@parametrize_with_checks(FaceMesh)
def test_conformance(plugin, check):
    check(plugin)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A drawn face in the middle of a picture with room around it, (400, 400, 3)."""
    _, frames, _ = synthesize_clip(seed=5, speaker=12, seconds=0.5)
    return np.pad(frames[0], ((72, 72), (72, 72), (0, 0)), mode="edge")


def moved(picture: np.ndarray, degrees: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    matrix = cv2.getRotationMatrix2D((199.5, 199.5), degrees, scale)
    return cv2.warpAffine(picture, matrix, (400, 400), borderMode=cv2.BORDER_REPLICATE), matrix


@pytest.mark.parametrize(("degrees", "scale"), [(20.0, 1.0), (-35.0, 0.8), (0.0, 0.5)])
def test_points_move_with_the_face(picture: np.ndarray, degrees: float, scale: float) -> None:
    tracker = FaceMesh()
    [before] = tracker.meshes(picture)
    other, matrix = moved(picture, degrees, scale)
    [after] = tracker.meshes(other)
    expected = before.points @ matrix[:, :2].T + matrix[:, 2]
    size = scale * np.ptp(before.points, axis=0).max()
    assert np.hypot(*(after.points - expected).T).mean() < 0.02 * size


def test_parts_of_the_face_are_where_they_belong(picture: np.ndarray) -> None:
    tracker = FaceMesh()
    [face], [mesh] = tracker.detect(picture), tracker.meshes(picture)
    (left, top), (right, bottom) = face.mouth_left, face.mouth_right
    eyes = np.add(face.eye_left, face.eye_right) / 2
    assert left < right and face.eye_left[0] < face.eye_right[0]
    assert eyes[1] < min(top, bottom) < face.box[1] + face.box[3]
    assert face.score == mesh.score > 0.5
    assert mesh.outer_lip.shape == mesh.inner_lip.shape == (20, 2)
    for lip in (mesh.outer_lip, mesh.inner_lip):  # from corner to corner above, and back below
        assert lip[0, 0] == lip[:, 0].min() and lip[10, 0] == lip[:, 0].max()
        assert lip[1:10, 1].mean() < lip[11:, 1].mean()
    area = lambda lip: abs(np.sum(lip[:, 0] * np.roll(lip[:, 1], 1) - lip[:, 1] * np.roll(lip[:, 0], 1))) / 2
    assert area(mesh.inner_lip) < area(mesh.outer_lip)
    np.testing.assert_allclose(face.mouth_left, (mesh.outer_lip[0] + mesh.inner_lip[0]) / 2)


def test_a_small_face_is_found_unless_it_is_below_the_smallest_asked_for(picture: np.ndarray) -> None:
    import cv2

    small = cv2.resize(picture, (140, 140), interpolation=cv2.INTER_AREA)
    wide = np.full((360, 640, 3), 90, dtype=np.uint8)
    wide[100:240, 400:540] = small
    [face] = FaceMesh().detect(wide)
    assert 400 < face.mouth_left[0] < face.mouth_right[0] < 540
    assert FaceMesh().detect(wide, min_size=300.0) == []


def test_two_faces_are_two(picture: np.ndarray) -> None:
    both = np.hstack([picture, picture])
    one, two = sorted(FaceMesh().detect(both), key=lambda face: face.centre)
    assert two.centre[0] - one.centre[0] == pytest.approx(400, abs=4)


def test_anchors_are_those_of_the_network() -> None:
    """Two at each place of a grid of 8 pixels, then six at each of a grid of 16, row by row."""
    naive = [
        (stride * (column + 0.5), stride * (row + 0.5))
        for stride, count in ((8, 2), (16, 6))
        for row in range(128 // stride)
        for column in range(128 // stride)
        for _ in range(count)
    ]
    assert len(naive) == 896
    np.testing.assert_allclose(_anchors(128), naive)


def test_candidates_of_one_face_are_averaged() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60], [5, 5, 5, 9]])
    found = _merge(boxes, np.zeros((4, 6, 2)), np.array([0.6, 0.9, 0.7, 0.95]))
    assert [one.score for one in found] == [0.9, 0.7]  # the box without width is none
    np.testing.assert_allclose(found[0].box, [0.4 * 0 + 0.6 * 2, 0, 0.4 * 10 + 0.6 * 12, 10])


def test_networks_are_the_published_ones() -> None:
    stated = dict(re.findall(r"`(\w+\.tflite)`.*`([0-9a-f]{64})`", (MODELS / "README.md").read_text(encoding="utf-8")))
    assert stated == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in MODELS.glob("*.tflite")}


@pytest.mark.parametrize("arguments", [{"min_face": 0.0}, {"min_face": 1.5}, {"passes": 0}])
def test_refuses_what_it_cannot_be(arguments: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        FaceMesh(**arguments)

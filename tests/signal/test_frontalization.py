"""Pose and shape are found where a third of the landmarks are wrong, and least squares are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from posed_faces import angle_between, face_model, opening, turn

from avse.errors import AvseError
from avse.media.faces.head_pose import PoseFit, confidence, fit, procrustes, smooth
from avse.media.faces.shape_model import ShapeModel

MODEL = face_model()
POINTS, MODES = len(MODEL.mean), len(MODEL.basis)
FRAMES = 60


class Scene:
    """Faces in poses, as a landmark source would see them: scale 90 pixels, 1 % noise, some landmarks elsewhere."""

    def __init__(self, outliers: float, noise: float = 0.01, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.coefficients = rng.standard_normal((FRAMES, MODES)) * np.sqrt(MODEL.variance)
        self.coefficients[:, 0] = np.abs(self.coefficients[:, 0])
        self.rotation = turn(rng.uniform(-50, 50, FRAMES), rng.uniform(-25, 25, FRAMES), rng.uniform(-20, 20, FRAMES))
        self.scale, self.shift = rng.uniform(60, 120, FRAMES), rng.uniform(100, 200, (FRAMES, 3))
        self.shapes = MODEL.shapes(self.coefficients)
        clean = self.scale[:, None, None] * (self.shapes @ self.rotation.mT) + self.shift[:, None]
        noise = self.scale[:, None, None] * noise * rng.standard_normal(clean.shape)
        self.wrong = rng.permuted(np.tile(np.arange(POINTS) < round(outliers * POINTS), (FRAMES, 1)), axis=1)
        # All to one side, as by a hand before the face: errors that do not cancel.
        away = self.scale[:, None, None] * ([0.9, 0.5, -0.6] + 0.3 * rng.standard_normal(clean.shape))
        self.landmarks = clean + noise + np.where(self.wrong[..., None], away, 0.0)

    def errors(self, found: PoseFit) -> tuple[float, float]:
        """Median angle of the rotation's error in degrees, and mean distance of the shape's landmarks from the true."""
        shape = np.linalg.norm(MODEL.shapes(found.coefficients) - self.shapes, axis=2).mean()
        return float(np.median(angle_between(found.rotation, self.rotation))), float(shape)


def test_pose_and_shape_are_found_in_noise() -> None:
    scene = Scene(outliers=0.0)
    found = fit(scene.landmarks, MODEL)
    angle, shape = scene.errors(found)
    assert found.usable.all() and angle < 0.3 and shape < 0.004
    assert np.abs(found.scale / scene.scale - 1).max() < 0.03


def test_pose_and_shape_are_found_with_30_percent_outliers_where_least_squares_fail() -> None:
    scene = Scene(outliers=0.3)
    robust, squares = (scene.errors(fit(scene.landmarks, MODEL, robust=robust)) for robust in (True, False))
    assert robust[0] < 0.5 and robust[1] < 0.006
    assert squares[0] > 3.0 and squares[1] > 0.03


def test_outliers_get_small_weights() -> None:
    scene = Scene(outliers=0.3)
    weights = fit(scene.landmarks, MODEL).weights
    good, bad = weights[~scene.wrong], weights[scene.wrong]
    auc = (np.searchsorted(np.sort(bad), good) / len(bad)).mean()
    assert auc > 0.99
    assert weights.min() >= 0 and weights.max() <= 1 and np.median(good) > 5 * np.median(bad)


def test_the_likelihood_never_falls() -> None:
    """Generalised expectation-maximisation, from the round on in which errors have a full covariance."""
    scene = Scene(outliers=0.2)
    model = replace(MODEL, noise=1e-6)  # else the least covariance depends on the scale
    values = []
    for iterations in range(7, 20, 2):
        found = fit(scene.landmarks, model, iterations=iterations)
        shapes = model.shapes(found.coefficients)
        seen = found.scale[:, None, None] * (shapes @ found.rotation.mT) + found.translation[:, None]
        error = scene.landmarks - seen
        distance = np.einsum("fjc,fcd,fjd->fj", error, np.linalg.inv(found.covariance), error)
        log_t = -3.0 * np.log1p(distance / 3.0) - np.linalg.slogdet(found.covariance)[1][:, None] / 2
        values.append(log_t.sum(axis=1) - (np.square(found.coefficients) / model.variance).sum(axis=1) / 2)
    assert (np.diff(values, axis=0) > -1e-6 * np.abs(values[0])).all()
    assert (values[-1] > values[0] + 0.1).mean() > 0.8


def test_expressions_are_preserved() -> None:
    """Seen from the front, the mouth opens as it truly does; seen as the head is turned, it does not."""
    scene = Scene(outliers=0.0, noise=0.002)
    found = fit(scene.landmarks, MODEL)
    truth = opening(scene.shapes)
    assert np.ptp(truth) > 0.5 and np.abs(opening(scene.landmarks) - truth).mean() > 0.05
    for frontal in (found.frontal(scene.landmarks), MODEL.shapes(found.coefficients)):
        assert np.abs(opening(frontal) - truth).max() < 0.02


def test_weighted_procrustes_is_that_of_scipy() -> None:
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(3)
    shapes, landmarks, weights = rng.standard_normal((2, 7, 12, 3)).tolist() + [rng.uniform(0, 1, (7, 12))]
    shapes, landmarks = np.array(shapes), np.array(landmarks)
    rotation, scale, translation = procrustes(shapes, landmarks, weights)
    for p, y, w, r, s, t in zip(shapes, landmarks, weights, rotation, scale, translation):
        middle, target = np.average(p, axis=0, weights=w), np.average(y, axis=0, weights=w)
        expected = Rotation.align_vectors(y - target, p - middle, weights=w)[0].as_matrix()
        np.testing.assert_allclose(r, expected, atol=1e-6)
        turned = (p - middle) @ expected.T
        best = (w[:, None] * (y - target) * turned).sum() / (w[:, None] * turned**2).sum()
        assert s == pytest.approx(best, abs=1e-6)
        np.testing.assert_allclose(t, target - s * expected @ middle, atol=1e-6)


def test_a_mirror_image_is_not_taken_for_a_rotation() -> None:
    rotation, _, _ = procrustes(MODEL.mean[None], (MODEL.mean * [-1, 1, 1])[None, ::-1], np.ones((1, POINTS)))
    assert np.linalg.det(rotation[0]) == pytest.approx(1.0)


def test_the_smoother_is_the_joint_solution() -> None:
    """Against one linear system over all frames, frames without evidence and uneven steps among them."""
    rng = np.random.default_rng(1)
    frames = 9
    steps = np.cumsum(rng.integers(1, 7, frames))
    root = rng.standard_normal((frames, MODES, MODES))
    precision = root @ root.mT * 30
    evidence = rng.standard_normal((frames, MODES)) * 10
    precision[4], evidence[4] = 0.0, 0.0
    found = replace(fit(np.tile(MODEL.mean, (frames, 1, 1)), MODEL), precision=precision, evidence=evidence)
    system, right = np.zeros((frames * MODES, frames * MODES)), evidence.ravel()
    block = lambda t: slice(t * MODES, (t + 1) * MODES)
    for t in range(frames):
        system[block(t), block(t)] += precision[t]
        if t == 0:
            system[block(t), block(t)] += np.diag(1 / MODEL.variance)
            continue
        kept = MODEL.memory ** (steps[t] - steps[t - 1])
        perturbed = np.diag(1 / ((1 - kept**2) * MODEL.variance))
        system[block(t), block(t)] += perturbed
        system[block(t - 1), block(t - 1)] += np.diag(kept) @ perturbed @ np.diag(kept)
        system[block(t), block(t - 1)] -= perturbed @ np.diag(kept)
        system[block(t - 1), block(t)] -= np.diag(kept) @ perturbed
    expected = np.linalg.solve(system, right).reshape(frames, MODES)
    np.testing.assert_allclose(smooth(found, MODEL, steps), expected, atol=1e-9)


def test_smoothing_over_time_and_a_second_fit_help() -> None:
    """A face that hardly changes, in strong noise: the smoothed shape is nearer, and so is the pose fitted to it."""
    rng = np.random.default_rng(2)
    shape = np.repeat(rng.standard_normal((1, MODES)) * np.sqrt(MODEL.variance), FRAMES, axis=0)
    rotation = turn(np.linspace(-40, 40, FRAMES), np.zeros(FRAMES), np.zeros(FRAMES))
    clean = 90 * (MODEL.shapes(shape) @ rotation.mT)
    landmarks = clean + 90 * 0.08 * rng.standard_normal(clean.shape)
    alone = fit(landmarks, MODEL)
    coefficients = smooth(alone, MODEL)
    again = fit(landmarks, MODEL, coefficients=coefficients)
    far = lambda a: np.square((a - shape) / np.sqrt(MODEL.variance)).mean()
    assert far(coefficients) < 0.5 * far(alone.coefficients)
    assert angle_between(again.rotation, rotation).mean() < angle_between(alone.rotation, rotation).mean()


def test_confidence_falls_when_a_part_or_all_is_wrong() -> None:
    scene = Scene(outliers=0.0)
    found = fit(scene.landmarks, MODEL)
    good = confidence(found, scene.landmarks, MODEL)
    hidden = scene.landmarks.copy()
    hidden[:, list(MODEL.parts["mouth"])] += scene.scale[:, None, None] * np.array([0.3, 0.2, 0.1])
    noisy = scene.landmarks + 20 * np.random.default_rng(4).standard_normal(scene.landmarks.shape)
    for wrong in (hidden, noisy):
        assert confidence(fit(wrong, MODEL), wrong, MODEL).mean() < 0.3 * good.mean()
    assert good.min() > 0.5


@pytest.mark.filterwarnings("error")
def test_degenerate_input() -> None:
    line = np.linspace(0, 50, POINTS)[:, None] * [1.0, 2.0, 0.5]
    few = np.full((POINTS, 3), np.nan)
    few[:3] = MODEL.mean[:3]
    half = 90 * MODEL.mean
    half[::2] = np.nan
    cases = np.stack([line, np.full((POINTS, 3), np.nan), few, np.full((POINTS, 3), 7.0), half, 90 * MODEL.mean])
    found = fit(cases, MODEL)
    assert found.usable.tolist() == [False, False, False, False, True, True]
    assert not found.weights[:4].any() and (found.rotation[:4] == np.eye(3)).all()
    assert (found.weights[4, ::2] == 0).all() and found.weights[4, 1::2].min() > 0.2
    assert angle_between(found.rotation[4:], np.eye(3)[None]).max() < 0.5
    for value in vars(found).values():
        assert np.isfinite(value).all()
    assert confidence(found, cases, MODEL)[:4].max() == 0
    assert np.isfinite(smooth(found, MODEL)).all()
    for count in (1, 0):
        one = fit(cases[-1:][:count], MODEL)
        assert one.rotation.shape == (count, 3, 3) and smooth(one, MODEL).shape == (count, MODES)


def test_every_frame_is_fitted_by_itself() -> None:
    scene = Scene(outliers=0.3)
    together, alone = fit(scene.landmarks[:4], MODEL, iterations=20), fit(scene.landmarks[2:3], MODEL, iterations=20)
    np.testing.assert_allclose(together.rotation[2], alone.rotation[0], atol=1e-3)
    with pytest.raises(ValueError, match=rf"\(frames, {POINTS}, 3\)"):
        fit(scene.landmarks[:, :5], MODEL)


def test_a_shape_model_goes_through_a_file(tmp_path: Path) -> None:
    MODEL.save(tmp_path / "shape.npz")
    read = ShapeModel.load(tmp_path / "shape.npz")
    np.testing.assert_allclose(read.basis, MODEL.basis, atol=1e-6)
    assert read.parts == MODEL.parts and read.noise == pytest.approx(MODEL.noise)
    (tmp_path / "none.npz").write_bytes(b"nothing")
    for wrong in ("none.npz", "missing.npz"):
        with pytest.raises(AvseError, match="is not a shape model"):
            ShapeModel.load(tmp_path / wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": MODEL.mean[:5]}, "basis must be"),
        ({"variance": np.zeros(4)}, "must be above 0"),
        ({"memory": np.ones(4)}, "below 1"),
        ({"parts": {"mouth": (1,)}}, "eye_left"),
        ({"parts": {**MODEL.parts, "mouth": (POINTS,)}}, "indices"),
        ({"mean": MODEL.mean * np.nan}, "finite"),
    ],
)
def test_a_shape_model_that_cannot_be(changed: dict, message: str) -> None:
    with pytest.raises(AvseError, match=message):
        replace(MODEL, **changed)

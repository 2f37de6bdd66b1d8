"""Looks of people, against densities that are computed one by one in float64."""

from __future__ import annotations

import numpy as np
import torch

from avse.priors.vae.mouth_gallery import MouthGallery


def _mouths(clips: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, 30, 88, 88), generator=generator).byte()


def _look(mouth: np.ndarray) -> np.ndarray:
    mean = mouth.astype(np.float64).mean(axis=0) / 255
    edges = [(k * 88) // 16 for k in range(16)], [-(-(k + 1) * 88 // 16) for k in range(16)]
    cells = [(low, high) for low, high in zip(*edges)]
    picture = np.array([[mean[a:b, c:d].mean() for c, d in cells] for a, b in cells]).ravel()
    return picture - picture.mean()


def test_densities_are_those_of_gaussians_fitted_to_looks() -> None:
    mouth = _mouths(12, 0)
    mouth[::2, :, 44:] //= 2
    who = [0, 1] * 6
    valid = torch.ones(12, 30).bool()
    valid[3, 21:] = False
    valid[4, 19:] = False  # too little to learn from
    looks = MouthGallery(2)
    looks.learn(mouth[:5], valid[:5], who[:5])
    looks.learn(mouth[5:], valid[5:], who[5:])

    who.pop(4)
    seen = np.stack([_look(one.numpy()[:25][ok.numpy()[:25]]) for one, ok in zip(mouth, valid) if ok[:25].sum() > 19])
    means = np.stack([np.mean([x for x, k in zip(seen, who) if k == person], axis=0) for person in (0, 1)])
    within = np.mean([np.outer(x - means[k], x - means[k]) for x, k in zip(seen, who)], axis=0)
    total = np.mean([np.outer(x - seen.mean(axis=0), x - seen.mean(axis=0)) for x in seen], axis=0)

    def density(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
        shrunk = covariance + 0.005 * np.trace(covariance) / 256 * np.eye(256)
        apart = x - mean
        return -0.5 * apart @ np.linalg.solve(shrunk, apart) - 0.5 * np.linalg.slogdet(shrunk)[1]

    new = _mouths(3, 1)
    found = looks(MouthGallery.images(new, torch.ones(3, 30)))
    for row, clip in enumerate(new):
        x = _look(clip.numpy())
        expected = [density(x, seen.mean(axis=0), total)] + [density(x, mean, within) for mean in means]
        np.testing.assert_allclose(found[row], expected, rtol=1e-3)


def test_strangers_are_anybody() -> None:
    generator = torch.Generator().manual_seed(2)
    faces = torch.randint(0, 200, (9, 8, 8), generator=generator).repeat_interleave(11, 1).repeat_interleave(11, 2)
    clips = faces[:, None].repeat_interleave(12, dim=0) + torch.randint(0, 55, (108, 25, 88, 88), generator=generator)
    clips, valid = clips.byte(), torch.ones(108, 25)
    looks = MouthGallery(8)
    looks.learn(clips[:80], valid[:80], [row // 12 for row in range(80)])  # of the eighth, nothing is seen
    told = looks(MouthGallery.images(clips, valid)).argmax(dim=1)
    assert told[80 + 4 : 96].tolist() == [0] * 12
    assert told[96:].tolist() == [0] * 12
    assert told[:80].tolist() == [1 + row // 12 for row in range(80)]


def test_nothing_learned_says_nothing() -> None:
    looks = MouthGallery(3)
    mouth = _mouths(2, 3)
    assert looks(MouthGallery.images(mouth, torch.ones(2, 30))).tolist() == [[0.0] * 4] * 2
    looks.learn(mouth, torch.zeros(2, 30), [0, 1])
    assert not looks.count.any()
    assert not MouthGallery.images(mouth, torch.zeros(2, 30)).any()

"""Noise models that are told what the noise is: what they are untold, and what right and wrong descriptions do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avse.contracts.types import Batch, Clip
from avse.inference.em.vem import VEM
from avse.nnet.noise_estimator import SceneNoiseEstimator
from avse.noise_models.conditioned_nmf import ConditionedNMF
from avse.noise_models.prior_nmf import PriorNMF
from avse.priors.vae.vae import VAE
from avse.signal.bands import frequency_bands
from avse.signal.scenes import BANDS, SOUND, combined, sound_spectra, with_sound
from avse.training.noise_estimator import Told, learn_noise_estimator


def _power(*lengths: int, bins: int = 65) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    power = torch.rand(len(lengths), max(lengths), bins, generator=generator).square()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return power * mask[..., None], mask


def _scenes(count: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, 128, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_without_a_scene_it_is_prior_nmf_bit_for_bit() -> None:
    (power, mask), told, free = _power(30, 22), ConditionedNMF(rank=3), PriorNMF(rank=3)
    mixed = torch.stack([torch.zeros(128), _scenes(1)[0]])
    states = [told.initial_state(power, mask), told.initial_state(power, mask, mixed), free.initial_state(power, mask)]
    assert states[0].keys() == states[2].keys() and states[1]["trust"][0] == 0 < states[1]["trust"][1]
    for _ in range(3):
        for name, wanted in states[2].items():
            assert torch.equal(states[0][name], wanted) and torch.equal(states[1][name][0], wanted[0])
            assert not torch.equal(states[1][name][1], wanted[1])
        states = [model.update_from_power(s, power, mask) for model, s in zip((told, told, free), states)]


def test_told_gains_against_loops_and_told_spectra_are_held() -> None:
    """Bins count by the square of their share of noise; a clip that is told no sound has no spectra of one."""
    (power, mask), model = _power(6, 6, bins=17), ConditionedNMF(rank=1, nearest=2).double()
    power = power.double()
    sound = with_sound(_scenes(1)[0], [sound_spectra(torch.sin(torch.arange(8000.0)))])
    state = model.initial_state(power, mask, torch.stack([with_sound(_scenes(1)[0], []), sound]).double())
    spectra = state["told_spectra"][:, 0].numpy()
    assert spectra.shape == (2, 24, 17) and not spectra[0, 8:].any()
    np.testing.assert_allclose(spectra[1].sum(axis=1), 1, rtol=1e-9)
    moved = model.update_from_power(state, power, mask)
    assert torch.equal(moved["told_spectra"], state["told_spectra"])
    gains, free = state["told_gains"].numpy(), (state["gains"] @ state["spectra"]).numpy()
    for row, frame, place in [(0, 0, 0), (0, 3, 7), (1, 2, 4), (1, 5, 23)]:
        above = below = 0.0
        for bin_, observed in enumerate(power[row, frame].tolist()):
            variance = free[row, frame, bin_] + sum(g * s[bin_] for g, s in zip(gains[row, frame], spectra[row]))
            share = min(1.0, variance / variance) ** 4
            above += share * spectra[row, place, bin_] * observed / variance**2
            below += share * spectra[row, place, bin_] / variance
        wanted = max(1e-10, gains[row, frame, place] * (above / below) ** 0.5)
        assert float(moved["told_gains"][row, frame, place]) == pytest.approx(wanted, rel=1e-6)
    half = model.share(state, 0.5 / model.variance(state))
    torch.testing.assert_close(half, torch.full_like(half, 0.5**4))


def test_the_nearest_recordings_are_told() -> None:
    model = ConditionedNMF(nearest=3)
    found = model.told_spectra(model.embeddings[5:7], torch.zeros(BANDS))
    own = (model.levels[5] @ frequency_bands(BANDS, torch.zeros(BANDS))[0]).softmax(dim=1)
    assert found.shape == (2, 3 * 4 + SOUND // BANDS, BANDS)
    torch.testing.assert_close(found[0, :4], own)


def test_spectra_of_a_sound_are_those_of_its_parts() -> None:
    time = torch.arange(16000) / 16000
    low, high = (torch.sin(2 * torch.pi * hz * time) for hz in (300, 3000))
    spectra = sound_spectra(torch.cat([low, high]), count=2).exp()
    to_bands = frequency_bands(BANDS, torch.zeros(8001))[1]  # a bin is one hertz
    assert sorted(spectra.argmax(dim=1).tolist()) == [int(to_bands[hz].argmax()) for hz in (300, 3000)]
    torch.testing.assert_close(spectra.sum(dim=1), torch.ones(2))
    assert sound_spectra(torch.zeros(10)).isfinite().all()


def test_a_batch_gives_what_its_clips_give_each_with_its_scene() -> None:
    torch.manual_seed(0)
    prior = VAE(latent_dim=4, hidden_dim=8, fft_size=640, noisy_encoder_layers=1)
    system = VEM(prior, ConditionedNMF(rank=2), iterations=3).eval()
    rng = np.random.default_rng(0)
    clips = [Clip(rng.standard_normal(n).astype(np.float32)) for n in (6400, 3200, 5000)]
    scenes = torch.cat([_scenes(2), torch.zeros(1, 128)])
    with torch.no_grad():
        together = system(replace(Batch.from_clips(clips), scene=scenes)).unbind()
        for row, clip in enumerate(clips):
            [alone] = system(replace(Batch.from_clips([clip]), scene=scenes[row : row + 1])).unbind()
            torch.testing.assert_close(together[row].speech, alone.speech, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(together[row].scene_trust, alone.scene_trust)
        [untold] = system(Batch.from_clips(clips[2:])).unbind()
    assert untold.scene_trust is None and torch.equal(untold.speech, alone.speech)


def test_descriptions_are_averaged_and_what_the_noise_is_not_is_subtracted() -> None:
    one, two, three = _scenes(3).double().numpy()
    mean = (one + two) / 2 - three
    got = combined(list(torch.tensor(np.stack([one, two]))), [torch.tensor(three)])
    np.testing.assert_allclose(got, mean / np.sqrt(sum(value * value for value in mean)), rtol=1e-6)
    np.testing.assert_allclose(combined([], [torch.tensor(one)]), -one, rtol=1e-6)
    with pytest.raises(ValueError, match="nothing"):
        combined([])


def test_cross_entropy_of_the_evidence_against_loops() -> None:
    own = torch.eye(4, dtype=torch.float64)[[0, 1, 1, 3]]
    own[3] = 0
    right = torch.tensor([1.0, 0.0, torch.nan, 0.0], dtype=torch.float64)
    drawn, pairs = torch.tensor([0.3, -1.0, 5.0, 2.0]).double(), torch.arange(16.0).reshape(4, 4).double() / 7 - 1

    def cost(logit: float, wanted: bool) -> float:
        return float(np.log1p(np.exp(-logit if wanted else logit)))

    costs = [cost(0.3, True), cost(-1.0, False), cost(2.0, False)]
    # The second and the third are alike; the fourth is not described.
    costs += [cost(float(pairs[i, j]), i == j) for i, j in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 2)]]
    assert float(Told(own, right, own).cross_entropy(drawn, pairs)) == pytest.approx(np.mean(costs))


def test_the_right_description_helps_and_a_wrong_one_costs_nothing() -> None:
    """Noise and speech are two of three tones; which is noise the audio does not say, but which are there it does."""
    torch.manual_seed(0)
    prior = VAE(latent_dim=4, hidden_dim=8, fft_size=640, noisy_encoder_layers=1).requires_grad_(False)
    time = np.arange(32000) / 16000
    tones = [np.sin(2 * np.pi * hz * time) + 0.01 * np.cos(9 * hz * time) for hz in (500, 1500, 4000)]
    scenes = [torch.eye(3)[place : place + 1] for place in range(3)]
    estimator = SceneNoiseEstimator(3, bands=12, hidden_dim=16, layers=1)
    common = {"batch_size": 8, "rate": 0.02, "snr": (0.0, 0.0), "simulated": 0.0}
    learn_noise_estimator(estimator, prior, tones[:2], tones, steps=120, scenes=scenes, **common)
    noise, speech = (prior.analyse(torch.tensor(tones[place], dtype=torch.float32)[None, :24000]) for place in (0, 1))
    scale = 0.05 / 2**0.5 / (noise.abs().square().mean() / 640).sqrt()
    power, mask = (noise + speech).mul(scale).abs().square(), torch.ones(1, noise.shape[1], dtype=torch.bool)
    wanted = noise.mul(scale).abs().square() + 1e-7 * 320

    def cost(scene: torch.Tensor) -> float:
        with torch.no_grad():
            variance = estimator.told(power, mask, scene)[0]
        return float((variance.log() - wanted.log()).square().mean())

    right, wrong, none = (cost(scene) for scene in (scenes[0], scenes[2], torch.zeros(1, 3)))
    assert right < 0.7 * none and wrong < 1.15 * none

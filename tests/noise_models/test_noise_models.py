"""Noise models against naive implementations in 64 bits, and on noise drawn from the model itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avse.contracts.noise_model import NoiseModel
from avse.data.noises import noise_recordings
from avse.errors import AvseError
from avse.nnet.noise_estimator import NoiseEstimator
from avse.noise_models.nmf import NMF
from avse.noise_models.nmf_frozen import FrozenNMF
from avse.noise_models.prior_nmf import PriorNMF
from avse.noise_models.stationary import Stationary
from avse.priors.vae.vae import VAE
from avse.signal.nmf import multiply
from avse.training.noise_estimator import learn_noise_estimator

STEPS, BINS, RANK = 12, 7, 3


def _positive(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 + torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _exponential(mean: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Power of complex Gaussian noise."""
    uniform = torch.rand(mean.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -mean * torch.log1p(-uniform)


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_multiplicative_update_against_loops(exponent: float) -> None:
    gains, spectra = _positive(1, STEPS, RANK), _positive(1, RANK, BINS, seed=1)
    up, down = _positive(1, STEPS, BINS, seed=2), _positive(1, STEPS, BINS, seed=3)
    h, w, a, b = (one[0].numpy() for one in (gains, spectra, up, down))
    new_h, new_w = np.empty_like(h), np.empty_like(w)
    for n in range(STEPS):
        for k in range(RANK):
            ratio = sum(a[n, f] * w[k, f] for f in range(BINS)) / sum(b[n, f] * w[k, f] for f in range(BINS))
            new_h[n, k] = h[n, k] * ratio**exponent
    for k in range(RANK):
        for f in range(BINS):
            over = sum(a[n, f] * h[n, k] * (h[n, k] / new_h[n, k]) for n in range(STEPS))
            under = sum(b[n, f] * new_h[n, k] for n in range(STEPS))
            new_w[k, f] = w[k, f] * (over / under) ** exponent
    level = new_w.sum(axis=1)
    got_h, got_w = multiply(gains, spectra, up, down, exponent)
    # With exponent one the weights of the second factor are those of the first's ratio, as above.
    np.testing.assert_allclose(got_h[0], new_h * level, rtol=1e-9)
    np.testing.assert_allclose(got_w[0], new_w / level[:, None], rtol=1e-9)


@pytest.mark.parametrize("make", [NMF, Stationary, FrozenNMF, partial(PriorNMF, presence_exponent=0.0)])
def test_misfit_never_rises_beside_speech_that_stays(make: Callable[..., NoiseModel]) -> None:
    model = make(**({"rank": 4, "fft_size": 2 * BINS - 2} if make is FrozenNMF else {})).double()
    power = _exponential(_positive(2, 30, BINS, seed=5))
    speech = 0.3 * _positive(2, 30, BINS, seed=6).square()
    mask = torch.ones(2, 30, dtype=torch.bool)
    state, nlls = model.initial_state(power, mask), []
    for _ in range(40):
        total = speech + model.variance(state)
        nlls.append(float((power / total + total.log()).sum()))
        state = model.update(state, power / total.square(), 1 / total)
    assert np.all(np.diff(nlls) <= 1e-9)
    assert nlls[-1] < nlls[0] - 0.1


def test_nmf_gives_back_the_variance_its_data_were_drawn_from() -> None:
    steps, bins = 400, 120
    generator = torch.Generator().manual_seed(0)
    spectra = torch.rand(2, bins, generator=generator, dtype=torch.float64).pow(3) + 0.01
    gains = torch.rand(steps, 2, generator=generator, dtype=torch.float64).pow(2) + 0.02
    true = (gains @ spectra)[None]
    power, mask = _exponential(true, seed=1), torch.ones(1, steps, dtype=torch.bool)
    model = NMF(rank=2)
    state = model.initial_state(power, mask)
    for _ in range(200):
        state = model.update_from_power(state, power, mask)
    error = (model.variance(state) / true).log10().mul(10).square().mean().sqrt()
    assert error < 1.0, f"{error:.2f} dB off"
    assert torch.allclose(state["spectra"].sum(dim=2), torch.ones(1, 2, dtype=torch.float64))


def test_a_clip_begins_alike_alone_and_in_a_batch() -> None:
    power = _exponential(_positive(2, 20, BINS))
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 13:] = False
    together = NMF(rank=2, seed=4).initial_state(power * mask[..., None], mask)
    alone = NMF(rank=2, seed=4).initial_state(power[1:, :13], mask[1:, :13])
    torch.testing.assert_close(together["spectra"][1], alone["spectra"][0])
    torch.testing.assert_close(together["gains"][1, :13], alone["gains"][0])
    other = NMF(rank=2, seed=5).initial_state(power[1:, :13], mask[1:, :13])
    assert not torch.allclose(alone["spectra"], other["spectra"])


def test_stationary_finds_the_spectrum_under_speech_pauses_and_its_m_step_is_the_mean() -> None:
    spectrum = _positive(BINS)
    power = _exponential(spectrum.expand(1, 600, BINS))
    speaks = torch.zeros(600, dtype=torch.bool)
    speaks[100:300] = True
    power[:, speaks] += 50.0
    model, mask = Stationary(quantile=0.3), torch.ones(1, 600, dtype=torch.bool)
    begun = model.variance(model.initial_state(power, mask))[0, 0]
    # The 0.3 quantile of all steps is the 0.45 quantile of the pauses.
    torch.testing.assert_close(begun, spectrum * np.log1p(-0.45) / np.log1p(-0.3), rtol=0.25, atol=0.0)
    exact = model.variance(model.update_from_power(model.initial_state(power, mask), power, mask))
    torch.testing.assert_close(exact[0, 3], power[0].mean(dim=0))


def test_frozen_dictionary_is_learned_and_then_stays() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    low, high = (np.sin(2 * np.pi * hz * time) + 0.001 * rng.standard_normal(16000) for hz in (500, 4000))
    model = FrozenNMF(rank=2, fft_size=640).learn([low, 0.01 * high, np.zeros(16000)], iterations=50)
    peaks = sorted(model.dictionary.argmax(dim=1).tolist())
    assert peaks == [20, 160]  # 25 Hz a bin
    torch.testing.assert_close(model.dictionary.sum(dim=1), torch.ones(2))
    kept = model.dictionary.clone()
    power, mask = _exponential(_positive(1, 10, 321)).float(), torch.ones(1, 10, dtype=torch.bool)
    state = model.update_from_power(model.initial_state(power, mask), power, mask)
    assert set(state) == {"gains"} and torch.equal(model.dictionary, kept)


def test_frozen_dictionary_is_learned_from_a_manifest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["id,kind,noise,clean,speaker,split"]
    for name, kind, split, hz in (
        ("a", "noise", "train", 500),
        ("b", "noise", "test", 4000),
        ("c", "speech", "train", 1),
    ):
        sound = np.sin(2 * np.pi * hz * np.arange(16000) / 16000) + 0.001 * rng.standard_normal(16000)
        soundfile.write(tmp_path / f"{name}.wav", 0.5 * sound, 16000)
        noise, clean = (f"{name}.wav", "") if kind == "noise" else ("", f"{name}.wav")
        rows.append(f"{name},{kind},{noise},{clean},{name},{split}")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    model = FrozenNMF(rank=1, fft_size=640).learn(noise_recordings(manifest))
    assert model.dictionary.argmax(dim=1).tolist() == [20]
    with pytest.raises(AvseError, match="holds no noise"):
        list(noise_recordings(manifest, splits=["dev"]))


def test_a_dictionary_is_interpolated_to_the_bins_of_the_prior() -> None:
    model, mask = FrozenNMF(rank=2, fft_size=640), torch.ones(3, 4, dtype=torch.bool)
    state = model.initial_state(torch.ones(3, 4, BINS), mask)
    spectra = state["dictionary"][0]
    assert spectra.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
    places = [one.argmax(dim=1) / (one.shape[1] - 1) for one in (spectra, model.dictionary)]
    assert torch.allclose(*places, atol=1.0 / BINS)
    updated = model.update(state, torch.ones(3, 4, BINS), torch.full((3, 4, BINS), 4.0))
    assert bool((model.variance(updated) < model.variance(state)).all()) and len(updated["dictionary"]) == 3


def test_mistakes_are_said() -> None:
    with pytest.raises(AvseError, match="no noise to learn from"):
        FrozenNMF(fft_size=640).learn([np.zeros(3200)])
    for wrong in (lambda: NMF(rank=0), lambda: NMF(exponent=2.0), lambda: Stationary(quantile=1.0)):
        with pytest.raises(ValueError, match="must be"):
            wrong()


def test_m_step_of_prior_nmf_counts_bins_by_their_share_of_noise() -> None:
    model, mask = PriorNMF(rank=RANK, presence_exponent=3.0).double(), torch.ones(1, STEPS, dtype=torch.bool)
    state = model.initial_state(_exponential(_positive(1, STEPS, BINS)), mask)
    up, speech = _positive(1, STEPS, BINS, seed=2), _positive(1, STEPS, BINS, seed=3)
    variance = model.variance(state)
    down = 1 / (speech + variance)
    share = np.empty((STEPS, BINS))
    for n in range(STEPS):
        for f in range(BINS):
            share[n, f] = (variance[0, n, f] / (variance[0, n, f] + speech[0, n, f])) ** 3
    share = torch.as_tensor(share)[None]
    gains, spectra = multiply(state["gains"], state["spectra"], share * up, share * down)
    updated = model.update(state, up, down)
    torch.testing.assert_close(updated["gains"], gains)
    torch.testing.assert_close(updated["spectra"], spectra)


def test_prior_nmf_takes_less_of_speech_that_its_prior_does_not_explain() -> None:
    noise = _positive(1, 1, 40).expand(1, 200, 40)
    speech = torch.zeros(1, 200, 40, dtype=torch.float64)
    speech[:, 50:150, 10:20] = 30.0
    power, mask = _exponential(noise + speech), torch.ones(1, 200, dtype=torch.bool)
    explained = speech / 8  # by the prior, which is 9 dB too low

    def excess(exponent: float) -> float:
        model = PriorNMF(rank=2, presence_exponent=exponent).double()
        state = NMF(rank=2).initial_state(noise, mask)
        for _ in range(100):
            total = explained + model.variance(state)
            state = model.update(state, power / total.square(), 1 / total)
        return float((model.variance(state) / noise)[:, 50:150, 10:20].log10().mean() * 10)

    assert excess(2.0) < excess(0.0) - 3.0


def test_candidates_of_the_noise_estimator_against_loops() -> None:
    power, mask = _exponential(_positive(1, 20, BINS)), torch.ones(1, 20, dtype=torch.bool)
    mask[0, 17:] = False
    got = NoiseEstimator(bands=4, hidden_dim=4, layers=1).double()._candidates(power, mask)[0, :17].exp()
    x = power[0, :17].numpy() + 1e-7 * 0.5 * 2 * (BINS - 1)
    short = np.array([x[max(0, n - 2) : n + 3].mean(axis=0) for n in range(17)])
    long = np.array([x[max(0, n - 7) : n + 8].mean(axis=0) for n in range(17)])
    low = np.array([[frame[max(0, f - 4) : f + 5].min() for f in range(BINS)] for frame in short])
    clip = [np.broadcast_to(value, (17, BINS)) for value in (*np.quantile(short, (0.15, 0.5), axis=0), x.mean(axis=0))]
    for place, wanted in enumerate((short, long, low, *clip)):
        np.testing.assert_allclose(got[:, place], wanted, rtol=1e-9)


def test_the_noise_estimator_learns_the_noise_that_serves_a_prior() -> None:
    torch.manual_seed(0)
    prior = VAE(latent_dim=4, hidden_dim=8, fft_size=640, noisy_encoder_layers=1).requires_grad_(False)
    rng = np.random.default_rng(0)
    speech = [np.sin(np.arange(32000) * hz / 2500) * (np.arange(32000) % 8000 < 4000) for hz in (200, 300)]
    noise = [0.1 * rng.standard_normal(16000) for _ in range(2)]
    estimator = NoiseEstimator(bands=8, hidden_dim=8, layers=1)
    losses = learn_noise_estimator(estimator, prior, speech, noise, steps=30, batch_size=2, rate=0.02)
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.5

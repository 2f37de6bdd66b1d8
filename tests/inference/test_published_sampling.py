"""The published posterior samplings against the authors' loop: draw by draw, and in distribution; fits of the noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from authors_loop import authors_loop, nmf_update
from toy_models import BLOCK, GaussianPrior, ToyPrior, state_of

from avse import plugins
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Gaussian
from avse.contracts.types import Batch, Clip
from avse.inference.em.steps import encode
from avse.noise_models.nmf import NMF
from avse.samplers.ancestral import Ancestral
from avse.samplers.predictor_corrector import PredictorCorrector
from avse.sdes.ornstein_uhlenbeck import OrnsteinUhlenbeck
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators, complex_noise

PUBLISHED = ["udiffse", "udiffse_plus", "posterior_sampling_noise_latent", "posterior_sampling_lambda_free"]
BINS, RANK, SEED = BLOCK // 2, 3, 5
SPEECH, NOISE = 0.02 * np.linspace(0.5, 2.0, BINS), 0.01 * np.linspace(2.0, 0.5, BINS)


class FittedSpectrum(NoiseModel):
    """One spectrum, white at first, that every M-step sets to the mean power: the exact maximum."""

    def initial_state(self, power, mask, scene=None):
        return {"variance": torch.full_like(power, NOISE.mean())}

    def variance(self, state):
        return state["variance"]

    def update_from_power(self, state, power, mask):
        return {"variance": power.mean(dim=1, keepdim=True).expand(power.shape)}

    def update(self, state, numerator, denominator):
        raise NotImplementedError


def gaussian_mixture(frames: int) -> tuple[Batch, GaussianPrior, np.ndarray]:
    """Gaussian speech in Gaussian noise, its prior, and the noisy audio in the prior's domain, at the prior's level."""
    rng = np.random.default_rng(1)
    parts = [np.sqrt(p / 2) * (rng.standard_normal((frames, BINS, 2)) @ [1, 1j]) for p in (SPEECH, NOISE)]
    batch = Batch.from_clips([Clip(np.zeros(frames * BLOCK, np.float32))])
    batch.noisy = torch.view_as_real(torch.from_numpy(sum(parts))).flatten()[None]
    prior = GaussianPrior(torch.from_numpy(SPEECH), OrnsteinUhlenbeck())
    return batch, prior, prior.analyse(batch.noisy * level_scale(batch.noisy, batch.lengths))[0].numpy()


def check_draws(name: str) -> None:
    """States of two chains after every move, and the estimate, with an NMF that is fitted to them."""
    batch, prior, x = gaussian_mixture(9)
    inference = plugins.get("inference", name)(prior, NMF(RANK), chains=2, seed=SEED)
    found = [state.value.numpy() for state in inference._states(batch)]
    mask = torch.ones(1, len(x), dtype=torch.bool)
    generators = clip_generators(mask, SEED, chains=2)
    like = torch.zeros(2, *x.shape, dtype=torch.complex128)
    (first,) = clip_generators(mask, SEED + 1)
    w, h = (torch.rand(*shape, generator=first).double().T.numpy() for shape in ((RANK, BINS), (len(x), RANK)))

    def fit(power: np.ndarray) -> np.ndarray:
        nonlocal w, h
        w, h = nmf_update(w, h, power.T)
        return (w @ h).T

    expected = authors_loop(
        name,
        x,
        SPEECH,
        (w @ h).T,
        draw=lambda: complex_noise(like, mask.expand(2, -1), generators).numpy(),
        power=lambda residual: (abs(residual) ** 2).mean(axis=0),
        fit=fit,
    )
    states = [state for state, _ in expected]
    assert len(found) == len(states) == (150 if name == "udiffse" else 30)
    for move, (one, two) in enumerate(zip(found, states)):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9, err_msg=f"move {move}")
    scale = level_scale(batch.noisy, batch.lengths).item()
    speech = prior.analyse(inference(batch).speech * scale)[0]
    np.testing.assert_allclose(speech.numpy(), states[-1].mean(axis=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_move_is_that_of_the_authors_loop(name: str) -> None:
    check_draws(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_draws_and_fitted_noise_have_their_exact_distribution(name: str) -> None:
    """Given the audio, states are Gaussian around a share of it; many frames fit the noise to the exact mean power."""
    frames, moves, passes = 1500, 20, 3 if name == "udiffse" else 1
    batch, prior, x = gaussian_mixture(frames)
    sampler = PredictorCorrector(steps=moves)
    inference = plugins.get("inference", name)(prior, FittedSpectrum(), sampler, chains=1, passes=passes)
    states = [(state.value[0].numpy(), state.draw.variance[0, 0].numpy()) for state in inference._states(batch)]
    value = states[-1][0]
    total = (abs(x) ** 2).mean(axis=0)
    # Coefficients of the audio, in the first row, and of each white noise.
    units = iter(np.broadcast_to(np.eye(128)[:, :, None], (128, 128, BINS)))
    loop = authors_loop(
        name,
        next(units),
        SPEECH,
        np.full(BINS, NOISE.mean()),
        draw=lambda: next(units),
        power=lambda residual: residual[0] ** 2 * total + (residual[1:] ** 2).sum(axis=0),
        fit=lambda power: power,
        moves=moves,
        passes=passes,
    )
    exact = list(loop)
    coefficients = exact[-1][0]
    share, spread = coefficients[0], (coefficients[1:] ** 2).sum(axis=0)
    error = (value * x.conj()).mean(axis=0).real / total - share
    assert abs(error.mean() / share.mean()) < 0.02
    assert (abs(error) < 5 * np.sqrt(spread / total / frames)).all()
    ratios = [(abs(value - share * x) ** 2).mean(axis=0) / spread]
    if name != "udiffse_plus":  # its loop fits at the next move
        move = -1 if name == "udiffse" else -2  # a fit after the last move of a single pass serves nothing
        ratios.append(states[move][1] / exact[move][1])
    for ratio in ratios:
        assert abs(ratio.mean() - 1) < 0.03 and abs(ratio - 1).max() < 0.15


def check_moments() -> None:
    """State, prior and audio are three observations of speech; the M-step takes |x - mean|^2 + variance over frames."""
    batch, prior, x = gaussian_mixture(12)
    inference = plugins.get("inference", "posterior_sampling_moments")(
        prior, FittedSpectrum(), Ancestral(steps=5), chains=1, m_steps=1, quantile=0.0
    )
    noise = NOISE.mean()
    for move, state in enumerate(inference._states(batch)):
        draw = state.draw
        scale, std = (one.item() for one in prior.marginal(draw.following if move == 4 else draw.time))
        variance = 1 / (1 / SPEECH + (scale / std) ** 2 + 1 / noise)
        mean = variance * (scale / std**2 * draw.asked[0].numpy() + x / noise)
        np.testing.assert_allclose(draw.speech[0].numpy(), mean, rtol=1e-9)
        noise = (abs(x - mean) ** 2 + variance).mean(axis=0)
        np.testing.assert_allclose(draw.variance[0, 0].numpy(), noise, rtol=1e-9)
    assert move == 4


def test_moments_are_those_of_three_observations_and_fit_the_noise() -> None:
    check_moments()


class EncodesNoisy(ToyPrior):
    """A noisy-speech encoder of both of its inputs."""

    encodes_noisy = True

    def encode_noisy(self, power, variance, context):
        mean = 0.1 * (power.log() - self.level) @ self.tilt.mT
        return Gaussian(mean, variance.log() @ self.tilt.mT)


def check_encoder() -> None:
    """Speech of gain g in x is speech of gain one in x / sqrt(g), whose noise has the variance V / g."""
    prior, rng = EncodesNoisy(), torch.Generator().manual_seed(2)
    draw = lambda *shape: 0.5 + torch.rand(*shape, generator=rng, dtype=torch.float64)
    power, noise, gain, z = draw(1, 6, BINS), draw(1, 6, BINS), draw(1, 6, 1), draw(1, 1, 6, 2)
    found = encode(state_of(prior, power, z, noise, gain)).posterior
    same = encode(state_of(prior, power / gain, z, noise / gain)).posterior
    torch.testing.assert_close(found.mean, same.mean)
    torch.testing.assert_close(found.log_variance, same.log_variance)
    torch.testing.assert_close(found.log_variance, (noise.log() - gain.log())[:, None] @ prior.tilt.mT)


def test_the_encoder_of_noisy_speech_reads_audio_without_the_gain() -> None:
    check_encoder()


@pytest.mark.parametrize("name", PUBLISHED)
def test_departures_are_what_they_say(name: str) -> None:
    batch, prior, _ = gaussian_mixture(9)
    few = PredictorCorrector(steps=4)
    run = lambda sampler=few, **arguments: plugins.get("inference", name)(prior, NMF(RANK), sampler, **arguments)
    published = run()
    departures = ["scaled_start", "expected_end", "own_fit"]
    departures += [each for each in ("limited_guidance", "exact_mean") if each in published.config]
    speech = published(batch).speech
    for departure in departures:
        assert published.config[departure] is False
        assert not torch.equal(run(**{departure: True})(batch).speech, speech), departure
    assert run(expected_end=True).evaluations == published.evaluations + published.passes
    assert not run(Ancestral(steps=3)).leaves and run(Ancestral(steps=3))(batch).speech.isfinite().all()

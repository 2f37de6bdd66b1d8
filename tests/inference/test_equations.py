"""Every update against loops in 64 bits written from the equations, and gradients against finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import DynamicalToy, FixedNoise, ToyPrior, state_of

from avse.contracts.prior import Gaussian
from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.mcem import MCEM
from avse.inference.em.state import EmState
from avse.inference.em.steps import decode, encode, energy, mixture, prior_of, sufficient_statistics
from avse.inference.em.vem import VEM
from avse.signal.random import clip_draws
from avse.signal.wiener import Mixture, gain_update, geometric_mean_power, speech_variance

STEPS, BINS, CHAINS = 5, 32, 3


def _problem(prior, chains: int = CHAINS, seed: int = 1, steps: int = STEPS):
    """A state of one clip with random power, noise, gains and latents."""
    draw = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, generator=draw, dtype=torch.float64)
    power, noise = 0.01 * rand(1, steps, BINS), 0.002 + 0.01 * rand(1, steps, BINS)
    latent = torch.randn(1, chains, steps, prior.latent_dim, generator=draw, dtype=torch.float64)
    return state_of(prior, power, latent, noise, gain=0.5 + rand(1, steps, 1))


def _with(posterior: Gaussian, state: EmState) -> EmState:
    return replace(state, posterior=Gaussian(posterior.mean[:, None], posterior.log_variance[:, None]))


def _energy(prior, state, latent: torch.Tensor, smoothness: float = 0.0) -> float:
    """-log p(x, z) of one chain, latent (frames, dim), term by term."""
    variance = prior.decode(latent[None], state.model.context)[0].exp().tolist()
    expected = prior.prior(latent[None], state.model.context)
    mean, spread = expected.mean[0].tolist(), expected.log_variance[0].exp().tolist()
    gain, noise, power, z = (
        one.tolist() for one in (state.gain[0, :, 0], state.noise_variance[0], state.power[0], latent)
    )
    total = 0.0
    for n in range(len(z)):
        for f in range(len(power[n])):
            v = gain[n] * variance[n][f] + noise[n][f]
            total += power[n][f] / v + math.log(v)
        for d in range(len(z[n])):
            total += 0.5 * ((z[n][d] - mean[n][d]) ** 2 / spread[n][d] + math.log(spread[n][d]))
            if n:
                total += smoothness * abs(z[n][d] - z[n - 1][d])
    return total


def test_mixture_against_its_definition() -> None:
    state = _problem(ToyPrior())
    log_variance = torch.randn(1, CHAINS, STEPS, BINS, dtype=torch.float64) - 5
    found = mixture(state, log_variance.exp())
    speech = state.gain[:, None] * log_variance.exp()
    total = speech + state.noise_variance[:, None]
    torch.testing.assert_close(found.wiener, speech / total)
    torch.testing.assert_close(found.ratio, state.power[:, None] / total)
    torch.testing.assert_close(found.nll(), (state.power[:, None] / total + total.log()).sum(dim=-1))
    shift = 1e-6
    moved = [mixture(state, (log_variance + sign * shift).exp()) for sign in (1, -1)]
    # The negative log-likelihood of one bin, from the tensors that make it up.
    by_bin = [one.ratio - one.precision.log() for one in moved]
    torch.testing.assert_close(found.gradient(), (by_bin[0] - by_bin[1]) / (2 * shift), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("prior", [ToyPrior(), DynamicalToy()], ids=["by step", "dynamical"])
@pytest.mark.parametrize("smoothness", [0.0, 0.7])
def test_gradient_of_the_energy_against_finite_differences(prior, smoothness: float) -> None:
    state = _problem(prior)
    latent = state.latent
    with torch.no_grad():
        _, cost, nll, gradient = energy(state, latent, smoothness)
    expected = torch.zeros_like(gradient)
    for index in np.ndindex(*latent.shape):
        chain, rest = index[1], index[2:]
        values = []
        for sign in (1, -1):
            moved = latent[0, chain].clone()
            moved[rest] += sign * 1e-5
            values.append(_energy(prior, state, moved, smoothness))
        expected[index] = (values[0] - values[1]) / 2e-5
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    for chain in range(CHAINS):
        whole = _energy(prior, state, latent[0, chain], smoothness)
        assert float((cost + nll)[0, chain].sum()) == pytest.approx(whole, rel=1e-10)


def test_statistics_of_the_m_step_against_loops() -> None:
    state = _problem(ToyPrior())
    prior = ToyPrior()
    decoded = prior.decode(state.latent[0], state.model.context).exp()
    cost = torch.full((1, CHAINS, STEPS, 1), 7.0, dtype=torch.float64)
    found = sufficient_statistics(replace(state, speech_variance=decoded[None], prior_cost=cost))
    for n in range(STEPS):
        up = down = nll = 0.0
        for f in range(BINS):
            g, v, p = float(state.gain[0, n, 0]), float(state.noise_variance[0, n, f]), float(state.power[0, n, f])
            totals = [g * float(decoded[r, n, f]) + v for r in range(CHAINS)]
            shares = [g * float(decoded[r, n, f]) / totals[r] for r in range(CHAINS)]
            assert float(found.numerator[0, n, f]) == pytest.approx(np.mean([p / t**2 for t in totals]))
            assert float(found.denominator[0, n, f]) == pytest.approx(np.mean([1 / t for t in totals]))
            assert float(found.wiener[0, n, f]) == pytest.approx(np.mean(shares))
            nll += np.mean([p / t + math.log(t) for t in totals])
            up += np.mean([float(decoded[r, n, f]) * p / t**2 for r, t in enumerate(totals)])
            down += np.mean([float(decoded[r, n, f]) / t for r, t in enumerate(totals)])
        assert float((found.nll + found.prior_cost)[0, n]) == pytest.approx(7.0 + nll)
        got = gain_update(state.gain[0, n], found.gain_numerator[0, n], found.gain_denominator[0, n])
        assert got.item() == pytest.approx(g * math.sqrt(up / down))  # the published rule


@pytest.mark.parametrize(("shape", "rate"), [(1.0, 0.0), (1.0, 1.0), (6.0, 5.0)])
def test_gain_minimises_its_majorant(shape: float, rate: float) -> None:
    gain, up, down = 0.7, 3.0, 2.0  # derivative of the negative log-likelihood: (down - up) / gain
    new = gain_update(torch.tensor([gain]), torch.tensor([up]), torch.tensor([down]), shape, rate).item()
    grid = np.linspace(0.05, 4, 400_000)
    majorant = gain * up / grid + down / gain * grid + rate * grid - (shape - 1) * np.log(grid)
    assert new == pytest.approx(grid[majorant.argmin()], abs=1e-4)


def test_geometric_mean_power_against_draws() -> None:
    rng = np.random.default_rng(0)
    wiener, power, noise = 0.6, np.array([0.0, 0.5, 1.0, 3.0, 20.0]), 0.8
    mean, spread = wiener * np.sqrt(power), wiener * noise
    normal = rng.standard_normal((2, 400_000, 1)) * np.sqrt(spread / 2)
    expected = np.exp(np.log((mean + normal[0]) ** 2 + normal[1] ** 2).mean(axis=0))
    speech = torch.tensor(noise * wiener / (1 - wiener))
    mixture = Mixture.of(speech, torch.tensor(1.0), torch.tensor(noise), torch.tensor(power))
    np.testing.assert_allclose(
        geometric_mean_power(mixture, torch.tensor(power), torch.tensor(noise)), expected, rtol=0.02
    )


@pytest.mark.parametrize("encoder", ["amortised", "published"])
def test_variational_step_against_loops(encoder: str) -> None:
    prior = ToyPrior()
    state = _problem(prior, chains=1)
    speech = (
        0.004 + torch.rand(1, 1, STEPS, BINS, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) / 100
    )
    state = replace(state, latent=None, speech_variance=speech)
    voice = torch.empty(1, STEPS, BINS, dtype=torch.float64)
    for n in range(STEPS):
        for f in range(BINS):
            g, v, p = float(state.gain[0, n, 0]), float(state.noise_variance[0, n, f]), float(state.power[0, n, f])
            s = g * float(speech[0, 0, n, f])
            mean, variance = s / (s + v) * math.sqrt(p), s * v / (s + v)
            if encoder == "amortised":  # of a prior without a noisy-speech encoder: exp(E log |s|^2)
                variance *= math.exp(-0.577216 - 0.83 * mean**2 / variance)
            voice[0, n, f] = (mean**2 + variance) / g
    posterior = prior.encode(voice, state.model.context)
    state = VEM(prior, FixedNoise()).e_step(encode(state, encoder))
    torch.testing.assert_close(state.latent[:, 0], posterior.mean)
    torch.testing.assert_close(state.speech_variance[:, 0], prior.decode(posterior.mean, state.model.context).exp())
    for n in range(STEPS):
        divergence = 0.0
        for d in range(prior.latent_dim):
            mu, lv = float(posterior.mean[0, n, d]), float(posterior.log_variance[0, n, d])
            divergence += 0.5 * (math.exp(lv) + mu**2 - 1 - lv)
        assert float(state.prior_cost[0, 0, n, 0]) == pytest.approx(divergence)


@pytest.mark.parametrize("prior", [ToyPrior(), DynamicalToy()], ids=["by step", "dynamical"])
def test_langevin_step_against_its_equation(prior) -> None:
    state, same = _problem(prior), _problem(prior)
    inference = Langevin(prior, FixedNoise(), chains=CHAINS, steps=2, step_size=1e-3, smoothness=0.1)
    # Units on scales of their own.
    scale = torch.linspace(0.5, 2.0, prior.latent_dim, dtype=torch.float64).expand(1, 1, STEPS, -1)
    state = inference.e_step(replace(state, posterior=Gaussian(torch.zeros_like(scale), scale.log())))
    noise = clip_draws(same.power, same.mask, same.generators, (2, CHAINS, prior.latent_dim))
    latent = same.latent
    for step in range(2):
        with torch.enable_grad():
            leaf = latent.clone().requires_grad_()
            total = -prior_of(same, leaf).log_prob(leaf).sum()
            decoded = decode(same, leaf)
            full = same.gain[:, None] * decoded.exp() + same.noise_variance[:, None]
            total = total + (same.power[:, None] / full + full.log()).sum() + 0.1 * leaf.diff(dim=2).abs().sum()
            [gradient] = torch.autograd.grad(total, leaf)
        latent = latent - 1e-3 * scale * gradient + (2e-3 * scale).sqrt() * noise[step]
    torch.testing.assert_close(state.latent, latent, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("prior", "adaptive", "burn_in", "std"),
    [
        (ToyPrior(), True, 0, math.exp(-1.0)),  # q has variance exp(-2)
        (DynamicalToy(), True, 0, math.exp(-1.0)),
        (ToyPrior(), False, 3, 1.0),
    ],
    ids=["by step", "dynamical", "published"],
)
def test_metropolis_hastings_against_loops(prior, adaptive: bool, burn_in: int, std: float) -> None:
    inference = MCEM(prior, FixedNoise(), chains=2, draws=4, burn_in=burn_in, proposal_variance=0.2, adaptive=adaptive)
    state, same = _problem(prior, chains=1), _problem(prior, chains=1)
    posterior = prior.encode(state.power, state.model.context)
    state = inference.begin(_with(posterior, state))
    assert bool(state.memory.independent.all()) == (not prior.dynamical)
    state = inference.e_step(state)
    moves = clip_draws(same.power, same.mask, same.generators, (4, 2, prior.latent_dim))
    chance = clip_draws(same.power, same.mask, same.generators, (4, 2, 1), torch.rand)
    taken = 0
    for chain in range(2):
        latent = posterior.mean[0].clone()
        for draw in range(4):
            proposal = latent + math.sqrt(0.2) * std * moves[draw, 0, chain]
            for n in range(STEPS) if not prior.dynamical else [slice(None)]:
                moved = latent.clone()
                moved[n] = proposal[n]
                log_ratio = _energy(prior, same, latent) - _energy(prior, same, moved)
                if math.log(chance[draw, 0, chain, 0 if prior.dynamical else n, 0]) < log_ratio:
                    latent, taken = moved, taken + 1
        torch.testing.assert_close(state.latent[0, chain], latent)
    assert taken > 0


def test_a_step_of_map_follows_adam_and_never_rises() -> None:
    prior = ToyPrior()
    inference = MAP(prior, FixedNoise(), steps=1, step_size=0.02)
    state = _problem(prior, chains=1)
    state = inference.begin(_with(prior.encode(state.power, state.model.context), state))
    before = state.latent[0, 0].clone()
    gradient = energy(state, before[None, None])[3]
    direction = 0.2 * gradient / (math.sqrt(0.05) * gradient.abs() + 1e-8)
    state = inference.e_step(state)
    after = state.latent[0, 0]
    for n in range(STEPS):
        moved = before.clone()
        moved[n] -= 0.02 * direction[0, 0, n]
        falls = _energy(prior, state, moved) < _energy(prior, state, before)
        torch.testing.assert_close(after[n], moved[n] if falls else before[n])


def test_a_mixture_stays_finite_at_its_ends() -> None:
    ends = torch.tensor([-1e4, -80.0, 0.0, 80.0, 1e4])
    for power in (0.0, 1e-12, 1e8):
        mixture = Mixture.of(speech_variance(ends), torch.ones(1), torch.full((5,), 1e-10), torch.full((5,), power))
        for part in (mixture.wiener, mixture.ratio, mixture.nll(), mixture.gradient()):
            assert bool(part.isfinite().all())

"""Every update against loops in 64 bits written from the equations, and gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_models import DynamicalToy, FixedNoise, ToyPrior, fit_of

from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.mcem import MCEM
from avse.inference.em.state import SufficientStatistics
from avse.inference.em.vem import VEM
from avse.signal.wiener import Mixture, gain_update, geometric_mean_power, speech_variance

STEPS, BINS, CHAINS = 5, 32, 3


def _problem(prior, chains: int = CHAINS, seed: int = 1, steps: int = STEPS):
    """A fit of one clip with random power, noise, gains and latents."""
    draw = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, generator=draw, dtype=torch.float64)
    power, noise = 0.01 * rand(1, steps, BINS), 0.002 + 0.01 * rand(1, steps, BINS)
    latent = torch.randn(1, chains, steps, prior.latent_dim, generator=draw, dtype=torch.float64)
    return fit_of(prior, power, latent, noise, gain=0.5 + rand(1, steps, 1))


def _energy(prior, fit, latent: torch.Tensor, smoothness: float = 0.0) -> float:
    """-log p(x, z) of one chain, latent (frames, dim), term by term."""
    variance = prior.decode(latent[None], fit.context)[0].exp().tolist()
    expected = prior.prior(latent[None], fit.context)
    mean, spread = expected.mean[0].tolist(), expected.log_variance[0].exp().tolist()
    gain, noise, power, z = (one.tolist() for one in (fit.gain[0, :, 0], fit.variance[0], fit.power[0], latent))
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
    fit = _problem(ToyPrior())
    log_variance = torch.randn(1, CHAINS, STEPS, BINS, dtype=torch.float64) - 5
    mixture = fit.mixture(log_variance.exp())
    speech = fit.gain[:, None] * log_variance.exp()
    total = speech + fit.variance[:, None]
    torch.testing.assert_close(mixture.wiener, speech / total)
    torch.testing.assert_close(mixture.ratio, fit.power[:, None] / total)
    torch.testing.assert_close(mixture.nll(), (fit.power[:, None] / total + total.log()).sum(dim=-1))
    shift = 1e-6
    moved = [fit.mixture((log_variance + sign * shift).exp()) for sign in (1, -1)]
    # The misfit of one bin, from the tensors that make it up.
    by_bin = [one.ratio - one.precision.log() for one in moved]
    torch.testing.assert_close(mixture.gradient(), (by_bin[0] - by_bin[1]) / (2 * shift), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("prior", [ToyPrior(), DynamicalToy()], ids=["by step", "dynamical"])
@pytest.mark.parametrize("smoothness", [0.0, 0.7])
def test_gradient_of_the_energy_against_finite_differences(prior, smoothness: float) -> None:
    fit = _problem(prior)
    inference = Langevin(prior, FixedNoise(), smoothness=smoothness)
    latent = fit.latent["z"]
    _, cost, nll, gradient = inference.energy(fit, latent, smoothness)
    expected = torch.zeros_like(gradient)
    for index in np.ndindex(*latent.shape):
        chain, rest = index[1], index[2:]
        values = []
        for sign in (1, -1):
            moved = latent[0, chain].clone()
            moved[rest] += sign * 1e-5
            values.append(_energy(prior, fit, moved, smoothness))
        expected[index] = (values[0] - values[1]) / 2e-5
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    for chain in range(CHAINS):
        whole = _energy(prior, fit, latent[0, chain], smoothness)
        assert float((cost + nll)[0, chain].sum()) == pytest.approx(whole, rel=1e-10)


def test_statistics_of_the_m_step_against_loops() -> None:
    fit = _problem(ToyPrior())
    prior = ToyPrior()
    decoded = prior.decode(fit.latent["z"][0], fit.context).exp()
    fit.latent |= {"speech": decoded[None], "cost": torch.full((1, CHAINS, STEPS, 1), 7.0, dtype=torch.float64)}
    found = SufficientStatistics.of(fit)
    for n in range(STEPS):
        up = down = nll = 0.0
        for f in range(BINS):
            g, v, p = float(fit.gain[0, n, 0]), float(fit.variance[0, n, f]), float(fit.power[0, n, f])
            totals = [g * float(decoded[r, n, f]) + v for r in range(CHAINS)]
            shares = [g * float(decoded[r, n, f]) / totals[r] for r in range(CHAINS)]
            assert float(found.numerator[0, n, f]) == pytest.approx(np.mean([p / t**2 for t in totals]))
            assert float(found.denominator[0, n, f]) == pytest.approx(np.mean([1 / t for t in totals]))
            assert float(found.wiener[0, n, f]) == pytest.approx(np.mean(shares))
            nll += np.mean([p / t + math.log(t) for t in totals])
            up += np.mean([float(decoded[r, n, f]) * p / t**2 for r, t in enumerate(totals)])
            down += np.mean([float(decoded[r, n, f]) / t for r, t in enumerate(totals)])
        assert float(found.nll[0, n]) == pytest.approx(7.0 + nll)
        got = gain_update(fit.gain[0, n], found.gain_numerator[0, n], found.gain_denominator[0, n])
        assert got.item() == pytest.approx(g * math.sqrt(up / down))  # the published rule


@pytest.mark.parametrize(("shape", "rate"), [(1.0, 0.0), (1.0, 1.0), (6.0, 5.0)])
def test_gain_minimises_its_majorant(shape: float, rate: float) -> None:
    gain, up, down = 0.7, 3.0, 2.0  # derivative of the misfit: (down - up) / gain
    new = gain_update(torch.tensor([gain]), torch.tensor([up]), torch.tensor([down]), shape, rate).item()
    grid = np.linspace(0.05, 4, 400_000)
    majorant = gain * up / grid + down / gain * grid + rate * grid - (shape - 1) * np.log(grid)
    assert new == pytest.approx(grid[majorant.argmin()], abs=1e-4)


def test_typical_power_against_draws() -> None:
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


def test_variational_step_against_loops() -> None:
    prior = ToyPrior()
    fit = _problem(prior, chains=1)
    speech = (
        0.004 + torch.rand(1, 1, STEPS, BINS, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) / 100
    )
    fit.latent = {"speech": speech}
    voice = torch.empty(1, STEPS, BINS, dtype=torch.float64)
    for n in range(STEPS):
        for f in range(BINS):
            g, v, p = float(fit.gain[0, n, 0]), float(fit.variance[0, n, f]), float(fit.power[0, n, f])
            s = g * float(speech[0, 0, n, f])
            mean, variance = s / (s + v) * math.sqrt(p), s * v / (s + v)
            voice[0, n, f] = (mean**2 + variance * math.exp(-0.577216 - 0.83 * mean**2 / variance)) / g
    posterior = prior.encode(voice, fit.context)
    VEM(prior, FixedNoise()).e_step(fit)
    torch.testing.assert_close(fit.latent["z"][:, 0], posterior.mean)
    torch.testing.assert_close(fit.latent["speech"][:, 0], prior.decode(posterior.mean, fit.context).exp())
    for n in range(STEPS):
        divergence = 0.0
        for d in range(prior.latent_dim):
            mu, lv = float(posterior.mean[0, n, d]), float(posterior.log_variance[0, n, d])
            divergence += 0.5 * (math.exp(lv) + mu**2 - 1 - lv)
        assert float(fit.latent["cost"][0, 0, n, 0]) == pytest.approx(divergence)


@pytest.mark.parametrize("prior", [ToyPrior(), DynamicalToy()], ids=["by step", "dynamical"])
def test_langevin_step_against_its_equation(prior) -> None:
    fit, same = _problem(prior), _problem(prior)
    inference = Langevin(prior, FixedNoise(), chains=CHAINS, steps=2, step_size=1e-3, smoothness=0.1)
    # Units on scales of their own.
    scale = torch.linspace(0.5, 2.0, prior.latent_dim, dtype=torch.float64).expand(1, 1, STEPS, -1)
    fit.latent["scale"] = scale
    inference.e_step(fit)
    noise = same.normal(2, CHAINS, prior.latent_dim)
    latent = same.latent["z"]
    for step in range(2):
        with torch.enable_grad():
            leaf = latent.clone().requires_grad_()
            total = -inference.prior_of(same, leaf).log_prob(leaf).sum()
            decoded = inference.decode(same, leaf)
            full = same.gain[:, None] * decoded.exp() + same.variance[:, None]
            total = total + (same.power[:, None] / full + full.log()).sum() + 0.1 * leaf.diff(dim=2).abs().sum()
            [gradient] = torch.autograd.grad(total, leaf)
        latent = latent - 1e-3 * scale * gradient + (2e-3 * scale).sqrt() * noise[step]
        same._prior = None
    torch.testing.assert_close(fit.latent["z"], latent, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("prior", [ToyPrior(), DynamicalToy()], ids=["by step", "dynamical"])
def test_metropolis_hastings_against_loops(prior) -> None:
    inference = MCEM(prior, FixedNoise(), chains=2, draws=4, burn_in=0, proposal_variance=0.2)
    fit, same = _problem(prior, chains=1), _problem(prior, chains=1)
    posterior = prior.encode(fit.power, fit.context)
    fit.latent, same.latent = inference.begin(posterior, fit), inference.begin(posterior, same)
    assert bool(fit.latent["alone"].all()) == (not prior.dynamical)
    inference.e_step(fit)
    moves, chance = same.normal(4, 2, prior.latent_dim), same.uniform(4, 2, 1)
    taken = 0
    for chain in range(2):
        latent = posterior.mean[0].clone()
        for draw in range(4):
            proposal = latent + math.sqrt(0.2) * math.exp(-1.0) * moves[draw, 0, chain]  # q has variance exp(-2)
            for n in range(STEPS) if not prior.dynamical else [slice(None)]:
                moved = latent.clone()
                moved[n] = proposal[n]
                log_ratio = _energy(prior, same, latent) - _energy(prior, same, moved)
                if math.log(chance[draw, 0, chain, 0 if prior.dynamical else n, 0]) < log_ratio:
                    latent, taken = moved, taken + 1
        torch.testing.assert_close(fit.latent["z"][0, chain], latent)
    assert taken > 0


def test_a_step_of_map_follows_adam_and_never_rises() -> None:
    prior = ToyPrior()
    inference = MAP(prior, FixedNoise(), steps=1, step_size=0.02)
    fit = _problem(prior, chains=1)
    fit.latent = inference.begin(prior.encode(fit.power, fit.context), fit)
    before = fit.latent["z"][0, 0].clone()
    gradient = inference.energy(fit, before[None, None])[3]
    direction = 0.2 * gradient / (math.sqrt(0.05) * gradient.abs() + 1e-8)
    inference.e_step(fit)
    after = fit.latent["z"][0, 0]
    for n in range(STEPS):
        moved = before.clone()
        moved[n] -= 0.02 * direction[0, 0, n]
        falls = _energy(prior, fit, moved) < _energy(prior, fit, before)
        torch.testing.assert_close(after[n], moved[n] if falls else before[n])


def test_a_mixture_stays_finite_at_its_ends() -> None:
    ends = torch.tensor([-1e4, -80.0, 0.0, 80.0, 1e4])
    for power in (0.0, 1e-12, 1e8):
        mixture = Mixture.of(speech_variance(ends), torch.ones(1), torch.full((5,), 1e-10), torch.full((5,), power))
        for part in (mixture.wiener, mixture.ratio, mixture.nll(), mixture.gradient()):
            assert bool(part.isfinite().all())

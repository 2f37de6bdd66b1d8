"""The evidence bound against a naive implementation, the divergence in closed form, and free bits."""

from __future__ import annotations

import math

import pytest
import torch
from small_priors import AUDIO_VISUAL, randomise, small, to_double

from avse.conformance import example_batch, seeded
from avse.contracts.prior import Gaussian
from avse.priors.vae.base import divergence_with_free_bits


def _naive_divergence(posterior: Gaussian, prior: Gaussian, row: int, step: int, unit: int) -> float:
    mean, expected = float(posterior.mean[row, step, unit]), float(prior.mean[row, step, unit])
    variance = math.exp(float(posterior.log_variance[row, step, unit]))
    width = math.exp(float(prior.log_variance[row, step, unit]))
    return 0.5 * (math.log(width / variance) + (variance + (mean - expected) ** 2) / width - 1.0)


def _naive_nll(power: torch.Tensor, log_variance: torch.Tensor, floor: float, mask: torch.Tensor) -> float:
    total, steps = 0.0, 0
    for row, step in mask.nonzero().tolist():
        for given, logarithm in zip(power[row, step].tolist(), log_variance[row, step].tolist()):
            total += ((given + floor) / math.exp(logarithm) + logarithm) / power.shape[2]
        steps += 1
    return total / steps


@pytest.mark.parametrize("name", ["vae", *AUDIO_VISUAL])
def test_loss_is_the_bound_written_out(name: str) -> None:
    arguments = {"fft_size": 640} if name == "vae" else {"fft_size": 640, "prior_weight": 0.2}
    prior = small(name, free_bits=0.0, **arguments).double()
    randomise(prior)
    prior.kl_weight = 0.7
    batch = to_double(example_batch((2560, 1280), gap=(1, 2)))
    with torch.no_grad(), seeded(5):
        terms = prior.loss(batch)
    with torch.no_grad(), seeded(5):
        context = prior.context(batch)
        power = prior.analyse(batch.clean).abs() ** 2
        posterior = prior.encode(power, context)
        latent = posterior.mean + (posterior.log_variance / 2).exp() * torch.randn_like(posterior.mean)
        expected = prior.prior(latent, context)
        log_variance = prior.decode(latent, context)
        again = expected.mean + (expected.log_variance / 2).exp() * torch.randn_like(expected.mean)
        from_prior = prior.decode(again, context)
    floor = 1e-7 * 320.0  # -70 dB of full scale, under a window of energy 320
    nll = _naive_nll(power, log_variance, floor, context.mask)
    steps = context.mask.nonzero().tolist()
    divergence = sum(_naive_divergence(posterior, expected, *step, unit) for step in steps for unit in range(4))
    divergence /= len(steps)
    bound = nll + 0.7 * divergence / prior.bins
    if name != "vae":
        seen = _naive_nll(power, from_prior, floor, context.valid)
        assert math.isclose(terms["prior_nll"].item(), seen, rel_tol=1e-9)
        bound = 0.8 * bound + 0.2 * seen
    assert math.isclose(terms["nll"].item(), nll, rel_tol=1e-9)
    assert math.isclose(terms["divergence"].item(), divergence, rel_tol=1e-9)
    assert math.isclose(terms["loss"].item(), bound, rel_tol=1e-9)


def test_divergence_is_the_expected_difference_of_log_densities() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (Gaussian(*torch.randn(2, 1, 1, 3, generator=generator, dtype=torch.float64)) for _ in range(2))
    noise = torch.randn(200_000, 1, 3, generator=generator, dtype=torch.float64)
    draws = one.mean + (one.log_variance / 2).exp() * noise
    differences = one.log_prob(draws) - two.log_prob(draws)
    error = 4 * float(differences.std()) / math.sqrt(len(draws))
    assert abs(float(differences.mean()) - float(one.divergence(two))) < error
    assert float(one.divergence(one)) == 0.0
    assert torch.equal(one.divergence(two), one.divergence_by_unit(two).sum(dim=-1))


def test_free_bits_stop_the_press_on_weak_units_alone_and_let_the_prior_learn() -> None:
    shapes = {"requires_grad": True, "dtype": torch.float64}
    posterior = Gaussian(torch.tensor([[[0.1, 2.0]]], **shapes), torch.zeros(1, 1, 2, **shapes))
    prior = Gaussian(torch.zeros(1, 1, 2, **shapes), torch.zeros(1, 1, 2, **shapes))
    mask = torch.ones(1, 1, dtype=torch.bool)
    value = divergence_with_free_bits(posterior, prior, mask, free_bits=0.5)
    assert math.isclose(value.item(), (0.1**2 + 2.0**2) / 2)
    value.backward()
    assert posterior.mean.grad[0, 0].tolist() == [0.0, 2.0]
    assert prior.mean.grad[0, 0].tolist() == [-0.1, -2.0]


def test_steps_beyond_a_clip_do_not_count() -> None:
    posterior, prior = (Gaussian(torch.randn(2, 4, 3), torch.randn(2, 4, 3)) for _ in range(2))
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    shown = posterior.divergence_by_unit(prior)[mask].mean(dim=0).sum()
    posterior.mean[~mask] = 1e3
    assert torch.isclose(divergence_with_free_bits(posterior, prior, mask, 0.0), shown)

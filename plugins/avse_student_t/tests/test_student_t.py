"""The model keeps the promises of its kind, is what its equations say, and does what EM promises."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import gammaln, psi

from avse.testing import parametrize_with_checks
from avse_student_t import StudentT


class Untied(StudentT):
    __doc__ = StudentT.__doc__

    @classmethod
    def example_arguments(cls) -> dict:
        return {"tied": False}


class Fitted(StudentT):
    __doc__ = StudentT.__doc__

    @classmethod
    def example_arguments(cls) -> dict:
        return {"fit_degrees": True}


@parametrize_with_checks([StudentT, Untied, Fitted])
def test_conformance(plugin, check):
    check(plugin)


MODELS = [
    pytest.param(arguments, id=" ".join(arguments) or "tied")
    for arguments in ({}, {"tied": False}, {"fit_degrees": True}, {"tied": False, "fit_degrees": True})
]


def noise(degrees: float, steps: int = 40, bins: int = 6, tied: bool = True, seed: int = 0) -> torch.Tensor:
    """Power of complex noise of Student's t, shape (1, frames, bins)."""
    torch.manual_seed(seed)
    rate = torch.tensor(degrees / 2, dtype=torch.float64)
    weight = torch.distributions.Gamma(rate, rate).sample((1, steps, 1 if tied else bins))
    scale = torch.linspace(0.5, 3.0, bins, dtype=torch.float64)
    return scale / weight * -torch.rand(1, steps, bins, dtype=torch.float64).log()


def everywhere(power: torch.Tensor) -> torch.Tensor:
    return torch.ones(power.shape[:2], dtype=torch.bool)


def naive_update(power: list[list[float]], scale: list[float], degrees: float, tied: bool):
    """One update of one clip, number by number: new scale and weights."""
    steps, bins = len(power), len(scale)
    weight = [[0.0] * bins for _ in range(steps)]
    for t in range(steps):
        for f in range(bins):
            shared = range(bins) if tied else [f]
            weight[t][f] = (degrees / 2 + len(shared)) / (degrees / 2 + sum(power[t][g] / scale[g] for g in shared))
    fitted = []
    for f in range(bins):
        total = sum(weight[t][f] for t in range(steps))
        fitted.append(sum(weight[t][f] * power[t][f] for t in range(steps)) / total)
        for t in range(steps):
            weight[t][f] *= steps / (total if not tied or f == bins - 1 else steps)
    if tied:
        weight = [[row[-1]] for row in weight]
    return fitted, weight


@pytest.mark.parametrize("tied", [True, False])
def test_is_what_the_equations_say(tied: bool) -> None:
    long, short = noise(1.5, steps=12), noise(1.5, steps=7, seed=1)
    power = torch.cat([long, torch.nn.functional.pad(short, (0, 0, 0, 5), value=9.0)])
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    model = StudentT(degrees=3.0, tied=tied)
    state = model.initial_state(power, mask)
    expected = [
        (one["scale"][0, 0].tolist(), None) for one in (model.initial_state(p, everywhere(p)) for p in (long, short))
    ]
    for _ in range(3):
        state = model.update_from_power(state, power, mask)
        expected = [naive_update(p[0].tolist(), scale, 3.0, tied) for p, (scale, _) in zip((long, short), expected)]
    for row, (scale, weight) in enumerate(expected):
        torch.testing.assert_close(state["scale"][row, 0], torch.tensor(scale, dtype=torch.float64))
        found = state["weight"][row, : len(weight)]
        torch.testing.assert_close(found, torch.tensor(weight, dtype=torch.float64))


def likelihood(model: StudentT, state: dict, power: torch.Tensor) -> float:
    """Log-likelihood of Student's t, the weights integrated out."""
    scale, half = state["scale"], float(state["degrees"]) / 2
    relative = power / scale
    if model.tied:
        relative = relative.sum(dim=2)
    bins = power.shape[2] if model.tied else 1
    tail = gammaln(half + bins) - gammaln(half) - bins * math.log(math.pi * half)
    tails = relative.numel() * tail - (half + bins) * (relative / half).log1p().sum()
    return float(tails - power.shape[1] * scale.log().sum())


def bound(model: StudentT, state: dict, power: torch.Tensor, speech: torch.Tensor) -> float:
    """Variational bound of log p(x) for speech of known variance, with the best q(n) and the weights' Gamma q(w)."""
    variance, weight = speech + model.variance(state), state["weight"]
    shape, prior = float(state["shape"]), float(state["degrees"]) / 2
    rate = shape / weight
    expected_log = psi(shape) - rate.log()
    fit = float(-(math.log(math.pi) + variance.log() + power / variance).sum())
    fit += float((expected_log - weight.log()).sum()) * (power.shape[2] if model.tied else 1)
    divergence = (
        shape * rate.log()
        - gammaln(shape)
        - prior * math.log(prior)
        + gammaln(prior)
        + (shape - prior) * expected_log
        - (rate - prior) * weight
    )
    return fit - float(divergence.sum())


@pytest.mark.parametrize("arguments", MODELS)
def test_no_update_lowers_the_likelihood_of_observed_noise(arguments: dict) -> None:
    model = StudentT(**arguments)
    power = noise(1.5, tied=model.tied)
    state = model.initial_state(power, everywhere(power))
    values = [likelihood(model, state, power)]
    for _ in range(40):
        state = model.update_from_power(state, power, everywhere(power))
        values.append(likelihood(model, state, power))
    rises = torch.tensor(values).double().diff()
    assert bool((rises > -1e-6).all()) and values[-1] > values[0] + 1.0, values
    assert float(rises[-1]) < 1e-2, "has not converged"


@pytest.mark.parametrize("arguments", MODELS)
def test_no_update_lowers_the_bound_in_a_mixture(arguments: dict) -> None:
    """With the statistics of a mixture, |x|^2 / Vx^2 and 1 / Vx: no inference tells the power of the noise itself."""
    model = StudentT(**arguments)
    power = 3 * noise(1.0, tied=model.tied)
    speech = noise(4.0, tied=False, seed=2)
    state = model.initial_state(power, everywhere(power))
    values = []
    for _ in range(40):
        shape = state["degrees"] / 2 + (power.shape[2] if model.tied else 1)
        variance = speech + model.variance(state)
        state = model.update(state, power / variance.square(), 1 / variance)
        values.append(bound(model, state | {"shape": shape}, power, speech))
    rises = torch.tensor(values).double().diff()
    assert bool((rises > -1e-6).all()) and values[-1] > values[0] + 1.0, values


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("degrees", [1.0, 5.0])
def test_degrees_and_scale_of_a_known_noise_are_found(tied: bool, degrees: float) -> None:
    model = StudentT(degrees=20.0, tied=tied, fit_degrees=True)
    power = noise(degrees, steps=4000, tied=tied)
    state = model.initial_state(power, everywhere(power))
    for _ in range(60):
        state = model.update_from_power(state, power, everywhere(power))
    assert float(state["degrees"]) == pytest.approx(degrees, rel=0.15)
    expected = torch.linspace(0.5, 3.0, 6, dtype=torch.float64)
    assert float((state["scale"][0, 0] / expected - 1).abs().max()) < 0.1


def test_many_degrees_of_freedom_are_a_gaussian() -> None:
    model, power = StudentT(degrees=1e9), noise(3.0)
    state = model.update_from_power(model.initial_state(power, everywhere(power)), power, everywhere(power))
    torch.testing.assert_close(
        model.variance(state), power.mean(dim=1, keepdim=True).expand_as(power), rtol=1e-5, atol=0
    )


def test_a_click_does_not_lift_the_spectrum_of_the_rest() -> None:
    quiet = noise(1e6, steps=60)
    power = quiet.clone()
    power[:, 30] *= 1e4
    model = StudentT()
    state = model.initial_state(power, everywhere(power))
    for _ in range(20):
        state = model.update_from_power(state, power, everywhere(power))
    variance = model.variance(state)[0]
    elsewhere = torch.arange(60) != 30
    assert float((variance[elsewhere].mean(dim=0) / quiet[0].mean(dim=0)).max()) < 2  # a Gaussian's is lifted 100-fold
    assert float((power[0, 30] / variance[30]).mean()) == pytest.approx(1.0, rel=0.2)


def test_unobserved_steps_say_nothing() -> None:
    """Both statistics zero: the power that is expected is the variance itself, and a converged fit stays."""
    model, power = StudentT(), noise(2.0)
    state = model.initial_state(power, everywhere(power))
    for _ in range(5):
        state = model.update_from_power(state, power, everywhere(power))
    nothing = torch.zeros_like(power)
    direct = model.update_from_power(state, model.variance(state), everywhere(power))
    for name, value in model.update(state, nothing, nothing).items():
        torch.testing.assert_close(value, direct[name])


@pytest.mark.parametrize("arguments", [{"degrees": 0.0}, {"degrees": -1.0}, {"quantile": 0.0}, {"quantile": 1.0}])
def test_refuses_what_it_cannot_be(arguments: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        StudentT(**arguments)

"""Checks of the kind `noise_model`."""

from __future__ import annotations

import torch

from avse.contracts.checks import (
    DOCUMENTED,
    Check,
    build,
    expect,
    expect_close,
    expect_finite,
    seeded,
)
from avse.contracts.noise_model import NoiseModel, State


def _example(seed: int = 0, lengths: tuple[int, ...] = (30, 18)) -> tuple[torch.Tensor, torch.Tensor]:
    """Power of a stationary hum with bursts, (batch, steps, bins), and where clips are."""
    power = torch.zeros(len(lengths), max(lengths), 321)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed * 100 + length)
        shape = 1e-3 + torch.linspace(1, 0, 321).square()
        gain = 0.2 + torch.rand(length, 1, generator=generator)
        power[row, :length] = shape * gain * -torch.rand(length, 321, generator=generator).clamp(min=1e-6).log()
    inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return power, inside


def _fit(model: NoiseModel, power: torch.Tensor, inside: torch.Tensor, iterations: int) -> list[State]:
    with torch.no_grad(), seeded(3):
        states = [model.initial_state(power, inside)]
        for _ in range(iterations):
            states.append(model.update_from_power(states[-1], power, inside))
    return states


def _positive(cls: type) -> None:
    model = build(cls)
    power, inside = _example()
    for name, given in {"noise": power, "silence": power * 0, "huge power": power * 1e8}.items():
        variance = model.variance(_fit(model, given, inside, 3)[-1])
        expect(variance.shape == power.shape, f"{name}: variance has shape {tuple(variance.shape)}")
        expect_finite(variance, f"variance of {name}")
        expect(bool((variance[inside] > 0).all()), f"variance of {name} reaches {float(variance[inside].min()):.3g}")


def _fits(cls: type) -> None:
    model = build(cls)
    power, inside = _example()

    def misfit(state: State) -> float:  # Itakura-Saito, up to a constant
        variance = model.variance(state)
        return float((power / variance + variance.log())[inside].mean())

    values = [misfit(state) for state in _fit(model, power, inside, 10)]
    expect(values[-1] <= values[0] + 1e-6, f"the misfit went from {values[0]:.5g} to {values[-1]:.5g} in 10 updates")


def _keeps_state(cls: type) -> None:
    model = build(cls)
    power, inside = _example()
    state = _fit(model, power, inside, 0)[0]
    kept = {name: value.clone() for name, value in state.items()}
    model.update_from_power(state, power, inside)
    changed = [name for name, value in kept.items() if not torch.equal(value, state[name])]
    expect(not changed, f"update changed {', '.join(changed)} of the state it was given")


def _batches(cls: type) -> None:
    model = build(cls, dtype=torch.float64)
    power, inside = (t.double() if t.is_floating_point() else t for t in _example())
    other = power.clone()
    other[1] *= 7.0
    one, two = (model.variance(_fit(model, given, inside, 5)[-1]) for given in (power, other))
    expect_close(one[0], two[0], "variance of a clip beside two different others", 1e-6)


CHECKS = [
    DOCUMENTED,
    Check(
        "positive", _positive, "the variance is positive and finite, also for silence", "floor factors at a small value"
    ),
    Check("fits", _fits, "updates bring the variance closer to the power", "check numerator / denominator in the rule"),
    Check("keeps_state", _keeps_state, "update changes no tensor of the state given", "use no in-place operations"),
    Check(
        "batch_equals_singles", _batches, "a clip's fit does not depend on the others", "sum over steps per clip only"
    ),
]

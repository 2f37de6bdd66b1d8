"""Kind `noise_model`: the variance of noise over time and frequency, fitted on the clip or told by its scene."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from avse.contracts.checks import DOCUMENTED, Check, build, expect, expect_close, expect_finite, seeded
from avse.contracts.plugin import Plugin

State = dict[str, torch.Tensor]


class NoiseModel(nn.Module, Plugin):
    """Noise as a zero-mean complex Gaussian, n ~ N_c(0, V), whose variance V an inference refines step by step.

    What is fitted on a clip is a `State`: a dictionary of tensors with the batch first. Methods return new states and
    change none, so that an iteration can be a layer of a network (unrolled inference) and gradients pass through it.

    The M-step sees only two non-negative statistics, the parts of the objective's gradient with respect to the
    variance, d objective / d V = denominator - numerator. They cover the ways in which inferences of the field
    fit noise: with draws r of speech, `numerator = mean_r |x|^2 / Vx_r^2` and denominator = mean_r 1 / Vx_r
    (Monte-Carlo EM); with a posterior noise power P, numerator = P / V^2 and denominator = 1 / V (variational EM).
    A factorisation turns them into multiplicative rules, another model into gradient steps.
    """

    @abstractmethod
    def initial_state(self, power: torch.Tensor, inside: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """Where the fit begins.

        Arguments
        ---------
        power : tensor, shape (batch, steps, bins)
            `|x|^2` of the noisy sound.
        inside : tensor, shape (batch, steps), bool
            False beyond each clip's end; those steps must not count.
        scene : tensor, shape (batch, dim), or None
            An embedding of what is known of the noise (text, picture, sound); a model without use for it ignores it.

        Returns
        -------
        dict of str to tensor, batch first
        """

    @abstractmethod
    def variance(self, state: State) -> torch.Tensor:
        """V, positive, shape (batch, steps, bins)."""

    @abstractmethod
    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        """One M-step.

        Arguments
        ---------
        state : State
            Not changed.
        numerator, denominator : tensor, shape (batch, steps, bins), non-negative
            See the class; zero beyond each clip's end.

        Returns
        -------
        State
        """

    def update_from_power(self, state: State, power: torch.Tensor, inside: torch.Tensor) -> State:
        """One M-step that fits the variance to a posterior noise power.

        Arguments
        ---------
        state : State
        power : tensor, shape (batch, steps, bins)
            `E |n|^2` under the posterior.
        inside : tensor, shape (batch, steps), bool
        """
        weight = inside[..., None] / self.variance(state)
        return self.update(state, power * weight.square(), weight)


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

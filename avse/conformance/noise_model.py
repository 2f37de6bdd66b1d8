"""Checks of the kind `noise_model`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from avse.conformance import unrolled
from avse.conformance.common import DOCUMENTED
from avse.conformance.core import Check, Checks, NotApplicable, build, expect, expect_close, expect_finite, seeded
from avse.conformance.modules import ModuleChecks, Probe, Views, causal_instance, compare
from avse.contracts.noise_model import NoiseModel, ScoreNoiseModel, State

CHECKS = Checks([DOCUMENTED])

_BINS = 321
Example = tuple[torch.Tensor, torch.Tensor]


def _example(lengths: tuple[int, ...] = (30, 18)) -> Example:
    """Power of a stationary hum with bursts, (batch, frames, bins), and the length mask."""
    power = torch.zeros(len(lengths), max(lengths), _BINS)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(length)
        shape = 1e-3 + torch.linspace(1, 0, _BINS).square()
        gain = 0.2 + torch.rand(length, 1, generator=generator)
        power[row, :length] = shape * gain * -torch.rand(length, _BINS, generator=generator).clamp(min=1e-6).log()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return power, mask


def _inputs(model: NoiseModel) -> Example:
    return _example()


def _scene(model: NoiseModel, like: torch.Tensor) -> torch.Tensor | None:
    """A scene for a model that takes one: an embedding, and how the noise sounds."""
    if not getattr(model, "scene_dim", 0):
        return None
    dim = model.scene_dim + model.scene_sound
    scene = torch.randn(dim, generator=torch.Generator().manual_seed(1)).to(like)
    return F.normalize(scene, dim=0).expand(like.shape[0], dim)


def _states(model: NoiseModel, power: torch.Tensor, mask: torch.Tensor, iterations: int) -> list[State]:
    states = [model.initial_state(power, mask, _scene(model, power))]
    for _ in range(iterations):
        states.append(model.update_from_power(states[-1], power, mask))
    return states


def _fit(model: NoiseModel, power: torch.Tensor, mask: torch.Tensor, iterations: int) -> list[State]:
    with torch.no_grad(), seeded(3):
        return _states(model, power, mask, iterations)


def _fitted(model: NoiseModel, power: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.variance(_fit(model, power, mask, 3)[-1])


def _outputs(model: NoiseModel, power: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    return [model.variance(_states(model, power, mask, 2)[-1])]


def _look(model: NoiseModel, power: torch.Tensor, mask: torch.Tensor) -> Views:
    with torch.no_grad():
        views = [model.variance(state) for state in _fit(model, power, mask, 3)]
    inside = [torch.where(mask[..., None], variance, variance.new_zeros(())) for variance in views]
    return {"variance of the initial state": inside[0], "variance": inside[-1]}


_PROBE = Probe(lambda model, frames, seed: _example((frames,)), _look)


@CHECKS.add("shapes", hint="keep a batch and a frame axis even if their size is one")
def _shapes(cls: type[Any]) -> None:
    """States are tensors with the batch first; the variance has the shape of the power, for any batch and length."""
    model = build(cls)
    for lengths in ((1,), (7,), (30, 18, 1)):
        power, mask = _example(lengths)
        for number, state in enumerate(_fit(model, power, mask, 2)):
            for name, value in state.items():
                expect(
                    isinstance(value, torch.Tensor) and value.shape[:1] == (len(lengths),),
                    f"{name} of the state is {tuple(getattr(value, 'shape', ())) or type(value).__name__}, not a "
                    f"tensor with a batch of {len(lengths)} first",
                )
            shape = tuple(model.variance(state).shape)
            expect(shape == tuple(power.shape), f"after {number} updates, power {tuple(power.shape)} gave {shape}")


@CHECKS.add("hostile_input", hint="floor factors at a small value")
def _hostile(cls: type[Any]) -> None:
    """Silence, huge and tiny power and a single burst give a positive, finite variance."""
    model = build(cls)
    power, mask = _example()
    burst = torch.zeros_like(power)
    burst[:, 5, 40] = 1.0
    cases = {"noise": power, "silence": power * 0, "huge power": power * 1e8, "tiny power": power * 1e-14}
    for name, case in {**cases, "one burst": burst}.items():
        variance = _fitted(model, case, mask)
        expect_finite(variance, f"variance of {name}")
        expect(bool((variance[mask] > 0).all()), f"variance of {name} reaches {float(variance[mask].min()):.3g}")


@CHECKS.add("fits", hint="check numerator / denominator in the rule")
def _fits(cls: type[Any]) -> None:
    """Updates bring the variance closer to the power."""
    model = build(cls)
    power, mask = _example()

    def divergence(state: State) -> float:  # Itakura-Saito, up to a constant
        with torch.no_grad():
            variance = model.variance(state)
        return float((power / variance + variance.log())[mask].mean())

    first, *_, last = (divergence(state) for state in _fit(model, power, mask, 10))
    expect(last <= first + 1e-6, f"the objective went from {first:.5g} to {last:.5g} in 10 updates")


@CHECKS.add("keeps_state", hint="use no in-place operations")
def _keeps_state(cls: type[Any]) -> None:
    """Update changes no tensor of its argument."""
    model = build(cls)
    power, mask = _example()
    state = _fit(model, power, mask, 0)[0]
    copies = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        model.update_from_power(state, power, mask)
    changed = [name for name, value in copies.items() if not torch.equal(value, state[name])]
    expect(not changed, f"update changed {', '.join(changed)} of its argument `state`")


@CHECKS.add("score", hint="let noise_given invert domain_of where r is small; tell it nothing of the padding")
def _score(cls: type[Any]) -> None:
    """A score of noise is finite, leads back to the noise where r is small, and knows each clip alone."""
    if not issubclass(cls, ScoreNoiseModel):
        raise NotApplicable("knows no score")
    model, (power, mask) = build(cls).double(), _example()
    power = power.double()
    generator = torch.Generator().manual_seed(2)
    phase = 6.283 * torch.rand(power.shape, generator=generator).double()
    noise = power.sqrt() * torch.polar(torch.ones_like(power), phase)

    def given(noise: torch.Tensor, mask: torch.Tensor, ratio: float, scene: torch.Tensor | None) -> list[torch.Tensor]:
        with torch.no_grad(), seeded(3):
            state = model.initial_state(noise.abs().square(), mask, scene)
            level = noise.real.new_full((len(noise),), ratio)
            return list(model.noise_given(model.domain_of(noise, state), level, state, mask))

    for ratio in (1e-6, 0.1, 2.0):
        for value, what in zip(given(noise, mask, ratio, _scene(model, power)), ("mean", "variance")):
            expect(value.shape == noise.shape, f"{what} of the noise is {tuple(value.shape)}, not {tuple(noise.shape)}")
            expect_finite(value, f"{what} of the noise at r = {ratio:g}")
            if what == "variance":
                expect(
                    bool((value[mask] > 0).all()), f"the variance of the noise reaches {float(value[mask].min()):.3g}"
                )
    mean, variance = given(noise, mask, 1e-6, None)
    real = torch.view_as_real
    expect_close(real(mean[mask]), real(noise[mask]), "the noise that is expected at r = 1e-6 and the noise", 1e-3)
    expect(bool((variance < 1e-3 * power.max()).all()), f"at r = 1e-6 the variance is {float(variance.max()):.3g}")
    together, [length] = given(noise, mask, 0.1, None), mask[1:].sum(dim=1).tolist()
    alone = given(noise[1:, :length], mask[1:, :length], 0.1, None)
    for one, other in zip(together, alone):
        one, other = (real(value) if value.is_complex() else value for value in (one[1:, :length], other))
        expect_close(one, other, "a clip's noise in a batch and alone", 1e-6)
    if model.scene_dim:
        for one, other in zip(together, given(noise, mask, 0.1, power.new_zeros(len(power), model.scene_dim))):
            expect(torch.equal(one, other), "a scene of zeros changes the noise that is expected")


@CHECKS.add("causal", hint="sum over the frames so far; or set causal = False")
def _causal(cls: type[Any]) -> None:
    model = causal_instance(cls).double()
    power, mask = _example((30,))
    later = power.clone()
    later[:, 18:] *= 9.0
    one, two = (_fitted(model, case.double(), mask)[:, :18] for case in (power, later))
    expect_close(one, two, "variance before the power changes", 1e-7)


def _padding(cls: type[Any]) -> None:
    _PROBE.padding(cls, lengths=(18,), more=(7,))
    model, (power, mask) = build(cls).double(), _example()
    power = power.double()
    loud = torch.where(mask[..., None], power, 1e3)
    compare(
        _look(model, power, mask), _look(model, loud, mask), "with silence and with power beyond a clip's end", 1e-6
    )


CHECKS += [
    Check("padding", _padding, hint="count only the frames of `mask`, in `initial_state` too"),
    Check(
        "batch_equals_singles",
        partial(_PROBE.batches, lengths=(30, 29, 18)),
        hint="sum over the frames of each clip by itself; draw for each clip by itself",
    ),
    Check(
        "precision",
        partial(_PROBE.precision, inputs=_inputs, tolerances={torch.float64: 1e-3}),
        "float32 and float64 in, the same out; mixed precision in bfloat16 stays finite",
        "create tensors with dtype and device of x; floor factors at a small value",
    ),
    *ModuleChecks(_inputs, _outputs, lambda model, times: _example((200 * times,)), draws=True).all(),
    Check("unrolled", unrolled.check_noise_model, unrolled.PROMISE, unrolled.HINT),
]
DOES_NOT_APPLY = {"no_video_is_audio_only": "takes no video", "invalid_frames_ignored": "takes no video"}

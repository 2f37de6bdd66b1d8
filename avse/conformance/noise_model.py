"""Checks of the kind `noise_model`."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import torch
from torch.nn import functional as F

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.complexity import grows_as_declared
from avse.conformance.core import (
    Check,
    NotApplicable,
    build,
    expect,
    expect_close,
    expect_finite,
    seeded,
)
from avse.conformance.devices import moves_to_devices
from avse.conformance.modules import (
    autocast,
    causal_instance,
    every_parameter_learns,
    repeatable,
    weights_round_trip,
)
from avse.contracts.noise_model import NoiseModel, State

_BINS = 321


def _example(lengths: tuple[int, ...] = (30, 18)) -> tuple[torch.Tensor, torch.Tensor]:
    """Power of a stationary hum with bursts, (batch, frames, bins), and where clips are."""
    power = torch.zeros(len(lengths), max(lengths), _BINS)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(length)
        shape = 1e-3 + torch.linspace(1, 0, _BINS).square()
        gain = 0.2 + torch.rand(length, 1, generator=generator)
        power[row, :length] = shape * gain * -torch.rand(length, _BINS, generator=generator).clamp(min=1e-6).log()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return power, mask


def _long_example(model: NoiseModel, times: int) -> tuple[torch.Tensor, torch.Tensor]:
    return _example((200 * times,))


def _scene(model: NoiseModel, like: torch.Tensor) -> torch.Tensor | None:
    """An embedding of the noise for a model that says by `scene_dim` how many features it takes."""
    dim = getattr(model, "scene_dim", 0)
    if not dim:
        return None
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


def _outputs(model: NoiseModel, *power_and_mask: torch.Tensor) -> list[torch.Tensor]:
    return [model.variance(_states(model, *(power_and_mask or _example()), 2)[-1])]


def _seeded_outputs(model: NoiseModel) -> list[torch.Tensor]:
    with seeded(3):
        return _outputs(model)


def _double(power: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return power.double(), mask


def _shapes(cls: type) -> None:
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


def _hostile(cls: type) -> None:
    model = build(cls)
    power, mask = _example()
    burst = torch.zeros_like(power)
    burst[:, 5, 40] = 1.0
    cases = {"noise": power, "silence": power * 0, "huge power": power * 1e8, "tiny power": power * 1e-14}
    for name, given in {**cases, "one burst": burst}.items():
        variance = _fitted(model, given, mask)
        expect_finite(variance, f"variance of {name}")
        expect(bool((variance[mask] > 0).all()), f"variance of {name} reaches {float(variance[mask].min()):.3g}")


def _fits(cls: type) -> None:
    model = build(cls)
    power, mask = _example()

    def nll(state: State) -> float:  # Itakura-Saito, up to a constant
        with torch.no_grad():
            variance = model.variance(state)
        return float((power / variance + variance.log())[mask].mean())

    values = [nll(state) for state in _fit(model, power, mask, 10)]
    expect(values[-1] <= values[0] + 1e-6, f"the objective went from {values[0]:.5g} to {values[-1]:.5g} in 10 updates")


def _keeps_state(cls: type) -> None:
    model = build(cls)
    power, mask = _example()
    state = _fit(model, power, mask, 0)[0]
    kept = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        model.update_from_power(state, power, mask)
    changed = [name for name, value in kept.items() if not torch.equal(value, state[name])]
    expect(not changed, f"update changed {', '.join(changed)} of the state it was given")


def _padding(cls: type) -> None:
    model = build(cls, dtype=torch.float64)
    power, mask = _double(*_example((18,)))
    padded = F.pad(power, (0, 0, 0, 7)), F.pad(mask, (0, 7))
    one, two = _fitted(model, power, mask), _fitted(model, *padded)
    expect_close(one, two[:, :18], "variance of a clip and of the same clip with padding", 1e-6)


def _batches(cls: type) -> None:
    model = build(cls, dtype=torch.float64)
    lengths = (30, 29, 18)
    power, mask = _double(*_example(lengths))
    together = _fitted(model, power, mask)
    for row, length in enumerate(lengths):
        alone = _fitted(model, *_double(*_example((length,))))[0]
        what = f"variance of a clip of {length} steps alone and in a batch of clips of 30, 29, 18"
        expect_close(alone, together[row, :length], what, 1e-6)


def _precision(cls: type) -> None:
    model, (power, mask) = build(cls), _example()
    single, double = _fitted(model, power, mask), _fitted(deepcopy(model).double(), power.double(), mask)
    expect(single.dtype == torch.float32, f"float32 in gave {single.dtype}")
    expect(double.dtype == torch.float64, f"float64 in gave {double.dtype}")
    expect_close(single[mask], double[mask], "variance in float32 and float64", 1e-3)
    with autocast():
        expect_finite(_fitted(model, power, mask), "variance in mixed precision (bfloat16)")


def _weights_round_trip(cls: type) -> None:
    if not build(cls).state_dict():
        raise NotApplicable("holds nothing learnt before it sees a clip")
    weights_round_trip(cls, _seeded_outputs)


def _causal(cls: type) -> None:
    model = causal_instance(cls).double()
    power, mask = _double(*_example((30,)))
    later = power.clone()
    later[:, 18:] *= 9.0
    one, two = _fitted(model, power, mask), _fitted(model, later, mask)
    expect_close(one[:, :18], two[:, :18], "variance before the power changes", 1e-7)


CHECKS = [
    DOCUMENTED,
    Check(
        "shapes",
        _shapes,
        "states are tensors with the batch first; the variance has the shape of the power, for any batch and length",
        "keep a batch and a step axis also where they are one",
    ),
    Check("fits", _fits, "updates bring the variance closer to the power", "check numerator / denominator in the rule"),
    Check("keeps_state", _keeps_state, "update changes no tensor of the state given", "use no in-place operations"),
    Check("padding", _padding, "steps beyond a clip's end change nothing", "count only steps that are `mask`"),
    Check(
        "batch_equals_singles",
        _batches,
        "a batch gives what its clips give one by one",
        "sum over the steps of each clip by itself; draw for each clip by itself",
    ),
    Check(
        "gradients",
        partial(every_parameter_learns, outputs=_seeded_outputs),
        "a gradient of the variance reaches every parameter",
        "remove unused layers; use no in-place operations",
    ),
    Check(
        "precision",
        _precision,
        "float32 and float64 in, the same out; mixed precision in bfloat16 stays finite",
        "create tensors with dtype and device of x; floor factors at a small value",
    ),
    Check(
        "weights_round_trip",
        _weights_round_trip,
        "weights saved by torch.save or as safetensors and loaded strictly give the same variance",
        "keep all that is learnt in parameters or persistent buffers",
    ),
    Check(
        "repeatable",
        partial(repeatable, outputs=_outputs, draws=True),
        "one seed gives one result; one clip leaves nothing behind for the next",
        "draw from torch's global generator only; keep what is fitted in the state",
    ),
    RECIPE_ROUND_TRIP,
    Check(
        "causal",
        _causal,
        "with `causal` true no step depends on later power",
        "sum over the steps so far; or set causal = False",
    ),
    Check(
        "devices",
        partial(moves_to_devices, inputs=lambda model: _example(), outputs=_outputs, draws=True),
        "moved to another device with its input, it gives its result there",
        "make tensors with device=power.device; keep constants in buffers (register_buffer)",
    ),
    Check(
        "hostile_input",
        _hostile,
        "silence, huge and tiny power and a single burst give a positive, finite variance",
        "floor factors at a small value",
    ),
    Check(
        "complexity",
        partial(grows_as_declared, inputs=_long_example, outputs=_outputs),
        "time and memory grow no faster with the steps of a clip than the attribute `complexity` says",
        "compare no step with every other; or set growth = 'quadratic'",
    ),
]
DOES_NOT_APPLY = {
    "no_video_is_audio_only": "sees no video",
    "invalid_frames_ignored": "sees no video",
}

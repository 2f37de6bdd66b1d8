"""Checks of the kind `sde`."""

from __future__ import annotations

import torch

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.core import Check, build, expect, expect_close, expect_finite

_METHODS = ("marginal", "coefficients")


def _times(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(0.02, 1.0, 50, dtype=dtype)


def _shapes(cls: type) -> None:
    sde = build(cls)
    for shape in ((), (1,), (5,), (2, 3)):
        time = torch.full(shape, 0.4)
        for name in _METHODS:
            found = [tuple(value.shape) for value in getattr(sde, name)(time)]
            expect(found == [shape] * 2, f"{name} of times of shape {shape} has shapes {found[0]} and {found[1]}")


def _moments(cls: type) -> None:
    """d scale / dt = -decay scale, and d std^2 / dt = -2 decay std^2 + diffusion^2."""
    sde, time, small = build(cls), _times(), 1e-5
    scale, std = sde.marginal(time)
    decay, diffusion = sde.coefficients(time)
    before, after = sde.marginal(time - small), sde.marginal(time + small)
    rate = (after[0] - before[0]) / (2 * small)
    expect_close(rate, -decay * scale, "change of scale, from `marginal` and from `coefficients`", 1e-3)
    rate = (after[1].square() - before[1].square()) / (2 * small)
    told = diffusion.square() - 2 * decay * std.square()
    expect_close(rate, told, "change of std^2, from `marginal` and from `coefficients`", 1e-3)


def _direction(cls: type) -> None:
    sde = build(cls)
    scale, std = sde.marginal(torch.zeros(1, dtype=torch.float64))
    expect(abs(float(scale) - 1) < 1e-6 and float(std) < 1e-3, f"at time 0 scale is {float(scale)}, std {float(std)}")
    ratio = sde.ratio(torch.cat([torch.tensor([sde.first_time]).double(), _times()]).sort().values)
    expect_finite(ratio, "std / scale")
    expect(bool((ratio.diff() >= 0).all()) and float(ratio[0]) > 0, "std / scale does not grow with time")


def _precision(cls: type) -> None:
    sde = build(cls)
    for name in _METHODS:
        for one, two in zip(getattr(sde, name)(_times(torch.float32)), getattr(sde, name)(_times())):
            expect(one.dtype == torch.float32, f"{name}: float32 in gave {one.dtype}")
            expect(two.dtype == torch.float64, f"{name}: float64 in gave {two.dtype}")
            expect_close(one, two, f"{name} in float32 and float64")


CHECKS = [
    DOCUMENTED,
    Check(
        "shapes",
        _shapes,
        "both methods give two tensors of the shape of the times, whatever that is",
        "return torch.ones_like(time) or torch.full_like(time, value) for what does not change",
    ),
    Check(
        "moments",
        _moments,
        "`marginal` solves the equation that `coefficients` describes",
        "d scale / dt = -decay scale and d std^2 / dt = diffusion^2 - 2 decay std^2; check factors of 2 and signs",
    ),
    Check(
        "direction",
        _direction,
        "it begins with speech alone (scale 1, std 0), and std / scale grows",
        "begin std^2 at 0",
    ),
    Check(
        "precision",
        _precision,
        "float32 and float64 in, the same out",
        "compute with torch functions of `time`; use expm1 near 0",
    ),
    RECIPE_ROUND_TRIP,
]
_NUMBERS = "a function of time without weights or memory"
DOES_NOT_APPLY = {
    "padding": "takes times, no sound",
    "batch_equals_singles": "takes times, no sound",
    "no_video_is_audio_only": "takes no video",
    "invalid_frames_ignored": "takes no video",
    "gradients": "nothing to learn",
    "weights_round_trip": "nothing to learn",
    "repeatable": _NUMBERS,
    "causal": "takes times, no sound",
    "devices": _NUMBERS,
    "hostile_input": "takes times, no sound",
    "complexity": "takes times, no sound",
}

"""Checks of the kind `sde`."""

from __future__ import annotations

from typing import Any

import torch

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.core import Checks, build, expect, expect_close, expect_finite

CHECKS = Checks([DOCUMENTED])

_METHODS = ("marginal", "coefficients")


def _times(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(0.02, 1.0, 50, dtype=dtype)


@CHECKS.add("shapes", hint="return torch.ones_like(time) or torch.full_like(time, value) for a constant")
def _shapes(cls: type[Any]) -> None:
    """Both methods give two tensors of the shape of the times."""
    sde = build(cls)
    for shape in ((), (1,), (5,), (2, 3)):
        time = torch.full(shape, 0.4)
        for name in _METHODS:
            shapes = [tuple(value.shape) for value in getattr(sde, name)(time)]
            expect(shapes == [shape] * 2, f"{name} of times of shape {shape} has shapes {shapes[0]} and {shapes[1]}")


@CHECKS.add(
    "moments",
    hint="d scale / dt = -decay scale and d std^2 / dt = diffusion^2 - 2 decay std^2; check factors of 2 and signs",
)
def _moments(cls: type[Any]) -> None:
    """`marginal` solves the equation that `coefficients` describes."""
    sde, time, small = build(cls), _times(), 1e-5
    scale, std = sde.marginal(time)
    decay, diffusion = sde.coefficients(time)
    before, after = sde.marginal(time - small), sde.marginal(time + small)
    rate = (after[0] - before[0]) / (2 * small)
    expect_close(rate, -decay * scale, "change of scale, from `marginal` and from `coefficients`", 1e-3)
    rate = (after[1].square() - before[1].square()) / (2 * small)
    expected = diffusion.square() - 2 * decay * std.square()
    expect_close(rate, expected, "change of std^2, from `marginal` and from `coefficients`", 1e-3)


@CHECKS.add("direction", hint="start std^2 at 0")
def _direction(cls: type[Any]) -> None:
    """It starts with speech alone (scale 1, std 0), and std / scale grows."""
    sde = build(cls)
    scale, std = sde.marginal(torch.zeros(1, dtype=torch.float64))
    expect(abs(float(scale) - 1) < 1e-6 and float(std) < 1e-3, f"at time 0 scale is {float(scale)}, std {float(std)}")
    ratio = sde.ratio(torch.cat([torch.tensor([sde.first_time]).double(), _times()]).sort().values)
    expect_finite(ratio, "std / scale")
    expect(bool((ratio.diff() >= 0).all()) and float(ratio[0]) > 0, "std / scale does not grow with time")


@CHECKS.add("precision", hint="compute with torch functions of `time`; use expm1 near 0")
def _precision(cls: type[Any]) -> None:
    """Float32 and float64 in, the same out."""
    sde = build(cls)
    for name in _METHODS:
        for one, two in zip(getattr(sde, name)(_times(torch.float32)), getattr(sde, name)(_times())):
            expect(one.dtype == torch.float32, f"{name}: float32 in gave {one.dtype}")
            expect(two.dtype == torch.float64, f"{name}: float64 in gave {two.dtype}")
            expect_close(one, two, f"{name} in float32 and float64")


CHECKS.append(RECIPE_ROUND_TRIP)
DOES_NOT_APPLY = {
    **dict.fromkeys(
        ("padding", "batch_equals_singles", "causal", "hostile_input", "complexity"), "takes times, no audio"
    ),
    **dict.fromkeys(("no_video_is_audio_only", "invalid_frames_ignored"), "takes no video"),
    **dict.fromkeys(("gradients", "weights_round_trip"), "nothing to learn"),
    **dict.fromkeys(("repeatable", "devices"), "a function of time without weights or memory"),
}

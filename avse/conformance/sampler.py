"""Checks of the kind `sampler`, with speech of a known distribution and score."""

from __future__ import annotations

from typing import Any

import torch

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.core import Check, Checks, build, expect, expect_close, expect_equal, expect_finite
from avse.contracts.sampler import Expected, Noise, Sampler
from avse.contracts.sde import Sde

CHECKS = Checks([DOCUMENTED])

_BINS = 4
_ENOUGH = 100  # steps with which every sampler must draw the right distribution


class _Growing(Sde):
    """Noise whose standard deviation grows from 0 to 5, in proportion to the cube of time."""

    def marginal(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(time), 5.0 * time**3

    def coefficients(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros_like(time), 5.0 * (6.0 * time**5).sqrt()


_SDE = _Growing(first_time=0.12)


def _gaussian() -> tuple[torch.Tensor, torch.Tensor, Expected]:
    """Mean and covariance of neighbouring bins of Gaussian speech, and its expectation given a state."""
    generator = torch.Generator().manual_seed(5)
    mean = torch.view_as_complex(0.15 * torch.randn(_BINS, 2, generator=generator).double())
    root = torch.view_as_complex(0.1 * torch.randn(_BINS, _BINS, 2, generator=generator).double())
    covariance = root @ root.mH + 0.01 * torch.eye(_BINS)
    eye = torch.eye(_BINS, dtype=covariance.dtype)

    def expected(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        scale, std = (value.double() for value in _SDE.marginal(time))
        ratio = (std / scale).square()[:, None, None]
        weight = torch.linalg.solve(covariance + ratio * eye, covariance.expand(len(state), _BINS, _BINS), left=False)
        distance = (state / scale[:, None, None] - mean).to(covariance)
        return (mean + distance @ weight.mT).to(state)

    return mean, covariance, expected


def _noise(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Noise:
    """Noise with a generator for each clip, as inferences draw it."""
    generators = [torch.Generator().manual_seed(seed + row) for row in range(shape[0])]

    def draw() -> torch.Tensor:
        drawn = [torch.randn(*shape[1:], 2, generator=g, dtype=torch.float64) for g in generators]
        return torch.view_as_complex((torch.stack(drawn) * 0.5**0.5).to(dtype))

    return draw


def _drawn(sampler: Sampler, shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return sampler.sample(_gaussian()[2], _SDE, _noise(shape, dtype, seed))


def _same(one: torch.Tensor, two: torch.Tensor, what: str) -> None:
    expect_equal(torch.view_as_real(one), torch.view_as_real(two), what)


@CHECKS.add("shapes", hint="move value by value")
def _shapes(cls: type[Any]) -> None:
    """It draws in the shape of its noise, with any number of steps."""
    for steps in (1, 2, 7):
        for shape in ((1, 1, _BINS), (3, 5, _BINS)):
            drawn = _drawn(build(cls, steps=steps), shape)
            expect(tuple(drawn.shape) == shape and drawn.is_complex(), f"{shape} asked, {tuple(drawn.shape)} drawn")
            expect_finite(torch.view_as_real(drawn), f"draws of {steps} steps")


def _moments(cls: type[Any]) -> None:
    mean, covariance, _ = _gaussian()
    drawn = _drawn(build(cls, steps=_ENOUGH), (4, 1500, _BINS)).flatten(0, 1)
    # The last step gives the expected speech, which varies a little less; the standard error is near 0.013.
    away = (drawn.mean(dim=0) - mean).abs().max() / covariance.diagonal().real.max().sqrt()
    expect(float(away) < 0.06, f"the mean is {float(away):.3f} standard deviations off")
    centred = drawn - drawn.mean(dim=0)
    wrong = (centred.mT @ centred.conj() / len(centred) - covariance).abs().max() / covariance.abs().max()
    expect(float(wrong) < 0.1, f"the covariance is off by {float(wrong):.3f} of its largest entry")


@CHECKS.add("few_steps", hint="take more steps by default")
def _few_steps(cls: type[Any]) -> None:
    """With its own number of steps, variances are right within a factor of about 1.5."""
    mean, covariance, _ = _gaussian()
    drawn = _drawn(build(cls), (4, 1000, _BINS)).flatten(0, 1)
    ratio = (drawn - mean).abs().square().mean(dim=0) / covariance.diagonal().real
    low, high = float(ratio.min()), float(ratio.max())
    expect(low > 0.5 and high < 1.6, f"with its own number of steps, variances are wrong by {low:.2f} to {high:.2f}")


@CHECKS.add("batch_equals_singles", hint="take no norms or other statistics over the batch")
def _batches(cls: type[Any]) -> None:
    together = _drawn(build(cls, steps=5), (3, 6, _BINS))
    for row in range(3):
        alone = _drawn(build(cls, steps=5), (1, 6, _BINS), seed=row)
        one, two = torch.view_as_real(alone[0]), torch.view_as_real(together[row])
        expect_close(one, two, f"clip {row} alone and in a batch of 3", 1e-6)


@CHECKS.add("repeatable", hint="draw from `noise` only; keep what passes from one move to the next in `memory`")
def _repeatable(cls: type[Any]) -> None:
    """Equal noise gives equal speech; one run does not change the next."""
    sampler = build(cls, steps=5)
    one = _drawn(sampler, (2, 6, _BINS))
    torch.manual_seed(1)
    _same(one, _drawn(sampler, (2, 6, _BINS)), "two runs with the same noise")
    _same(one, _drawn(build(cls, seed=1, steps=5), (2, 6, _BINS)), "two instances with the same noise")


@CHECKS.add("keeps_state", hint="use no in-place operations")
def _keeps_state(cls: type[Any]) -> None:
    """The state does not change in place."""
    sampler, (_, _, expected) = build(cls), _gaussian()
    state, time = _noise((2, 3, _BINS))(), torch.full((2,), 0.6, dtype=torch.float64)
    before = state.clone()
    sampler.correct(state, time, expected, _SDE, _noise((2, 3, _BINS)))
    sampler.move(state, time, time - 0.1, expected, _SDE, {})
    _same(before, state, "the state before and after a step")


@CHECKS.add("precision", hint="create tensors with dtype and device of the state")
def _precision(cls: type[Any]) -> None:
    """Complex64 and complex128 in, the same out."""
    sampler = build(cls, steps=5)
    single, double = (_drawn(sampler, (2, 6, _BINS), dtype) for dtype in (torch.float32, torch.float64))
    expect(single.dtype == torch.complex64, f"complex64 in gave {single.dtype}")
    expect(double.dtype == torch.complex128, f"complex128 in gave {double.dtype}")
    expect_close(torch.view_as_real(single), torch.view_as_real(double), "draws in float32 and float64", 1e-3)


CHECKS += [
    Check(
        "moments",
        _moments,
        f"with {_ENOUGH} steps, Gaussian speech is drawn with the right mean and covariance",
        "variances are those of real and imaginary part together; the score is (scale E - state) / std^2",
    ),
    RECIPE_ROUND_TRIP,
]
DOES_NOT_APPLY = {
    **dict.fromkeys(("padding", "causal", "hostile_input"), "moves the states of a model, never a user's clip"),
    **dict.fromkeys(("no_video_is_audio_only", "invalid_frames_ignored"), "takes no video"),
    **dict.fromkeys(("gradients", "weights_round_trip"), "nothing to learn"),
    "devices": "holds no tensor",
    "complexity": "moves each value by itself",
}

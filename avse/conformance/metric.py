"""Checks of the kind `metric`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.complexity import grows_without_torch
from avse.conformance.core import Check, Checks, build, expect
from avse.errors import AvseError

CHECKS = Checks([DOCUMENTED])


def _example_audio(seed: int = 0, seconds: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Audio like speech (a gliding harmonic series in syllables) and the same in noise, each (samples,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / 16_000
    harmonics = np.sin(np.arange(1, 25)[:, None] * phase) / np.arange(1, 25)[:, None]
    clean = 0.1 * harmonics.sum(axis=0) * np.clip(np.sin(2 * np.pi * 3 * time), 0, None)
    return clean, clean + 0.08 * rng.standard_normal(len(time))


@CHECKS.add("declares_itself", hint="set the class attributes")
def _declares_itself(cls: type[Any]) -> None:
    """Name, unit and higher_is_better are set."""
    expect(isinstance(cls.name, str) and cls.name.strip(), f"name is {cls.name!r}")
    expect(isinstance(cls.unit, str), f"unit is {cls.unit!r}")
    expect(isinstance(cls.higher_is_better, bool), f"higher_is_better is {cls.higher_is_better!r}")


@CHECKS.add("returns_float", hint="wrap the result in float(...); work on copies")
def _returns_float(cls: type[Any]) -> None:
    """Arrays in, a finite Python float out, inputs untouched."""
    clean, noisy = _example_audio()
    arguments = noisy, clean, noisy
    copies = [audio.copy() for audio in arguments]
    score = build(cls)(*arguments)
    expect(isinstance(score, float) and np.isfinite(score), f"the score is {score!r} ({type(score).__name__})")
    expect(all(np.array_equal(a, b) for a, b in zip(arguments, copies)), "an input array was changed")


@CHECKS.add("precision", hint="compute in float64")
def _precision(cls: type[Any]) -> None:
    """Float32 and float64 arrays give one score."""
    clean, noisy = _example_audio()
    metric = build(cls)
    double = metric(noisy, clean, noisy)
    single = metric(*(audio.astype(np.float32) for audio in (noisy, clean, noisy)))
    close = np.isfinite(single) and abs(single - double) <= 1e-3 * max(1.0, abs(double))
    expect(close, f"the score is {double!r} of float64 and {single!r} of float32 arrays")


@CHECKS.add("prefers_clean", hint="check the order of the arguments (estimate, clean, noisy) and higher_is_better")
def _prefers_clean(cls: type[Any]) -> None:
    """A nearly clean estimate scores better than the noisy audio."""
    clean, noisy = _example_audio()
    metric = build(cls)
    better, worse = metric(0.999 * clean + 0.001 * noisy, clean, noisy), metric(noisy, clean, noisy)
    right = better > worse if cls.higher_is_better else better < worse
    expect(right, f"nearly clean scores {better:.4g}, noisy {worse:.4g}, higher_is_better is {cls.higher_is_better}")


@CHECKS.add("repeatable", hint="draw nothing at random, or seed it; keep nothing from one clip to the next")
def _repeats(cls: type[Any]) -> None:
    """The same audio gives the same score, whatever was scored before."""
    clean, noisy = _example_audio()
    metric = build(cls)
    scores = [metric(estimate, clean, noisy) for estimate in (noisy, 0.5 * (clean + noisy), noisy)]
    expect(scores[0] == scores[2], f"two calls on the same audio gave {scores[0]!r} and {scores[2]!r}")


@CHECKS.add("hostile_input", hint="raise AvseError if the score is not defined")
def _hostile(cls: type[Any]) -> None:
    """Silence, NaN, clipping and empty audio give a finite score or an AvseError with the reason."""
    clean, noisy = _example_audio()
    silent, broken = np.zeros_like(clean), np.where(np.arange(len(clean)) == 100, np.nan, clean)
    cases = {
        "a silent estimate": (silent, clean, noisy),
        "silent clean speech": (noisy, silent, noisy),
        "a NaN in the estimate": (broken, clean, noisy),
        "a clipped estimate": (np.clip(100 * noisy, -1, 1), clean, noisy),
        "an empty estimate": (clean[:0], clean[:0], clean[:0]),
        "one sample": (clean[5:6], clean[5:6], noisy[5:6]),
    }
    metric = build(cls)
    for name, arguments in cases.items():
        try:
            score = metric(*arguments)
        except AvseError:
            continue
        expect(np.isfinite(score), f"{name} scores {score!r}")


def _long_inputs(times: int, seed: int) -> tuple[np.ndarray, ...]:
    clean, noisy = _example_audio(seed, seconds=1.5 * times)
    return noisy, clean, noisy


CHECKS += [
    RECIPE_ROUND_TRIP,
    Check("complexity", partial(grows_without_torch, inputs=_long_inputs), hint="correlate by FFT, or within a window"),
]
DOES_NOT_APPLY = {
    "shapes": "gives one number: see returns_float",
    **dict.fromkeys(("padding", "batch_equals_singles"), "scores one clip, without padding"),
    **dict.fromkeys(("no_video_is_audio_only", "invalid_frames_ignored"), "takes no video"),
    "gradients": "a number for tables; losses are part of training",
    "weights_round_trip": "nothing to learn",
    "causal": "scores whole recordings",
    "devices": "works on NumPy arrays",
}

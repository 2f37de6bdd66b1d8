"""Checks of the kind `metric`."""

from __future__ import annotations

import numpy as np

from avse.contracts.checks import (
    DOCUMENTED,
    Check,
    build,
    expect,
)
from avse.errors import AvseError


def _example_sounds(seed: int = 0, seconds: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """A speech-like sound (a gliding harmonic series in syllables) and the same in noise, each (samples,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / 16_000
    voice = sum(np.sin(k * phase) / k for k in range(1, 25))
    clean = 0.1 * voice * np.clip(np.sin(2 * np.pi * 3 * time), 0, None)
    return clean, clean + 0.08 * rng.standard_normal(len(time))


def _declares_itself(cls: type) -> None:
    expect(isinstance(cls.name, str) and cls.name.strip(), f"name is {cls.name!r}")
    expect(isinstance(cls.unit, str), f"unit is {cls.unit!r}")
    expect(isinstance(cls.higher_is_better, bool), f"higher_is_better is {cls.higher_is_better!r}")


def _returns_float(cls: type) -> None:
    clean, noisy = _example_sounds()
    for sounds in ((noisy, clean, noisy), tuple(s.astype(np.float32) for s in (noisy, clean, noisy))):
        kept = [sound.copy() for sound in sounds]
        score = build(cls)(*sounds)
        expect(isinstance(score, float) and np.isfinite(score), f"the score is {score!r} ({type(score).__name__})")
        expect(all(np.array_equal(a, b) for a, b in zip(sounds, kept)), "an input array was changed")


def _prefers_clean(cls: type) -> None:
    clean, noisy = _example_sounds()
    metric = build(cls)
    better, worse = metric(0.999 * clean + 0.001 * noisy, clean, noisy), metric(noisy, clean, noisy)
    right = better > worse if cls.higher_is_better else better < worse
    expect(right, f"nearly clean scores {better:.4g}, noisy {worse:.4g}, higher_is_better is {cls.higher_is_better}")


def _repeats(cls: type) -> None:
    clean, noisy = _example_sounds()
    scores = [build(cls)(noisy, clean, noisy) for _ in range(2)]
    expect(scores[0] == scores[1], f"two calls on the same sounds gave {scores[0]!r} and {scores[1]!r}")


def _hostile_sounds(cls: type) -> None:
    clean, noisy = _example_sounds()
    silent, broken = np.zeros_like(clean), np.where(np.arange(len(clean)) == 100, np.nan, clean)
    cases = {
        "a silent estimate": (silent, clean, noisy),
        "a silent voice": (noisy, silent, noisy),
        "a NaN in the estimate": (broken, clean, noisy),
        "a clipped estimate": (np.clip(100 * noisy, -1, 1), clean, noisy),
        "an empty estimate": (clean[:0], clean[:0], clean[:0]),
        "one sample": (clean[5:6], clean[5:6], noisy[5:6]),
    }
    metric = build(cls)
    for name, sounds in cases.items():
        try:
            score = metric(*sounds)
        except AvseError:
            continue
        expect(np.isfinite(score), f"{name} scores {score!r}")


CHECKS = [
    DOCUMENTED,
    Check("declares_itself", _declares_itself, "name, unit and higher_is_better are set", "set the class attributes"),
    Check(
        "returns_float",
        _returns_float,
        "arrays of float32 or float64 in, a finite Python float out, inputs untouched",
        "wrap the result in float(...); work on copies",
    ),
    Check(
        "prefers_clean",
        _prefers_clean,
        "a nearly clean estimate scores better than the noisy sound",
        "look at the order of the arguments (estimate, clean, noisy) and at higher_is_better",
    ),
    Check("repeatable", _repeats, "the same sounds give the same score", "draw nothing at random, or seed it"),
    Check(
        "hostile_sounds",
        _hostile_sounds,
        "silence, NaN, clipping and empty sounds give a finite score or an AvseError that says why",
        "raise AvseError where the score is not defined",
    ),
]

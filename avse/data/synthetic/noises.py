"""Generated noises."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avse.contracts.types import SAMPLE_RATE
from avse.data.noises import COLOURS, coloured_noise

NOISES = (*COLOURS, "surf", "engine", "chirps", "ticks", "alarm")
"""Classes of `make_noise`."""


def make_noise(label: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A random noise of a class.

    Arguments
    ---------
    label : str
        One of `NOISES`: coloured noise; `surf` of slowly varying loudness; an `engine` of varying speed; bird-like
        `chirps`; irregular `ticks`; a two-tone `alarm`.
    seconds : float
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (samples,), float32
        Peak 0.5.

    Example
    -------
    >>> make_noise("engine", 0.5, np.random.default_rng(0)).shape
    (8000,)
    """
    samples = round(seconds * SAMPLE_RATE)
    time = np.arange(samples) / SAMPLE_RATE
    if label in COLOURS:
        noise = coloured_noise(label, samples, rng) * _swell(samples, 0.5, 0.25, rng)
    elif label == "surf":
        noise = coloured_noise("pink", samples, rng) * _swell(samples, rng.uniform(0.15, 0.6), 1.2, rng)
    elif label == "engine":
        speed = rng.uniform(28, 90) * _swell(samples, 0.4, 0.12, rng)
        turn = 2 * np.pi * np.cumsum(speed) / SAMPLE_RATE
        loud = rng.uniform(0.2, 1.0, 40) / np.arange(1, 41) ** rng.uniform(0.5, 1.1)
        noise = sum(level * np.cos((part + 1) * turn + rng.uniform(0, 6.3)) for part, level in enumerate(loud))
        noise = noise + 0.4 * coloured_noise("pink", samples, rng) * (1 + 0.5 * np.cos(turn))
    elif label == "chirps":
        noise = 0.02 * coloured_noise("pink", samples, rng).astype(float)
        for start in _moments(seconds, rng.uniform(2, 6), rng):
            length, low = rng.uniform(0.05, 0.25), rng.uniform(1500, 4500)
            mask = (time >= start) & (time < start + length)
            run = (time[mask] - start) / length
            sweep = low * (1 + rng.uniform(-0.4, 0.6) * run + 0.06 * np.sin(2 * np.pi * rng.uniform(1, 6) * run))
            noise[mask] += np.sin(np.pi * run) * np.sin(2 * np.pi * np.cumsum(sweep) / SAMPLE_RATE)
    elif label == "ticks":
        noise = 0.01 * coloured_noise("white", samples, rng).astype(float)
        for start in _moments(seconds, rng.uniform(4, 14), rng):
            after = time - start
            decay = np.exp(-np.maximum(after, 0) * rng.uniform(60, 300))
            ring = decay * np.sin(2 * np.pi * rng.uniform(700, 5000) * after)
            noise += np.where(after >= 0, rng.uniform(0.3, 1) * ring, 0.0)
    elif label == "alarm":
        low, step = rng.uniform(500, 1000), rng.uniform(0.2, 0.6)
        tone = np.where((time / step).astype(int) % 2 == 0, low, low * rng.uniform(1.2, 1.6))
        turn = 2 * np.pi * np.cumsum(tone) / SAMPLE_RATE
        noise = np.sin(turn) + 0.4 * np.sin(2 * turn) + 0.2 * np.sin(3 * turn) + 0.02 * rng.standard_normal(samples)
    else:
        raise ValueError(f"there is no noise {label!r}; there are {', '.join(NOISES)}.")
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


def _swell(samples: int, per_second: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """A slow random gain around 1."""
    points = 50 * samples // SAMPLE_RATE + 2
    width = 12 / per_second
    slow = gaussian_filter1d(rng.standard_normal(points + 400), width)[200:-200] * np.sqrt(2 * width * np.sqrt(np.pi))
    slow = np.exp(0.67 * size * np.clip(slow, -2, 2))
    return np.interp(np.arange(samples) / SAMPLE_RATE * 50, np.arange(points), slow)


def _moments(seconds: float, per_second: float, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.uniform(0, seconds, max(1, rng.poisson(seconds * per_second))))

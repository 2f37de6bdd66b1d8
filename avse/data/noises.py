"""Noise to mix speech with: coloured noise, and recordings cut or looped to a length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.errors import AvseError

COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0, "blue": -0.5}
"""Exponent of 1/frequency in the amplitude spectrum, by name."""

_LOWEST_HZ = 20.0
_CROSSFADE = SAMPLE_RATE // 20


def coloured_noise(colour: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with a power spectrum that falls (or rises) by a power of the frequency.

    Arguments
    ---------
    colour : {"white", "pink", "brown", "blue"}
        0, -3, -6 or +3 dB per octave; flat below 20 Hz.
    samples : int
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (samples,), float32
        Mean power 1.

    Example
    -------
    >>> noise = coloured_noise("pink", 16000, np.random.default_rng(0))
    >>> noise.shape, round(float((noise**2).mean()), 3)
    ((16000,), 1.0)
    """
    if colour not in COLOURS:
        raise ValueError(f"colour must be one of {', '.join(COLOURS)}, got {colour!r}.")
    length = max(samples, 2 * _CROSSFADE)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(frequency, _LOWEST_HZ) ** -COLOURS[colour]
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, length)[:samples]
    return (noise / np.sqrt((noise**2).mean())).astype(np.float32)


def cut_or_loop(audio: np.ndarray, samples: int, offset: int) -> np.ndarray:
    """`samples` samples of a recording from `offset` on; a recording that is too short is looped.

    A loop is joined by an equal-power crossfade of 50 ms (a quarter of the recording at most).

    Arguments
    ---------
    audio : array, shape (samples,)
    samples, offset : int

    Returns
    -------
    array, shape (samples,)

    Example
    -------
    >>> cut_or_loop(np.arange(5.0), 3, 1).tolist()
    [1.0, 2.0, 3.0]
    >>> cut_or_loop(np.ones(1000), 4000, 10).shape
    (4000,)
    """
    if len(audio) == 0:
        raise ValueError("cut_or_loop: the recording holds no samples.")
    if offset + samples <= len(audio):
        return audio[offset : offset + samples]
    fade = min(_CROSSFADE, len(audio) // 4)
    body = audio[: len(audio) - fade].copy()
    if fade:
        angle = np.linspace(0, np.pi / 2, fade, endpoint=False, dtype=audio.dtype)
        body[:fade] = np.sin(angle) * audio[:fade] + np.cos(angle) * audio[len(audio) - fade :]
    return body[(offset + np.arange(samples)) % len(body)]


def draw_offset(audio: np.ndarray, samples: int, rng: np.random.Generator) -> int:
    """A random place in a recording, shape (samples,), from which on `samples` samples are not nearly silent.

    Another place is drawn where their power is below a tenth of that of the whole recording, eight times at most; then
    the loudest of the places is taken.
    """
    if len(audio) >= samples:
        places = len(audio) - samples + 1
    else:
        places = len(audio) - min(_CROSSFADE, len(audio) // 4)
    wanted = 0.1 * float(np.mean(np.square(audio, dtype=np.float64)))
    best, best_power = 0, -1.0
    for _ in range(8):
        offset = int(rng.integers(places))
        power = float(np.mean(np.square(cut_or_loop(audio, samples, offset), dtype=np.float64)))
        if power > best_power:
            best, best_power = offset, power
        if power >= wanted:
            return offset
    return best


def noise_recordings(
    manifest: str | Path | Sequence[str | Path],
    splits: Sequence[str] = ("train",),
    recordings: int = 400,
    seconds: float = 3.0,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Recordings of noise of a manifest, as `nmf_frozen` learns from.

    Arguments
    ---------
    recordings : int
        At most this number, chosen at random.
    seconds : float
        Length that is taken of each, from a random place on.

    Yields
    ------
    array, shape (samples,), float32
        At 16 kHz.

    Raises
    ------
    AvseError
        If the manifest holds no noise in these splits.
    """
    rows = [row for row in read_manifest(manifest, splits=splits, kinds=["noise"]) if row.noise is not None]
    if not rows:
        raise AvseError(f"{manifest}: holds no noise (kind `noise`) in the splits {', '.join(splits)}.")
    rng = np.random.default_rng(seed)
    samples = int(seconds * SAMPLE_RATE)
    for index in rng.permutation(len(rows))[:recordings]:
        recording = read_audio(rows[index].noise)
        length = min(samples, len(recording))
        yield cut_or_loop(recording, length, draw_offset(recording, length, rng))

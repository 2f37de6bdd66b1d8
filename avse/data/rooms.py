"""Reverberation by the statistical model of a room: a direct path and exponentially decaying noise."""

from __future__ import annotations

import numpy as np

from avse.contracts.types import SAMPLE_RATE

_EARLY = SAMPLE_RATE // 20
_FIRST_REFLECTION = SAMPLE_RATE // 500


def room_response(rt60: float, direct_db: float, rng: np.random.Generator) -> np.ndarray:
    """A room impulse response that starts with its direct path.

    Arguments
    ---------
    rt60 : float
        Seconds in which the reverberation falls by 60 dB.
    direct_db : float
        Energy of the direct path over that of all reflections, in dB.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (taps,), float64
        First tap 1; reflections start 2 ms later.

    Paper: J.-D. Polack, La transmission de l'energie sonore dans les salles, 1988.

    Example
    -------
    >>> response = room_response(0.4, 3.0, np.random.default_rng(0))
    >>> round(float(10 * np.log10(1 / (response[1:] ** 2).sum())), 2)
    3.0
    """
    if not rt60 > 0:
        raise ValueError(f"rt60 must be positive, got {rt60}.")
    taps = _FIRST_REFLECTION + 1 + int(rt60 * SAMPLE_RATE)
    response = rng.standard_normal(taps) * 10 ** (-3 * np.arange(taps) / (rt60 * SAMPLE_RATE))
    response[:_FIRST_REFLECTION] = 0.0
    response *= np.sqrt(10 ** (-direct_db / 10) / (response**2).sum())
    response[0] = 1.0
    return response


def reverberate(speech: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Speech in a room, and the part of it that an enhancer should keep.

    Arguments
    ---------
    speech : array, shape (samples,)
    response : array, shape (taps,)
        From `room_response`.

    Returns
    -------
    reverberant, early : array, shape (samples,), float32
        With all reflections, and with those of the first 50 ms only, which help to understand; both on the clock of
        `speech`.

    Example
    -------
    >>> speech = np.ones(10)
    >>> reverberant, early = reverberate(speech, np.array([1.0]))
    >>> bool(np.allclose(reverberant, speech)), bool(np.allclose(early, speech))
    (True, True)
    """
    from scipy.signal import fftconvolve

    reverberant = fftconvolve(speech, response)[: len(speech)]
    early = fftconvolve(speech, response[:_EARLY])[: len(speech)]
    return reverberant.astype(np.float32), early.astype(np.float32)

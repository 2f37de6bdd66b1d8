"""Speech activity and mixing at a signal-to-noise ratio.

The SNR of `avse` is `10 log10(P_speech / P_noise)`, both powers taken over the speech-active samples: those within
40 dB of the loudest 20 ms of the speech.
"""

from __future__ import annotations

import numpy as np

from avse.contracts.types import SAMPLE_RATE

_FRAME = SAMPLE_RATE // 50
_RANGE_DB = 40.0


def active_samples(speech: np.ndarray) -> np.ndarray:
    """Where speech is active.

    Arguments
    ---------
    speech : array, shape (samples,)

    Returns
    -------
    array, shape (samples,), bool
        True within 40 dB of the loudest 20 ms; all true for silence.

    Example
    -------
    >>> int(active_samples(np.r_[np.zeros(320), np.ones(320)]).sum())
    320
    """
    count = -(-len(speech) // _FRAME)
    padded = np.zeros(count * _FRAME)
    padded[: len(speech)] = speech
    power = (padded.reshape(count, _FRAME) ** 2).mean(axis=1)
    active = power > max(power.max(initial=0.0) * 10 ** (-_RANGE_DB / 10), 1e-12)
    if not active.any():
        active[:] = True
    return np.repeat(active, _FRAME)[: len(speech)]


def mix_at_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale noise to an SNR and add it.

    Arguments
    ---------
    speech, noise : array, shape (samples,)
    snr_db : float
        Wanted ratio in dB over speech-active samples. Noise that is silent there (20 dB below its own mean) is
        measured over the whole clip instead, so that a single bang outside the speech is not blown up.

    Returns
    -------
    noisy, scaled_noise : array, shape (samples,), float32

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> speech, noise = rng.standard_normal((2, 16000))
    >>> noisy, scaled = mix_at_snr(speech, noise, 5.0)
    >>> round(float(10 * np.log10((speech**2).mean() / (scaled**2).mean())), 2)
    5.0
    """
    active = active_samples(speech)
    speech_power = float((speech[active].astype(np.float64) ** 2).mean())
    everywhere = float((noise.astype(np.float64) ** 2).mean())
    noise_power = float((noise[active].astype(np.float64) ** 2).mean())
    if noise_power < 0.01 * everywhere:
        noise_power = everywhere
    gain = 0.0 if noise_power <= 0 else np.sqrt(speech_power / noise_power * 10 ** (-snr_db / 10))
    scaled = (gain * noise).astype(np.float32)
    return (speech + scaled).astype(np.float32), scaled

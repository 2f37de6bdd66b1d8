"""Speech activity, and how speech, interfering speakers and noise are levelled and summed.

The SNR of `avse` is `10 log10(P_speech / P_noise)`, both powers taken over the speech-active samples: those within
40 dB of the loudest 20 ms of the speech. The speech of a mixture is that of all its speakers.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def active_power(speech: np.ndarray) -> np.floating:
    """Mean power over the active samples, in the precision of `speech`."""
    return np.mean(speech[active_samples(speech)] ** 2)


def mix_at_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale noise to an SNR and add it.

    Arguments
    ---------
    speech, noise : array, shape (samples,)
    snr_db : float
        Ratio in dB over speech-active samples. Noise that is silent there (20 dB below its mean) is measured over the
        whole clip instead, so that a single bang outside the speech is not amplified.

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


def sum_at_one_level(speech: Sequence[np.ndarray]) -> np.ndarray:
    """Babble: speech of one length added, each at the same level over its own active samples.

    Arguments
    ---------
    speech : sequence of arrays, shape (samples,)

    Returns
    -------
    array, shape (samples,), float32
        Each speaker has power 1 where active. Silence adds nothing.

    Example
    -------
    >>> sum_at_one_level([np.full(320, 0.5), np.full(320, 4.0)])[0].item()
    2.0
    """
    total = np.zeros(len(speech[0]))
    for one in speech:
        power = float(active_power(one.astype(np.float64)))
        if power > 0:
            total += one / np.sqrt(power)
    return total.astype(np.float32)


def speakers_at_one_level(speech: Sequence[np.ndarray], level: float = 0.05) -> np.ndarray:
    """The speakers of a mixture, cut to the shortest, each at the same level over its own active samples.

    Arguments
    ---------
    speech : sequence of arrays, shape (samples,)
    level : float
        Root mean square over active samples.

    Returns
    -------
    array, shape (sources, samples), float32

    Example
    -------
    >>> speech = speakers_at_one_level([np.ones(3200), 5 * np.ones(1600)])
    >>> speech.shape, speech[:, 0].round(3).tolist()
    ((2, 1600), [0.05000000074505806, 0.05000000074505806])
    """
    samples = min(map(len, speech))
    cut = np.stack([np.asarray(one[:samples], dtype=np.float32) for one in speech])
    levels = np.array([np.sqrt(active_power(one)) + 1e-9 for one in cut])
    return (level * cut / levels[:, None]).astype(np.float32)

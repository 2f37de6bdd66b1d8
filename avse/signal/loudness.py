"""Loudness of a recording by ITU-R BS.1770-4 (EBU R 128), and its peak, in one pass over any length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_STEPS, _BLOCK = 10, 4  # steps per second; gating blocks of four of them
_ABSOLUTE, _RELATIVE = -70.0, -10.0  # gates in LUFS and LU
_OFFSET = -0.691
# Parameters of the two filters of K weighting at any rate: frequency in Hz, quality, gain in dB of the shelf.
_SHELF, _HIGH_PASS = (1681.974450955533, 0.7071752369554196, 3.999843853973347), (38.13547087602444, 0.5003270373238773)
_BEHIND = {"BL", "BR", "SL", "SR"}  # channels at the sides and behind, which count 1.5 dB more


class Loudness:
    """The loudness and the peak of what was added so far.

    Each tenth of a second is filtered by the K weighting together with the tenth before it, by a Fourier transform: the
    response of the filters is over by then.

    Arguments
    ---------
    rate : int
        Samples per second.
    channels : sequence of str
        Names of the channels; LFE is left out.

    Attributes
    ----------
    peak : float
        Largest magnitude of a sample, 1 for full scale.

    Example
    -------
    >>> tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000)
    >>> meter = Loudness(48000, ["FC"])
    >>> meter.add(tone[None])
    >>> round(meter.integrated(), 1), round(meter.peak, 3)
    (-9.0, 0.5)
    """

    def __init__(self, rate: int, channels: Sequence[str]) -> None:
        self.peak = 0.0
        self._step = max(1, rate // _STEPS)
        self._gains = np.array([0.0 if name == "LFE" else 1.41 if name in _BEHIND else 1.0 for name in channels])
        self._weighting = _k_weighting(np.fft.rfftfreq(2 * self._step, 1 / rate), rate)
        self._waiting = np.zeros((len(self._gains), self._step), np.float32)  # and the step before
        self._powers: list[float] = []  # of each tenth of a second

    def add(self, block: np.ndarray) -> None:
        """Append samples of shape (channels, samples)."""
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        self._waiting = np.concatenate([self._waiting, block], axis=1)
        while self._waiting.shape[1] >= 2 * self._step:
            self._powers.append(self._power(self._waiting[:, : 2 * self._step]))
            self._waiting = self._waiting[:, self._step :]

    def integrated(self) -> float:
        """Loudness in LUFS; of less than 0.4 s that of all of it; minus infinity for silence."""
        powers = np.array(self._powers)
        if len(powers) >= _BLOCK:
            powers = np.convolve(powers, np.full(_BLOCK, 1 / _BLOCK), "valid")
        elif rest := self._waiting.shape[1] - self._step:
            last = self._power(np.pad(self._waiting, ((0, 0), (0, self._step - rest))))
            powers = np.array([np.append(powers, last).sum() / (len(powers) + rest / self._step)])
        powers = powers[powers > 10 ** ((_ABSOLUTE - _OFFSET) / 10)]
        if len(powers):
            powers = powers[powers > 10 ** (_RELATIVE / 10) * powers.mean()]
        return float(_OFFSET + 10 * np.log10(powers.mean())) if len(powers) else float("-inf")

    def _power(self, steps: np.ndarray) -> float:
        filtered = np.fft.irfft(np.fft.rfft(steps) * self._weighting, 2 * self._step)[:, self._step :]
        return float(self._gains @ np.mean(filtered**2, axis=1))


def _k_weighting(frequencies: np.ndarray, rate: int) -> np.ndarray:
    """Frequency response of the K weighting at frequencies in Hz: a high shelf and a high pass."""
    delay = np.exp(-2j * np.pi * frequencies / rate)
    (frequency, quality, gain), response = _SHELF, np.ones_like(delay)
    warped = np.tan(np.pi * frequency / rate)
    high = 10 ** (gain / 20)
    band = high**0.4996667741545416 * warped / quality
    response *= (high + band + warped**2) + 2 * (warped**2 - high) * delay + (high - band + warped**2) * delay**2
    response /= (
        (1 + warped / quality + warped**2) + 2 * (warped**2 - 1) * delay + (1 - warped / quality + warped**2) * delay**2
    )
    frequency, quality = _HIGH_PASS
    warped = np.tan(np.pi * frequency / rate)
    scale = 1 + warped / quality + warped**2
    response *= 1 - 2 * delay + delay**2
    response /= 1 + (2 * (warped**2 - 1) * delay + (1 - warped / quality + warped**2) * delay**2) / scale
    return response

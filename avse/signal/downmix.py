"""One channel of several, which keeps the level of a voice that is out of phase, on one side or in the centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_MEMORY_SECONDS = 3.0  # after which the powers that decide the weights are forgotten to 1/e
_OPPOSITE = -0.5  # correlation with the loudest channel below which a channel is turned around
_SUBWOOFER = "LFE"


class Downmix:
    """The strongest coherent sum of channels, block by block.

        y = sum_c w_c x_c,   w_c = g s_c,   g^2 = max_c E[x_c^2] / E[(sum_c s_c x_c)^2]

    s_c is -1 for a channel that is correlated with the loudest one by less than -0.5, else 1. So the sum is as loud as
    the loudest channel: equal channels give their mean, a channel beside silent ones gives itself, and opposite
    channels do not cancel. Expectations are recursive means over three seconds; within a block the weights go linearly
    from those of the block before to its own.

    Arguments
    ---------
    names : sequence of str
        Of the channels; that of a subwoofer (LFE) beside two or more others is left out.
    rate : int
        Samples per second.

    Example
    -------
    >>> voice = np.array([0.5, -0.25, 1.0], np.float32)
    >>> pairs = (voice, voice), (voice, -voice), (0 * voice, voice)
    >>> [Downmix("LR", 16000)(np.stack(pair)).tolist() for pair in pairs]
    [[0.5, -0.25, 1.0], [0.5, -0.25, 1.0], [0.5, -0.25, 1.0]]
    """

    def __init__(self, names: Sequence[str], rate: int) -> None:
        self._heard = np.array([len(names) <= 2 or name != _SUBWOOFER for name in names])
        self._rate = rate
        self._powers = np.zeros((int(self._heard.sum()),) * 2)
        self._weights: np.ndarray | None = None

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Mix a block of shape (channels, samples), float32, to (samples,); blocks of half a second do well."""
        samples = block.shape[1]
        if len(self._heard) == 1 or not samples:
            return block.sum(axis=0)
        heard = block[self._heard]
        self._powers *= np.exp(-samples / (_MEMORY_SECONDS * self._rate))
        self._powers += heard.astype(np.float64) @ heard.T.astype(np.float64)
        new = self._weights_of(self._powers)
        if self._weights is None:
            self._weights = new
        elif new @ self._weights < 0:  # the sign of the whole is arbitrary, and stays
            new = -new
        old, self._weights = self._weights, new
        ramp = old[:, None] + (new - old)[:, None] * (np.arange(1, samples + 1) / samples)
        mixed: np.ndarray = np.sum(ramp * heard, axis=0)
        return mixed.astype(np.float32)

    def _weights_of(self, powers: np.ndarray) -> np.ndarray:
        own = np.diag(powers)
        loudest = int(own.argmax())
        if not own[loudest] > 0:
            return np.full(len(own), 1 / len(own)) if self._weights is None else self._weights
        signs = np.where(powers[loudest] < _OPPOSITE * np.sqrt(own[loudest] * own), -1.0, 1.0)
        gain: float = np.sqrt(own[loudest] / (signs @ powers @ signs))
        return np.round(gain * signs, 6)  # the mean of equal channels is exact

"""Metric `leakage`: what is left of others while the speaker is silent."""

from __future__ import annotations

import numpy as np

from avse.contracts.metric import Metric
from avse.errors import AvseError
from avse.plugins import register
from avse.signal.metrics import is_silent

_LEAST_DB = -80.0


@register("metric", "leakage")
class Leakage(Metric):
    """Energy of the estimate over that of the noisy audio in dB, of clips whose speaker says nothing; -80 at least.

    The right estimate is silence. At 0 dB all interfering speech is taken for the speaker's.

    Raises
    ------
    AvseError
        If the noisy audio is silent.

    Example
    -------
    >>> noisy = np.random.default_rng(0).standard_normal(16000)
    >>> round(Leakage()(0.1 * noisy, 0 * noisy, noisy))
    -20
    """

    name = "leakage"
    unit = "dB"
    higher_is_better = False
    relative_to_noisy = True

    def applies(self, clean: np.ndarray, noisy: np.ndarray) -> bool:
        """Whether the speaker is silent and others are not."""
        return is_silent(clean) and not is_silent(noisy)

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        if not len(noisy) or is_silent(noisy) or not all(np.isfinite(audio).all() for audio in (estimate, noisy)):
            raise AvseError("the noisy audio is silent, or a signal is not finite")
        left, mixed = (float(np.square(audio, dtype=np.float64).sum()) for audio in (estimate, noisy))
        return max(10 * float(np.log10(max(left, 1e-300) / mixed)), _LEAST_DB)

"""SI-SDR and its improvement."""

from __future__ import annotations

import numpy as np
import torch

from avse.contracts.metric import Metric
from avse.plugins import register
from avse.signal.metrics import check_audio, si_sdr


@register("metric", "si_sdr")
class SISDR(Metric):
    """Scale-invariant signal-to-distortion ratio in dB: `10 log10(|a clean|^2 / |a clean - estimate|^2)` with
    `a = <estimate, clean> / |clean|^2`, in float64; means are not removed.

    Raises
    ------
    AvseError
        If a signal is silent: the ratio is then undefined.

    Example
    -------
    >>> clean, noise = np.random.default_rng(0).standard_normal((2, 16000))
    >>> round(SISDR()(clean + 0.1 * noise, clean, clean + noise))
    20
    """

    name = "SI-SDR"
    unit = "dB"
    paper = "Le Roux, Wisdom, Erdogan, Hershey, SDR - half-baked or well done?, ICASSP 2019"

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        check_audio(clean=clean, estimate=estimate)
        return _ratio(estimate, clean)


@register("metric", "si_sdr_improvement")
class SISDRImprovement(SISDR):
    """SI-SDR of the estimate less that of the noisy audio, in dB; see `si_sdr`.

    Example
    -------
    >>> clean, noise = np.random.default_rng(0).standard_normal((2, 16000))
    >>> round(SISDRImprovement()(clean + 0.1 * noise, clean, clean + noise))
    20
    """

    name = "SI-SDR improvement"
    relative_to_noisy = True

    def applies(self, clean: np.ndarray, noisy: np.ndarray) -> bool:
        """Whether there is speech, and anything to improve."""
        return super().applies(clean, noisy) and not np.array_equal(clean, noisy)

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        check_audio(clean=clean, estimate=estimate, noisy=noisy)
        return _ratio(estimate, clean) - _ratio(noisy, clean)


def _ratio(estimate: np.ndarray, clean: np.ndarray) -> float:
    return si_sdr(*(torch.from_numpy(np.asarray(audio, dtype=np.float64)) for audio in (estimate, clean))).item()

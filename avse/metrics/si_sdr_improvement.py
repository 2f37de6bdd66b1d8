"""SI-SDR improvement."""

from __future__ import annotations

import numpy as np
import torch

from avse.contracts.metric import Metric
from avse.plugins import register
from avse.signal.metrics import check_sounds, si_sdr


@register("metric", "si_sdr_improvement")
class SISDRImprovement(Metric):
    """SI-SDR of the estimate less that of the noisy sound, in dB.

    Raises
    ------
    AvseError
        If a signal is silent: the ratio is then undefined.

    Example
    -------
    >>> clean, noise = np.random.default_rng(0).standard_normal((2, 16000))
    >>> round(SISDRImprovement()(clean + 0.1 * noise, clean, clean + noise))
    20
    """

    name = "SI-SDR improvement"
    unit = "dB"
    higher_is_better = True
    relative_to_noisy = True
    paper = "Le Roux, Wisdom, Erdogan, Hershey, SDR - half-baked or well done?, ICASSP 2019"

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        check_sounds(clean=clean, estimate=estimate, noisy=noisy)
        found, reference, given = (
            torch.from_numpy(np.asarray(one, dtype=np.float64)) for one in (estimate, clean, noisy)
        )
        return (si_sdr(found, reference) - si_sdr(given, reference)).item()

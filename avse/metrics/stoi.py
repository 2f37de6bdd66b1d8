"""STOI."""

from __future__ import annotations

import warnings

import numpy as np

from avse.contracts.metric import Metric
from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.plugins import register
from avse.signal.metrics import check_sounds


@register("metric", "stoi")
class STOI(Metric):
    """Short-time objective intelligibility (STOI), 0 to 1.

    Computed by the package `pystoi` (which resamples to 10 kHz), over the frames where the clean speech is active.

    Raises
    ------
    AvseError
        If a signal is silent, or the speech is active for less than about 0.4 s.

    Example
    -------
    >>> speech = np.random.default_rng(0).standard_normal(16000)
    >>> round(STOI()(speech, speech, speech), 3)
    1.0
    """

    name = "STOI"
    unit = ""
    higher_is_better = True
    paper = (
        "Taal, Hendriks, Heusdens, Jensen, An algorithm for intelligibility prediction of time-frequency weighted "
        "noisy speech, IEEE TASLP 2011"
    )

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        from pystoi import stoi

        check_sounds(clean=clean, estimate=estimate)
        clean, estimate = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
        if clean.size < SAMPLE_RATE * 0.4:
            raise AvseError(f"{clean.size / SAMPLE_RATE:.3f} s is too short for STOI, which needs 0.4 s of speech")
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(stoi(clean, estimate, SAMPLE_RATE, extended=False))
            except RuntimeWarning:
                raise AvseError("too little active speech for STOI, which needs 0.4 s") from None

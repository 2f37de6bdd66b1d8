"""ESTOI."""

from __future__ import annotations

import warnings

import numpy as np

from avse.contracts.metric import Metric
from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.plugins import register
from avse.signal.metrics import check_sounds


@register("metric", "estoi")
class ESTOI(Metric):
    """Extended short-time objective intelligibility (ESTOI), 0 to 1; fit for noise that comes and goes.

    Computed by the package `pystoi` (which resamples to 10 kHz), over the frames where the clean speech is active.

    Raises
    ------
    AvseError
        If a signal is silent, or the speech is active for less than about 0.4 s.

    Example
    -------
    >>> speech = np.random.default_rng(0).standard_normal(16000)
    >>> round(ESTOI()(speech, speech, speech), 3)
    1.0
    """

    name = "ESTOI"
    unit = ""
    higher_is_better = True
    paper = (
        "Jensen, Taal, An algorithm for predicting the intelligibility of speech masked by modulated noise maskers, "
        "IEEE/ACM TASLP 2016"
    )

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        from pystoi import stoi

        check_sounds(clean=clean, estimate=estimate)
        clean, estimate = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
        if clean.size < SAMPLE_RATE * 0.4:
            raise AvseError(f"{clean.size / SAMPLE_RATE:.3f} s is too short for ESTOI, which needs 0.4 s of speech")
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            state = np.random.get_state()
            np.random.seed(0)  # pystoi adds random numbers of 1e-16 and would not give one score twice
            try:
                return float(stoi(clean, estimate, SAMPLE_RATE, extended=True))
            except RuntimeWarning:
                raise AvseError("too little active speech for ESTOI, which needs 0.4 s") from None
            finally:
                np.random.set_state(state)

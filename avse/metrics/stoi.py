"""STOI and ESTOI."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np

from avse.contracts.metric import Metric
from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.plugins import register
from avse.signal.metrics import check_audio


@register("metric", "stoi")
class STOI(Metric):
    """Short-time objective intelligibility (STOI), 0 to 1.

    The package `pystoi` computes it at 10 kHz, over the frames where the clean speech is active.

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
    paper = (
        "Taal, Hendriks, Heusdens, Jensen, An algorithm for intelligibility prediction of time-frequency weighted "
        "noisy speech, IEEE TASLP 2011"
    )
    _extended: ClassVar[bool] = False

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        from pystoi import stoi

        check_audio(clean=clean, estimate=estimate)
        clean, estimate = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
        if clean.size < SAMPLE_RATE * 0.4:
            seconds = clean.size / SAMPLE_RATE
            raise AvseError(f"{seconds:.3f} s is too short for {self.name}, which needs 0.4 s of speech")
        state = np.random.get_state()
        np.random.seed(0)  # pystoi adds random numbers of 1e-16 to ESTOI: without a seed, no two scores are equal
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(stoi(clean, estimate, SAMPLE_RATE, extended=self._extended))
            except RuntimeWarning:
                raise AvseError(f"too little active speech for {self.name}, which needs 0.4 s") from None
            finally:
                np.random.set_state(state)


@register("metric", "estoi")
class ESTOI(STOI):
    """Extended short-time objective intelligibility (ESTOI), 0 to 1, for noise that varies over time; see `stoi`."""

    name = "ESTOI"
    paper = (
        "Jensen, Taal, An algorithm for predicting the intelligibility of speech masked by modulated noise maskers, "
        "IEEE/ACM TASLP 2016"
    )
    _extended = True

"""Kind `metric`: a score of an estimate of the speech."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from avse.contracts.plugin import Plugin
from avse.signal.metrics import is_silent


class Metric(Plugin):
    """Scores an estimate of the speech, mostly by comparison with the clean speech.

    Attributes
    ----------
    name : str
        The name in tables and plots, such as `SI-SDR`.
    unit : str
        Unit of the score; empty if it has none.
    higher_is_better : bool

    Example
    -------
    >>> from avse import plugins
    >>> metric = plugins.get("metric", "si_sdr")()
    >>> metric.name, metric.unit, metric.higher_is_better
    ('SI-SDR', 'dB', True)
    """

    name: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True

    def applies(self, clean: np.ndarray, noisy: np.ndarray) -> bool:
        """Whether the score has a meaning for a clip; here, whether its speaker says anything.

        An evaluation leaves the score of other clips empty.

        Arguments
        ---------
        clean, noisy : array, shape (samples,)
        """
        return not is_silent(clean)

    @abstractmethod
    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        """The score of one clip.

        Arguments
        ---------
        estimate : array, shape (samples,)
            The estimated speech, at 16 kHz.
        clean : array, shape (samples,)
            The true speech.
        noisy : array, shape (samples,)
            The noisy audio that was enhanced.

        Returns
        -------
        float
            Finite.

        Raises
        ------
        AvseError
            If the score is not defined on these signals (silence, different lengths), with the reason.
        """

"""Kind `metric`: a score of an estimate of the speech."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from avse.contracts.plugin import Plugin
from avse.errors import AvseError
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
    relative_to_noisy : bool
        Whether it compares with the noisy audio, so that the noisy audio has no score of its own. False: a caller may
        leave out `noisy`.

    A caller may give tensors in place of arrays.

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
    relative_to_noisy: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            cls.__call__ = _of_arrays(vars(cls)["__call__"])  # type: ignore[method-assign]

    def of_text(self, text: str) -> Metric:
        """The metric for a clip in which `text` is said, as the manifest tells; here, the metric itself."""
        return self

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


def _of_arrays(score: Callable[..., float]) -> Callable[..., float]:
    """`score` for tensors as well, and without the noisy audio where it is not used."""

    @functools.wraps(score)
    def call(self: Metric, estimate: Any, clean: Any, noisy: Any = None) -> float:
        if noisy is None and self.relative_to_noisy:
            raise AvseError(f"{self.name} compares with the noisy audio: give it as the third argument.")
        return score(self, *(_array(audio) for audio in (estimate, clean, noisy)))

    return call


def _array(audio: Any) -> Any:
    if not hasattr(audio, "detach"):
        return audio
    audio = audio.detach().cpu()
    return (audio.double() if audio.element_size() < 4 else audio).numpy()

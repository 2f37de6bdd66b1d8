"""Metric `my_plugin`: a score of an estimate of the speech.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import numpy as np
from avse.contracts.metric import Metric
from avse.plugins import register
from avse.signal.metrics import check_audio


@register("metric", "my_plugin")
class MyPlugin(Metric):
    """Segmental signal-to-noise ratio in dB: the mean over short frames.

    `10 log10(|clean|^2 / |clean - estimate|^2)` of each frame, held within
    [-10, 35] dB, as is usual.

    Arguments
    ---------
    frame : int
        Samples of a frame at 16 kHz.

    Takes estimate, clean and noisy of shape (samples,); returns a float.

    Raises
    ------
    AvseError
        If a signal is silent or empty, or lengths differ.

    Example
    -------
    >>> clean, noise = np.random.default_rng(0).standard_normal((2, 16000))
    >>> round(MyPlugin()(clean + 0.1 * noise, clean, clean + noise))
    20
    """

    # CHANGE: what tables and plots print; unit is "" where there is none.
    name = "My plugin"
    unit = "dB"
    higher_is_better = True
    # CHANGE: where it comes from, such as "Doe et al., A score, 2026".
    paper = ""

    def __init__(self, frame: int = 512) -> None:
        if frame < 1:
            raise ValueError(f"frame must be at least 1 sample, got {frame}.")
        self.frame = frame

    def __call__(
        self,
        estimate: np.ndarray,
        clean: np.ndarray,
        noisy: np.ndarray,
    ) -> float:
        """See `Metric.__call__`: each (samples,)."""
        # KEEP: refuse what has no score. An AvseError is listed as a failure of this
        # clip; the others are scored.
        check_audio(clean=clean, estimate=estimate)
        # CHANGE: the score. KEEP it finite, and the arrays given as they are.
        speech = self._power(clean.astype(np.float64))
        error = self._power(clean.astype(np.float64) - estimate.astype(np.float64))
        ratios = 10 * np.log10((speech + 1e-12) / (error + 1e-12))
        return float(np.clip(ratios, -10.0, 35.0).mean())

    def _power(self, audio: np.ndarray) -> np.ndarray:
        """Power of each frame, shape (frames,); the last is filled up by zeros."""
        padded = np.pad(audio, (0, -len(audio) % self.frame))
        return np.square(padded).reshape(-1, self.frame).mean(axis=1)

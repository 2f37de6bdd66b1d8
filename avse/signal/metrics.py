"""Scale-invariant signal-to-distortion ratio, and the check of signals before a score."""

from __future__ import annotations

import numpy as np
import torch

from avse import compatibility
from avse.errors import AvseError

SILENCE = 1e-5  # full scale 1.0; a third of the step of 16-bit audio


def si_sdr(estimate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Scale-invariant signal-to-distortion ratio (SI-SDR) in dB, of shape (...,); higher is better.

    With `a = <estimate, reference> / |reference|^2` it is `10 log10(|a reference|^2 / |a reference - estimate|^2)`.
    Means are not removed. A small constant keeps the ratio finite for silence and for a perfect estimate; the score of
    a silent signal has no meaning (`check_audio`).

    Paper: Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019.

    Arguments
    ---------
    estimate, reference : tensor, shape (..., samples)
        Zero beyond each clip's end; padding then changes nothing.

    Example
    -------
    >>> speech = torch.tensor([1.0, 1.0, -1.0, -1.0])
    >>> si_sdr(2 * speech + torch.tensor([0.2, -0.2, 0.2, -0.2]), speech).round().item()
    20.0
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    return scale_invariant_signal_distortion_ratio(estimate, reference, zero_mean=False)


def is_silent(audio: np.ndarray) -> bool:
    """Whether no sample is above the step of 16-bit audio.

    >>> is_silent(np.zeros(4)), is_silent(np.array([0.0, 0.1]))
    (True, False)
    """
    return float(np.abs(audio).max(initial=0.0)) < SILENCE


def check_audio(**signals: np.ndarray) -> None:
    """Refuse signals on which no score is defined.

    Arguments
    ---------
    signals : array, shape (samples,), by name
        Of one length.

    Raises
    ------
    AvseError
        If lengths differ, or one is empty, silent, or holds NaN or infinite samples. The message is one clause that
        fits a table of failures.

    Example
    -------
    >>> check_audio(clean=np.zeros(100))
    Traceback (most recent call last):
    avse.errors.AvseError: clean is silent
    """
    for name, signal in signals.items():
        if signal.ndim != 1 or not signal.size:
            raise AvseError(f"{name} has shape {signal.shape}, not (samples,)" if signal.size else f"{name} is empty")
        bad = int(signal.size - np.isfinite(signal).sum())
        if bad:
            raise AvseError(f"{name} holds {bad} NaN or infinite samples of {signal.size}")
        if is_silent(signal):
            raise AvseError(f"{name} is silent")
    if len({signal.size for signal in signals.values()}) > 1:
        sizes = ", ".join(f"{name} {signal.size}" for name, signal in signals.items())
        raise AvseError(f"lengths differ: {sizes} samples")


__getattr__ = compatibility.old_names(__name__)

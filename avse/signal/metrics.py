"""Scale-invariant signal-to-distortion ratio, and what every score asks of its signals."""

from __future__ import annotations

import numpy as np
import torch

from avse.errors import AvseError

SILENCE = 1e-5  # full scale 1.0; a third of the step of 16-bit sound


def si_sdr(estimate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Scale-invariant signal-to-distortion ratio (SI-SDR) in dB, higher is better.

    With `a = <estimate, reference> / |reference|^2` it is `10 log10(|a reference|^2 / |a reference - estimate|^2)`.
    Means are not removed. A tiny constant keeps silence and a perfect estimate finite; both are undefined, and no
    score of a silent signal should be believed (`check_sounds`).

    Paper: Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019.

    Arguments
    ---------
    estimate, reference : tensor, shape (..., samples)
        Zero beyond each clip's end; padding then changes nothing.

    Returns
    -------
    tensor, shape (...,)

    Example
    -------
    >>> speech = torch.tensor([1.0, 1.0, -1.0, -1.0])
    >>> si_sdr(2 * speech + torch.tensor([0.2, -0.2, 0.2, -0.2]), speech).round().item()
    20.0
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    return scale_invariant_signal_distortion_ratio(estimate, reference, zero_mean=False)


def check_sounds(**sounds: np.ndarray) -> None:
    """Refuse sounds on which no score is defined.

    Arguments
    ---------
    sounds : array, shape (samples,), by name
        Of one length.

    Raises
    ------
    AvseError
        If lengths differ, or one is empty, silent, or holds NaN or infinite samples. The message is one clause that
        fits a table of failures.

    Example
    -------
    >>> check_sounds(clean=np.zeros(100))
    Traceback (most recent call last):
    avse.errors.AvseError: clean is silent
    """
    for name, sound in sounds.items():
        if sound.ndim != 1 or not sound.size:
            raise AvseError(f"{name} is empty" if not sound.size else f"{name} has shape {sound.shape}, not (samples,)")
        bad = int(sound.size - np.isfinite(sound).sum())
        if bad:
            raise AvseError(f"{name} holds {bad} NaN or infinite samples of {sound.size}")
        if np.abs(sound).max() < SILENCE:
            raise AvseError(f"{name} is silent")
    if len({sound.size for sound in sounds.values()}) > 1:
        sizes = ", ".join(f"{name} {sound.size}" for name, sound in sounds.items())
        raise AvseError(f"lengths differ: {sizes} samples")

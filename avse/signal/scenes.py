"""Descriptions of the noise as vectors.

The vector of a scene is an embedding of what the noise is. It may go on with how the noise sounds: `SPECTRA` spectra of
a sound that was given, as logarithms in `BANDS` bands of frequency, or zeros where none was.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from avse.signal.bands import frequency_bands
from avse.signal.nmf import multiply
from avse.signal.stft import stft

SPECTRA, BANDS = 16, 64
SOUND = SPECTRA * BANDS
"""Features of a scene that say how the noise sounds."""
_FFT_SIZE, _HOP, _ITERATIONS, _LEAST = 1024, 256, 60, 1e-7


def combined(scenes: Sequence[torch.Tensor], negative: Sequence[torch.Tensor] = ()) -> torch.Tensor:
    """One vector of length one: the mean of what describes the noise, less the mean of what the noise is not.

    Arguments
    ---------
    scenes, negative : sequence of tensors, shape (..., dim)
        Of length one.

    Returns
    -------
    tensor, shape (..., dim)
        Zeros, which say nothing, where the two cancel.

    Raises
    ------
    ValueError
        If there is none of either.

    Example
    -------
    >>> east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> combined([east], [north])
    tensor([ 0.7071, -0.7071])
    """
    means = [torch.stack(list(part)).mean(dim=0) for part in (scenes, negative) if part]
    if not means:
        raise ValueError("there is nothing that describes the noise.")
    if len(means) == 2:
        return F.normalize(means[0] - means[1], dim=-1)
    return F.normalize(means[0] if scenes else -means[0], dim=-1)


def sound_spectra(samples: torch.Tensor, count: int = SPECTRA) -> torch.Tensor:
    """Spectra of a sound, as natural logarithms in bands of frequency: a factorisation of its power.

    Arguments
    ---------
    samples : tensor, shape (samples,)
        At 16 kHz.
    count : int
        Number of spectra.

    Returns
    -------
    tensor, shape (count, BANDS)
        Each spectrum, before the logarithm, sums to one.

    Example
    -------
    >>> hum = torch.sin(torch.arange(16000) / 3.0)
    >>> spectra = sound_spectra(hum, count=2)
    >>> spectra.shape, round(spectra[0].exp().sum().item(), 3)
    (torch.Size([2, 64]), 1.0)
    """
    power = stft(samples.float()[None], _FFT_SIZE, _HOP).abs().square()
    power = power @ frequency_bands(BANDS, power)[1]
    power = power / power.mean().clamp(min=1e-12) + _LEAST
    generator = torch.Generator().manual_seed(0)
    level = torch.rand(1, power.shape[1], count, generator=generator)
    spread = torch.rand(1, count, BANDS, generator=generator)
    gains, spectra = (0.5 + level) / count, power.mean(dim=1, keepdim=True) * (0.5 + spread)
    for _ in range(_ITERATIONS):
        weight = (gains @ spectra).reciprocal()
        gains, spectra = multiply(gains, spectra, power * weight.square(), weight)
    return spectra[0].clamp(min=_LEAST).log()


def with_sound(scene: torch.Tensor, spectra: Sequence[torch.Tensor]) -> torch.Tensor:
    """An embedding, and behind it the spectra of the sounds that were given; several share the places.

    Arguments
    ---------
    scene : tensor, shape (dim,)
    spectra : sequence of tensors, shape (SPECTRA, BANDS)
        Of `sound_spectra`; none: zeros.

    Returns
    -------
    tensor, shape (dim + SOUND,)

    Example
    -------
    >>> with_sound(torch.ones(128), []).shape
    torch.Size([1152])
    """
    places = [spectra[place % len(spectra)][place] for place in range(SPECTRA) if spectra]
    return torch.cat([scene, torch.cat(places).to(scene) if places else scene.new_zeros(SOUND)])


def fitted(scene: torch.Tensor, dim: int) -> torch.Tensor:
    """A scene as long as a system takes it: how the noise sounds is left out, or added as zeros.

    >>> fitted(torch.ones(128), 1152).shape, fitted(torch.ones(1152), 128).shape
    (torch.Size([1152]), torch.Size([128]))
    """
    if len(scene) == dim + SOUND:
        return scene[:dim]
    return F.pad(scene, (0, SOUND)) if len(scene) + SOUND == dim else scene

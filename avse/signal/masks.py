"""What networks that mask a spectrum share: a common level, features of it, and the mask."""

from __future__ import annotations

from collections.abc import Callable

import torch

_FLOOR = 1e-8


def levelled(
    spectrum: torch.Tensor, mask: torch.Tensor, running_mean: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> torch.Tensor:
    """A spectrum divided by the clip's own level, or by the level so far.

    Arguments
    ---------
    spectrum : tensor, shape (batch, frames, bins), complex
    mask : tensor, shape (batch, frames), bool
        False beyond a clip's end.
    running_mean : callable, or None
        Takes the power of each frame, shape (batch, frames); gives its mean up to each frame, of the same shape. None:
        the level is that of the whole clip.

    Returns
    -------
    tensor, like `spectrum`

    Example
    -------
    >>> loud = torch.full((1, 4, 3), 100.0 + 0j)
    >>> levelled(loud, torch.ones(1, 4, dtype=torch.bool)).abs().max().item()
    1.0
    """
    power = spectrum.abs().square().mean(dim=2) * mask
    if running_mean is not None:
        level = running_mean(power)
    else:
        level = power.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
    return spectrum / (level.sqrt()[..., None] + _FLOOR)


def compressed_features(scaled: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Magnitude, real and imaginary part of a spectrum, all with the magnitude to the power of 0.3.

    Arguments
    ---------
    scaled : tensor, shape (batch, frames, bins), complex
        As `levelled` gives it.
    mask : tensor, shape (batch, frames), bool

    Returns
    -------
    tensor, shape (batch, frames, 3 * bins)
        Zero beyond a clip's end.

    Example
    -------
    >>> compressed_features(torch.ones(1, 1, 1) * 1j, torch.ones(1, 1, dtype=torch.bool)).round(decimals=3).tolist()
    [[[1.0, 0.0, 1.0]]]
    """
    power = scaled.real.square() + scaled.imag.square() + _FLOOR
    magnitude = power.pow(0.15)
    direction = magnitude / power.sqrt()
    features = torch.cat([magnitude, scaled.real * direction, scaled.imag * direction], dim=2)
    return torch.where(mask[..., None], features, features.new_zeros(()))


def apply_mask(spectrum: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """A spectrum times the mask that a network gives.

    Arguments
    ---------
    spectrum : tensor, shape (batch, frames, bins), complex
    output : tensor, shape (batch, frames, bins) or (batch, frames, 2 * bins)
        Of a mask of magnitudes; or of one that also turns phases, bounded in each part, which begins near one half on
        the real axis.

    Returns
    -------
    tensor, like `spectrum`

    Example
    -------
    >>> round(apply_mask(torch.ones(1, 1, 1) * 1j, torch.zeros(1, 1, 2)).imag.item(), 2)
    0.5
    """
    output = output.to(spectrum.real.dtype)
    if output.shape[2] == spectrum.shape[2]:
        return spectrum * torch.sigmoid(output)
    real, imaginary = output.chunk(2, dim=2)
    return spectrum * torch.complex(1.5 * torch.tanh(real + 0.35), 1.5 * torch.tanh(imaginary))

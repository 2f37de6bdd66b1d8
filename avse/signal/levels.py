"""The level that models are trained at, and what brings a clip to it."""

from __future__ import annotations

import torch

LEVEL = 0.05
"""Root mean square, relative to full scale: about that of speech."""


def level_scale(sound: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """What brings each clip to `LEVEL`; one for silence.

    Arguments
    ---------
    sound : tensor, shape (batch, samples)
        Zero beyond each clip's end.
    lengths : tensor, shape (batch,)

    Returns
    -------
    tensor, shape (batch, 1)

    Example
    -------
    >>> level_scale(torch.full((1, 100), 0.5), torch.tensor([100])).item()
    0.10000000149011612
    """
    peak = sound.abs().amax(dim=1, keepdim=True)
    silent = peak < 1e-15
    peak = torch.where(silent, torch.ones_like(peak), peak)
    root = ((sound / peak).square().sum(dim=1, keepdim=True) / lengths[:, None]).sqrt()
    return torch.where(silent, torch.ones_like(peak), LEVEL / (root * peak).clamp(min=1e-30))


def floor_over_steps(power: torch.Tensor, mask: torch.Tensor, quantile: float) -> torch.Tensor:
    """What the power of each bin falls short of in this share of a clip's steps.

    Arguments
    ---------
    power : tensor, shape (batch, frames, bins)
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end; those steps do not count.
    quantile : float
        In [0, 1].

    Returns
    -------
    tensor, shape (batch, 1, bins)

    Example
    -------
    >>> floor_over_steps(torch.arange(5.0)[None, :, None], torch.arange(5)[None] < 3, 0.5).item()
    1.0
    """
    return torch.stack([clip[within].quantile(quantile, dim=0) for clip, within in zip(power, mask)])[:, None]

"""Bands of frequency that grow with frequency."""

from __future__ import annotations

import torch

_BEND_HZ = 500.0  # below it bands are of one width, above it their width grows


def frequency_bands(count: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Interpolation from bands to the bins of `like`, its last axis, and means over bands.

    Both keep constants. Bands are of one width below 500 Hz, and grow above.

    Returns
    -------
    (tensor, tensor)
        Shapes (count, bins) and (bins, count).

    Example
    -------
    >>> to_bins, to_bands = frequency_bands(4, torch.zeros(9))
    >>> to_bins.shape, to_bands.shape
    (torch.Size([4, 9]), torch.Size([9, 4]))
    """
    scale = torch.linspace(0, 8000, like.shape[-1], dtype=torch.float32, device=like.device).div(_BEND_HZ).log1p()
    centres = torch.linspace(0, 1, count, device=like.device) * scale[-1]
    to_bins = (1 - (scale[:, None] - centres).abs() / centres[1]).clamp(min=0)
    to_bins = to_bins / to_bins.sum(dim=1, keepdim=True)
    to_bands = to_bins / to_bins.sum(dim=0).clamp(min=1e-6)
    return to_bins.T.to(like), to_bands.to(like)

"""How well two streams of features agree over time."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def window_sum(stream: torch.Tensor, window: int, causal: bool = False) -> torch.Tensor:
    """Sums over `window` frames around each frame, or up to it if causal: (batch, frames, dim) to the same.

    >>> window_sum(torch.ones(1, 4, 1), 3)[0, :, 0].tolist()
    [2.0, 3.0, 3.0, 2.0]
    """
    before = window - 1 if causal else window // 2
    after = 0 if causal else window - 1 - window // 2
    total = F.pad(stream, (0, 0, before + 1, after)).cumsum(dim=1)
    return total[:, window:] - total[:, :-window]


def windowed_correlation(
    one: torch.Tensor, other: torch.Tensor, weight: torch.Tensor, window: int, causal: bool = False
) -> torch.Tensor:
    """Weighted correlation of each feature of two streams over `window` frames around each frame.

    Arguments
    ---------
    one, other : tensor, shape (batch, frames, dim)
    weight : tensor, shape (batch, frames, 1)
        Of each frame, in [0, 1]: 0 leaves a frame out.
    window : int
    causal : bool
        True: over the `window` frames up to each frame.

    Returns
    -------
    tensor, shape (batch, frames, dim), in [-1, 1]
        Zero where a stream is constant, or the weights are all zero.

    Example
    -------
    >>> stream = torch.randn(1, 8, 1)
    >>> bool((windowed_correlation(stream, 2 * stream, torch.ones(1, 8, 1), 8)[:, 2:6] > 0.99).all())
    True
    """
    count = window_sum(weight, window, causal).clamp(min=1.0)
    mean = lambda stream: window_sum(stream * weight, window, causal) / count
    mean_one, mean_other = mean(one), mean(other)
    covariance = mean(one * other) - mean_one * mean_other
    variance_one = (mean(one.square()) - mean_one.square()).clamp(min=0.0)
    variance_other = (mean(other.square()) - mean_other.square()).clamp(min=0.0)
    return covariance / (variance_one * variance_other + 1e-4).sqrt()

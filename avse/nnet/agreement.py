"""How well two streams of features agree over time."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from avse.contracts.streaming import at_least_single, with_past


def window_sum(
    stream: torch.Tensor, window: int, causal: bool = False, layer: object = None, name: str = "sum"
) -> torch.Tensor:
    """Sums over `window` frames around each frame, or up to it if causal: (batch, frames, dim) to the same.

    `layer` and `name` say what is remembered from block to block; see `avse.contracts.streaming`.

    >>> window_sum(torch.ones(1, 4, 1), 3)[0, :, 0].tolist()
    [2.0, 3.0, 3.0, 2.0]
    """
    return _sums(_widened(stream, window, causal, layer, name), window).to(stream.dtype)


def windowed_correlation(
    one: torch.Tensor,
    other: torch.Tensor,
    weight: torch.Tensor,
    window: int,
    causal: bool = False,
    layer: object = None,
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
    layer : object
        Whose memory it is in a stream; see `avse.contracts.streaming`.

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
    parts, dtype = {"one": one, "other": other, "weight": weight}, one.dtype
    one, other, weight = (_widened(part, window, causal, layer, name) for name, part in parts.items())
    count = _sums(weight, window).clamp(min=1.0)
    mean = lambda stream: _sums(stream * weight, window) / count
    mean_one, mean_other = mean(one), mean(other)
    covariance = mean(one * other) - mean_one * mean_other
    variance_one = (mean(one.square()) - mean_one.square()).clamp(min=0.0)
    variance_other = (mean(other.square()) - mean_other.square()).clamp(min=0.0)
    return (covariance / (variance_one * variance_other + 1e-4).sqrt()).to(dtype)


def _widened(stream: torch.Tensor, window: int, causal: bool, layer: object, name: str) -> torch.Tensor:
    """The frames of all windows, and one before. Half precision would lose sums of many, and their differences."""
    stream = at_least_single(stream)
    if causal:
        return with_past(layer, name, stream, window)
    return F.pad(stream, (0, 0, window // 2 + 1, window - 1 - window // 2))


def _sums(widened: torch.Tensor, window: int) -> torch.Tensor:
    total = widened.cumsum(dim=1)
    return total[:, window:] - total[:, :-window]

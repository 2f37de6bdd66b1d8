"""A residual block of a dilated depth-wise convolution over time, which networks on frames are built from."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

_KERNEL = 5


class TemporalBlock(nn.Module):
    """x + narrow(gelu(over_time(gelu(widen(norm(x)))))), which sees nothing beyond a clip's end.

    Arguments
    ---------
    dim : int
        Features of a frame.
    dilation : int
        Frames between the taps of the convolution.

    Example
    -------
    >>> TemporalBlock(8, dilation=2)(torch.zeros(1, 6, 8), torch.ones(1, 6, 1)).shape
    torch.Size([1, 6, 8])
    """

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.over_time = nn.Conv1d(2 * dim, 2 * dim, _KERNEL, padding="same", dilation=dilation, groups=2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden features (batch, frames, dim) and a mask (batch, frames, 1) to features of the same shape."""
        wide = F.gelu(self.widen(self.norm(hidden))) * mask
        wide = self.over_time(wide.mT).mT
        return hidden + self.narrow(F.gelu(wide))

"""The variance of noise as a network expects it from the power of noisy speech."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.nnet.temporal_block import TemporalBlock
from avse.signal.levels import floor_over_frames

_CANDIDATES = 6
_FLOOR = 1e-7 * 0.5  # of power, times the size of the transform: white noise at -70 dB of full scale
_LEVEL = 0.25  # brings natural logarithms of power near one
_BEND_HZ = 500.0  # below it bands are of one width, above it their width grows


class NoiseEstimator(nn.Module):
    """Noisy power (batch, frames, bins) to the variance of its noise, of the same shape.

    For each bin there are candidates: means of the power over 5 and over 15 frames, the lowest of the first among nine
    neighbours in frequency, and its quantiles 0.15 and 0.5 and mean over the clip. In bands of frequency, for each
    frame, a network with blocks of dilated convolutions over time chooses weights for a mean of their logarithms, and
    a factor. Bands are of frequency in Hz, so that any size of the transform fits.

    Arguments
    ---------
    bands, hidden_dim, layers : int

    Example
    -------
    >>> estimator = NoiseEstimator(bands=8, hidden_dim=8, layers=1)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> estimator(power, mask).shape
    torch.Size([1, 30, 9])
    """

    def __init__(self, bands: int = 48, hidden_dim: int = 96, layers: int = 4) -> None:
        super().__init__()
        self.bands = bands
        self.read = nn.Linear(bands * _CANDIDATES, hidden_dim)
        self.blocks = nn.ModuleList(TemporalBlock(hidden_dim, 2**layer) for layer in range(layers))
        self.norm = nn.LayerNorm(hidden_dim)
        self.write = nn.Linear(hidden_dim, bands * (_CANDIDATES + 1))
        with torch.no_grad():
            self.write.weight.mul_(0.1)
            self.write.bias.zero_()

    def forward(self, power: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`power` (batch, frames, bins) at the level of `avse.signal.levels`, `mask` (batch, frames) bool."""
        candidates = self._candidates(power, mask)
        to_bins, to_bands = _bands(self.bands, power)
        levels = candidates @ to_bands
        levels = levels - levels[:, :, -1:].mean(dim=-1, keepdim=True)
        hidden = torch.tanh(self.read((levels * _LEVEL).flatten(2)))
        for block in self.blocks:
            hidden = block(hidden, mask[..., None])
        written = self.write(self.norm(hidden)).unflatten(-1, (_CANDIDATES + 1, self.bands)) @ to_bins
        weights = written[:, :, :-1].softmax(dim=2)
        return ((weights * candidates).sum(dim=2) + written[:, :, -1]).exp()

    def _candidates(self, power: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logarithms, shape (batch, frames, candidates, bins)."""
        inside = mask[..., None].to(power)
        floor = _FLOOR * 2 * (power.shape[-1] - 1)
        power = (power + floor) * inside

        def over_frames(size: int) -> torch.Tensor:
            totals = F.avg_pool1d(power.mT, size, 1, size // 2).mT
            return (totals / F.avg_pool1d(inside.mT, size, 1, size // 2).mT.clamp(min=0.5 / size)).clamp(min=floor)

        short, mean = over_frames(5), power.sum(dim=1, keepdim=True) / inside.sum(dim=1, keepdim=True)
        low = -F.max_pool1d(-short, 9, 1, 4)
        quantiles = [floor_over_frames(short, mask, quantile) for quantile in (0.15, 0.5)]
        values = [short, over_frames(15), low, *quantiles, mean]
        return torch.stack([value.clamp(min=floor).log().expand_as(power) for value in values], dim=2)


def _bands(count: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Interpolation from bands to the bins of `like`, (count, bins), and means over bands, (bins, count)."""
    scale = torch.linspace(0, 8000, like.shape[-1], dtype=torch.float32, device=like.device).div(_BEND_HZ).log1p()
    centres = torch.linspace(0, 1, count, device=like.device) * scale[-1]
    to_bins = (1 - (scale[:, None] - centres).abs() / centres[1]).clamp(min=0)
    to_bins = to_bins / to_bins.sum(dim=1, keepdim=True)
    to_bands = to_bins / to_bins.sum(dim=0).clamp(min=1e-6)
    return to_bins.T.to(like), to_bands.to(like)

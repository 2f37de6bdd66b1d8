"""A small convolutional network that describes a sound by one vector, and pooling by attention."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.types import SAMPLE_RATE
from avse.signal.stft import stft

_WINDOW, _HOP, _BANDS = 512, 256, 64
_FLOOR = 1e-4  # of band power, relative to the mean over bands and frames
_SPAN = 8  # of an axis that a mask takes, at most its share 1 / 8
# Channels of each block as multiples of those of the first layer, and its stride in time and frequency.
_BLOCKS = ((2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (8, 1), (12, 1))


class AttentionPooling(nn.Module):
    """Weighted mean over time, with weights of its own for each group of features.

    Arguments
    ---------
    dim : int
        Features; divisible by `heads`.
    heads : int
        Groups of features.

    Example
    -------
    >>> AttentionPooling(8, heads=2)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 8])
    """

    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.score = heads, nn.Linear(dim, heads, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Of features (batch, frames, dim), shape (batch, dim)."""
        weights = self.score(features).softmax(dim=1)[..., None]
        return (weights * features.unflatten(2, (self.heads, -1))).sum(dim=1).flatten(1)


class SoundNetwork(nn.Module):
    """Log-mel spectrum, depthwise separable convolutions, attention over time, and a linear layer.

    The level of the sound does not matter.

    Arguments
    ---------
    output_dim : int
    channels : int
        Of the first layer; the last has 12 times as many.
    masks : int
        Of time, and as many of frequency, in training; see `masked`.

    Paper: Howard et al., MobileNets: efficient convolutional neural networks for mobile vision applications, 2017.

    Example
    -------
    >>> network = SoundNetwork(output_dim=8, channels=4).eval()
    >>> network(torch.randn(2, 16000)).shape
    torch.Size([2, 8])
    """

    def __init__(self, output_dim: int, channels: int = 40, masks: int = 0) -> None:
        super().__init__()
        self.masks = masks
        self.bands = nn.BatchNorm1d(_BANDS)
        self.enter = nn.Conv2d(1, channels, 3, stride=2, padding=1, bias=False)
        widths = [channels, *(factor * channels for factor, _ in _BLOCKS)]
        self.blocks = nn.ModuleList(
            _Block(before, after, stride) for before, after, (_, stride) in zip(widths, widths[1:], _BLOCKS)
        )
        self.over_bands = nn.Conv2d(widths[-1], widths[-1], (1, _BANDS // 16), groups=widths[-1], bias=False)
        self.over_time = AttentionPooling(widths[-1])
        self.leave = nn.Linear(widths[-1], output_dim)
        self.filters: torch.Tensor
        self.register_buffer("filters", _mel_filters(), persistent=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Of audio (batch, samples), shape (batch, output_dim)."""
        levels = self.levels(audio)
        return self.encode(masked(levels, self.masks) if self.training and self.masks else levels)

    def levels(self, audio: torch.Tensor) -> torch.Tensor:
        """Log power of mel bands, shape (batch, frames, bands), of audio (batch, samples)."""
        with torch.autocast(audio.device.type, enabled=False):
            loudest = audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-4)
            power = stft(F.pad(audio / loudest, (0, max(0, _WINDOW - audio.shape[1]))), _WINDOW, _HOP).abs().square()
            power = power @ self.filters
            mean = power.mean(dim=(1, 2), keepdim=True)
            return (power / mean.clamp(min=1e-9) + _FLOOR).log()

    def encode(self, levels: torch.Tensor) -> torch.Tensor:
        """Of levels (batch, frames, bands), shape (batch, output_dim)."""
        hidden = self.bands(levels.transpose(1, 2)).transpose(1, 2)[:, None]
        hidden = self.enter(hidden).contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        for block in self.blocks:
            hidden = block(hidden)
        hidden = F.relu(self.over_bands(hidden)[..., 0]).transpose(1, 2)
        return self.leave(self.over_time(hidden))


def masked(levels: torch.Tensor, count: int) -> torch.Tensor:
    """SpecAugment: parts of each clip at random, of `count` spans of time and of frequency, get its mean level.

    Each span takes up to an eighth of the axis. `levels` (batch, frames, bands).

    Paper: Park et al., SpecAugment: a simple data augmentation method for automatic speech recognition, 2019.

    Example
    -------
    >>> (masked(torch.arange(800.0).reshape(1, 100, 8), 2) == 399.5).any()
    tensor(True)
    """
    mean, hidden = levels.mean(dim=(1, 2), keepdim=True), torch.zeros_like(levels, dtype=torch.bool)
    for axis in (1, 2):
        size = levels.shape[axis]
        drawn = torch.rand(2, count, len(levels), 1, device=levels.device)
        width = 1 + drawn[0] * (size / _SPAN - 1)
        past = torch.arange(size, device=levels.device) - drawn[1] * (size - width)
        spans = ((past >= 0) & (past < width)).any(dim=0)
        hidden |= spans.unsqueeze(3 - axis)
    return torch.where(hidden, mean, levels)


class _Block(nn.Module):
    """Depthwise and pointwise convolution, added to the input where shapes agree."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, before, 3, stride, padding=1, groups=before, bias=False),
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, after, 1, bias=False),
        )
        self.adds = before == after and stride == 1

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.layers(hidden) if self.adds else self.layers(hidden)


def _mel_filters() -> torch.Tensor:
    """Triangular filters from 50 to 7800 Hz, shape (bins, bands), each with the sum one."""
    top = 2595 * torch.log10(1 + torch.tensor([50.0, 7800.0], dtype=torch.float64) / 700)
    edges = 700 * (10 ** (torch.linspace(top[0], top[1], _BANDS + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.arange(_WINDOW // 2 + 1, dtype=torch.float64)[:, None] * SAMPLE_RATE / _WINDOW
    # No narrower than a bin, so that none is empty.
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    width = SAMPLE_RATE / _WINDOW
    rise = (bins - torch.minimum(low, centre - width)) / torch.maximum(centre - low, torch.tensor(width))
    fall = (torch.maximum(high, centre + width) - bins) / torch.maximum(high - centre, torch.tensor(width))
    filters = torch.minimum(rise, fall).clamp(min=0)
    return (filters / filters.sum(dim=0)).float()

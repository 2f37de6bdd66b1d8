"""The variance of noise as a network expects it from the power of noisy speech."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.nnet.temporal_block import TemporalBlock
from avse.signal.bands import frequency_bands
from avse.signal.levels import floor_over_frames

_CANDIDATES = 6
_FLOOR = 1e-7 * 0.5  # of power, times the size of the transform: white noise at -70 dB of full scale
_LEVEL = 0.25  # brings natural logarithms of power near one


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

    def __init__(self, bands: int = 48, hidden_dim: int = 160, layers: int = 6) -> None:
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
        to_bins, to_bands = frequency_bands(self.bands, power)
        hidden = torch.tanh(self.read(_levels(candidates, to_bands).flatten(2)))
        for block in self.blocks:
            hidden = block(hidden, mask[..., None])
        written = self.write(self.norm(hidden)).unflatten(-1, (_CANDIDATES + 1, self.bands)) @ to_bins
        return _weighted(candidates, written)

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


class SceneNoiseEstimator(NoiseEstimator):
    """`NoiseEstimator` that is also told an embedding e of the noise, and says how far it trusts it.

    The trust is t = sigmoid(a cos(u, e) + b), the evidence of the clip for the description: u is read from levels of
    the noisy audio over the clip, and a classifier of right and wrong descriptions estimates log p(x | e) - log p(x).
    The network is told t e: by FiLM of its hidden features, and by spectra that t e maps to, at the level of the clip
    and at that of each frame, as further candidates.

    Arguments
    ---------
    scene_dim : int
        Features of e.
    spectra : int
        That e maps to.
    common :
        See `NoiseEstimator`.

    Example
    -------
    >>> estimator = SceneNoiseEstimator(4, bands=8, hidden_dim=8, layers=1)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> variance, evidence = estimator.told(power, mask, torch.eye(4)[:1])
    >>> variance.shape, evidence.shape
    (torch.Size([1, 30, 9]), torch.Size([1]))
    """

    def __init__(self, scene_dim: int = 128, spectra: int = 2, **common: int) -> None:
        super().__init__(**common)
        self.spectra = spectra
        self.enter = nn.Linear(scene_dim, scene_dim, bias=False)
        hidden_dim, told = self.read.out_features, 2 * spectra
        self.summarise = nn.Sequential(
            nn.Linear(self.bands * (_CANDIDATES + 1), hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, scene_dim)
        )
        self.evidence_scale, self.evidence_bias = nn.Parameter(torch.tensor(4.0)), nn.Parameter(torch.tensor(-1.0))
        self.describe = nn.Sequential(nn.Linear(scene_dim, 64), nn.Tanh(), nn.Linear(64, spectra * self.bands))
        self.film = nn.Sequential(
            nn.Linear(scene_dim, 48), nn.Tanh(), nn.Linear(48, 2 * hidden_dim * (len(self.blocks) + 1))
        )
        self.read_told = nn.Linear(self.bands * told, hidden_dim, bias=False)
        self.write_told = nn.Linear(hidden_dim, self.bands * told)
        with torch.no_grad():
            self.enter.weight.copy_(torch.eye(scene_dim))
            for layer in (self.film[-1], self.read_told, self.write_told):
                for parameter in layer.parameters():
                    parameter.zero_()
            self.write_told.bias.fill_(-3.0)

    def told(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The variance of noise, and log-odds that the description is right, (batch,); `scene` (batch, scene_dim).

        A scene of zeros says nothing.
        """
        candidates = self._candidates(power, mask)
        to_bins, to_bands = frequency_bands(self.bands, power)
        levels, inside = _levels(candidates, to_bands), mask[..., None].to(power)
        scene = F.normalize(self.enter(scene), dim=-1)
        evidence = self._evidence(levels, inside, scene[:, None])[:, 0]
        scene = scene * evidence.sigmoid()[:, None]
        spectra = self.describe(scene).unflatten(1, (self.spectra, self.bands))[:, None]
        loud = spectra.softmax(dim=-1)
        # Each spectrum at the level of the frame (mean over 15) and at that of the clip (its median).
        short = [levels[:, :, place, None] / _LEVEL for place in (1, 4)]
        told = torch.cat([spectra + ((each - spectra) * loud).sum(dim=-1, keepdim=True) for each in short], dim=2)
        hidden = self.read(levels.flatten(2)) + self.read_told(told.flatten(2) * _LEVEL)
        scales, shifts = self.film(scene)[:, None].unflatten(2, (2, len(self.blocks) + 1, -1)).unbind(dim=2)
        hidden = torch.tanh(hidden * (1 + scales[:, :, 0]) + shifts[:, :, 0])
        for place, block in enumerate(self.blocks, start=1):
            hidden = block(hidden, inside) * (1 + scales[:, :, place]) + shifts[:, :, place]
        hidden = self.norm(hidden)
        first = self.write(hidden).unflatten(-1, (_CANDIDATES + 1, self.bands))
        further = self.write_told(hidden).unflatten(-1, (-1, self.bands))
        written = torch.cat([further, first], dim=2) @ to_bins
        reference = _reference(candidates @ to_bands)[..., None]
        return _weighted(torch.cat([told @ to_bins + reference, candidates], dim=2), written), evidence

    def evidence(self, power: torch.Tensor, mask: torch.Tensor, scenes: torch.Tensor) -> torch.Tensor:
        """Log-odds that each of several descriptions of a clip is right, (batch, any); `scenes` (batch, any, dim)."""
        levels = _levels(self._candidates(power, mask), frequency_bands(self.bands, power)[1])
        return self._evidence(levels, mask[..., None].to(power), F.normalize(self.enter(scenes), dim=-1))

    def _evidence(self, levels: torch.Tensor, inside: torch.Tensor, scenes: torch.Tensor) -> torch.Tensor:
        frames = inside.sum(dim=1)
        mean = (levels.flatten(2) * inside).sum(dim=1) / frames
        spread = ((levels[:, :, 0] - levels[:, :, 5]) * inside).square().sum(dim=1) / frames
        heard = F.normalize(self.summarise(torch.cat([mean, (spread + 1e-6).sqrt()], dim=1)), dim=1)
        return self.evidence_scale * (scenes @ heard[..., None])[..., 0] + self.evidence_bias


def _reference(levels: torch.Tensor) -> torch.Tensor:
    """The level of a clip, the mean over bands of its mean power: (batch, frames, candidates, bands) to (..., 1, 1)."""
    return levels[:, :, -1:].mean(dim=-1)


def _levels(candidates: torch.Tensor, to_bands: torch.Tensor) -> torch.Tensor:
    """Candidates in bands around the level of the clip, near one: (batch, frames, candidates, bands)."""
    levels = candidates @ to_bands
    return (levels - _reference(levels)[..., None]) * _LEVEL


def _weighted(candidates: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """A mean of candidates in the logarithm, with weights and a factor that were written; (batch, frames, bins)."""
    weights = written[:, :, :-1].softmax(dim=2)
    return ((weights * candidates).sum(dim=2) + written[:, :, -1]).exp()

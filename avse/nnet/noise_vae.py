"""A variational autoencoder of the power of noise, told an embedding of the scene."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.prior import Gaussian
from avse.nnet.temporal_block import TemporalBlock
from avse.signal.bands import frequency_bands

_FLOOR = 1e-7  # of power, relative to the mean of the clip
_SCALE = 0.25  # brings natural logarithms of power near one


class NoiseVAE(nn.Module):
    """Noise as n ~ N_c(0, l exp(d(z, e))), z ~ N(mu(e), sigma(e)^2), with q(z | n, e); l is the level of the clip.

    z is of each frame; d is a network with one hidden layer, of this frame alone, which writes logarithms in bands of
    frequency in Hz, so that any size of the transform fits. The encoder sees other frames as well. The embedding e
    enters encoder, decoder and prior by layers without a bias: zeros say nothing, and give bit for bit what no
    embedding gives.

    Arguments
    ---------
    scene_dim : int
        Features of e.
    bands, latent_dim, hidden_dim, layers : int
        `layers` are those of the encoder.

    Example
    -------
    >>> network = NoiseVAE(4, bands=8, latent_dim=2, hidden_dim=8, layers=1)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> network.encode(power, mask, torch.eye(4)[:1]).mean.shape
    torch.Size([1, 30, 2])
    """

    def __init__(
        self, scene_dim: int = 128, bands: int = 48, latent_dim: int = 8, hidden_dim: int = 64, layers: int = 2
    ) -> None:
        super().__init__()
        self.bands = bands
        self.read = nn.Linear(bands, hidden_dim)
        self.blocks = nn.ModuleList(TemporalBlock(hidden_dim, 2**layer) for layer in range(layers))
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim)
        self.prior_parameters = nn.Parameter(torch.zeros(2 * latent_dim))
        self.widen = nn.Linear(latent_dim, hidden_dim)
        self.write = nn.Linear(hidden_dim, bands)
        self.tell_encoder = nn.Linear(scene_dim, hidden_dim, bias=False)
        self.tell_decoder = nn.Linear(scene_dim, hidden_dim, bias=False)
        self.tell_prior = nn.Linear(scene_dim, 2 * latent_dim, bias=False)
        nn.init.zeros_(self.tell_prior.weight)

    def encode(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> Gaussian:
        """q(z | n, e), (batch, frames, latent_dim), of `power` (batch, frames, bins) and `scene` (batch, scene_dim)."""
        inside = mask[..., None].to(power)
        relative = power / self.level(power, mask) + _FLOOR
        hidden = self.read(_SCALE * relative.log() @ frequency_bands(self.bands, power)[1])
        if scene is not None:
            hidden = hidden + self.tell_encoder(scene)[:, None]
        hidden = torch.tanh(hidden)
        for block in self.blocks:
            hidden = block(hidden, inside)
        mean, log_variance = self.posterior(hidden).chunk(2, dim=2)
        return Gaussian(mean, log_variance.clamp(-10.0, 2.0))

    @staticmethod
    def level(power: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The mean power of each clip, (batch, 1, 1)."""
        counted = torch.where(mask[..., None], power, power.new_zeros(()))
        total = counted.mean(dim=2).sum(dim=1) / mask.sum(dim=1).to(power)
        return total[:, None, None].clamp(min=1e-20)

    def prior(self, scene: torch.Tensor | None, count: int) -> Gaussian:
        """p(z | e), (count, 1, latent_dim)."""
        parameters = self.prior_parameters.expand(count, -1)
        if scene is not None:
            parameters = parameters + self.tell_prior(scene)
        mean, log_variance = parameters[:, None].chunk(2, dim=2)
        return Gaussian(mean, log_variance.clamp(-6.0, 4.0))

    def told(self, scene: torch.Tensor | None, count: int) -> torch.Tensor:
        """What e adds to the hidden features of the decoder, (count, 1, hidden_dim)."""
        none = self.widen.bias.new_zeros(count, 1, self.widen.out_features)
        return none if scene is None else none + self.tell_decoder(scene)[:, None]

    def decode(self, latent: torch.Tensor, told: torch.Tensor, bins: int) -> torch.Tensor:
        """d, (batch, frames, bins); `latent` (batch, frames, latent_dim), and `told` as by the method of that name."""
        to_bins = frequency_bands(self.bands, latent.new_zeros(bins))[0]
        return self.write(torch.tanh(self.widen(latent) + told)) @ to_bins / _SCALE

    def slope(self, latent: torch.Tensor, told: torch.Tensor, bins: int) -> torch.Tensor:
        """The derivative of d with respect to z, (batch, frames, bins, latent_dim); arguments as of `decode`."""
        hidden = torch.tanh(self.widen(latent) + told)
        to_bins = frequency_bands(self.bands, latent.new_zeros(bins))[0]
        return to_bins.mT / _SCALE @ self.write.weight @ ((1 - hidden.square())[..., None] * self.widen.weight)

"""Prior `recurrent_vae`: the dynamical family, whose latent variables depend on each other over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.prior import Context, Gaussian
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior

DIRECTIONS = ("none", "forward", "both")


@register("prior", "recurrent_vae")
class RecurrentVAE(VariationalPrior):
    """Dynamical VAE: p(z_n | z_{n-1}, v_n), p(s_n | z) by a recurrent network, q(z_n | s, v) by one in both directions.

    With `decoder: none` the decoder takes its own frame alone (deep Kalman filter), with `both` at all frames
    (recurrent VAE). The transition is gated: `mean = (1 - g) * W z_{n-1} + g * proposal`. Networks are LSTMs, and the
    transition is no recurrence once z is given, so that no method loops over frames in Python.

    Arguments
    ---------
    decoder : str
        Which frames of z the decoder takes: `none` (its own alone), `forward` (the past), or `both`.
    common :
        Further arguments: see `VariationalPrior`. In the prior video is added to the features.

    Example
    -------
    >>> prior = RecurrentVAE(latent_dim=4, hidden_dim=8)
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> latent = prior.encode(torch.rand(1, 6, 513), context).sample()
    >>> prior.prior(latent, context).mean.shape, prior.decode(latent, context).shape
    (torch.Size([1, 6, 4]), torch.Size([1, 6, 513]))
    """

    paper = "Golmakani, Sadeghi and Serizel, Audio-visual speech enhancement with a deep Kalman filter, 2022"

    def __init__(self, latent_dim: int = 16, decoder: str = "forward", **common: Any) -> None:
        super().__init__(latent_dim=latent_dim, **common)
        hidden_dim = self.hidden_dim
        if decoder not in DIRECTIONS:
            raise ValueError(f"decoder must be one of {', '.join(DIRECTIONS)}, got {decoder!r}.")
        if hidden_dim % 2:
            raise ValueError(f"hidden_dim must be even, got {hidden_dim}.")
        self.encoder = _Recurrence(hidden_dim, "both")
        self.decoder = _Recurrence(hidden_dim, decoder)
        self.from_last = nn.Linear(latent_dim, hidden_dim)
        self.from_video: nn.Linear | None = None
        if self.video_input.sees:
            self.from_video = nn.Linear(self.video_input.video_dim, hidden_dim, bias=False)
        self.kept = nn.Linear(latent_dim, latent_dim, bias=False)
        self.transition = nn.Linear(hidden_dim, 3 * latent_dim)

    def encode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.encode_stream`."""
        return self.encoder(hidden, context.mask)

    def decode_stream(self, hidden: torch.Tensor, context: Context) -> torch.Tensor:
        """See `VariationalPrior.decode_stream`."""
        return self.decoder(hidden, context.mask)

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        """p(z_n | z_{n-1}, v_n); the first frame follows a zero. See `LatentPrior.prior`."""
        last = F.pad(latent[:, :-1], (0, 0, 1, 0))
        hidden = self.from_last(last)
        if self.from_video is not None and context.video is not None:
            hidden = torch.where(context.valid[..., None], hidden + self.from_video(context.video), hidden)
        gate, parameters = self.transition(torch.tanh(hidden)).split([self.latent_dim, 2 * self.latent_dim], dim=-1)
        proposal = self.gaussian(parameters)
        mean = torch.lerp(self.kept(last), proposal.mean, torch.sigmoid(gate))
        return Gaussian(mean, proposal.log_variance)


class _Recurrence(nn.Module):
    """An LSTM in one or both directions, (batch, frames, dim) to the same; padding beyond a clip's end changes nothing.

    Without a direction: one layer that treats each frame by itself.
    """

    def __init__(self, dim: int, direction: str) -> None:
        super().__init__()
        size = dim // 2 if direction == "both" else dim
        self.layer = nn.Linear(dim, dim) if direction == "none" else None
        self.forward_in_time = nn.LSTM(dim, size, batch_first=True) if direction != "none" else None
        self.backward_in_time = nn.LSTM(dim, size, batch_first=True) if direction == "both" else None

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.layer is not None:
            return torch.tanh(self.layer(hidden))
        assert self.forward_in_time is not None
        past, _ = self.forward_in_time(hidden)
        if self.backward_in_time is None:
            return past
        # A clip is reversed within its own length: packed sequences would not use the fast kernels of the CPU.
        frames = torch.arange(hidden.shape[1], device=hidden.device)
        last = mask.sum(dim=1, keepdim=True) - 1
        reversed_ = torch.where(mask, last - frames, frames)[..., None]
        future, _ = self.backward_in_time(hidden.gather(1, reversed_.expand_as(hidden)))
        return torch.cat([past, future.gather(1, reversed_.expand_as(future))], dim=2)

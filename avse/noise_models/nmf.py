"""Noise model `nmf`: a few spectra and their gains at each frame, both learned on the clip."""

from __future__ import annotations

import torch

from avse.contracts.noise_model import NoiseModel, State
from avse.plugins import register
from avse.signal.nmf import multiply, normalise
from avse.signal.random import clip_generators

_FLOOR = 1e-10


@register("noise_model", "nmf")
class NMF(NoiseModel):
    """Non-negative matrix factorisation: V = gains x spectra, fitted to the clip by multiplicative updates.

    Arguments
    ---------
    rank : int
        Number of spectra.
    exponent : float
        Of the multiplicative updates. One half is the published one, with which the objective never rises.
    seed : int
        Of the random beginning, which is the same for a clip alone and in any batch.

    State: `gains` (batch, frames, rank), `spectra` (batch, rank, bins) that sum to one over bins.

    Example
    -------
    >>> model = NMF(rank=2)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> state = model.initial_state(power, mask)
    >>> for _ in range(10):
    ...     state = model.update_from_power(state, power, mask)
    >>> model.variance(state).shape
    torch.Size([1, 30, 9])
    """

    paper = "Févotte, Bertin and Durrieu, Nonnegative matrix factorization with the Itakura-Saito divergence, 2009"

    def __init__(self, rank: int = 8, exponent: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}.")
        if not 0.0 < exponent <= 1.0:
            raise ValueError(f"exponent must be above 0 and at most 1, got {exponent}.")
        self.rank, self.exponent, self.seed = rank, exponent, seed

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """The clip's mean spectrum in random variations, at the clip's level; see `NoiseModel.initial_state`."""
        batch, frames, bins = power.shape
        spread, level = power.new_zeros(batch, self.rank, bins), power.new_zeros(batch, frames, self.rank)
        for row, generator in enumerate(clip_generators(mask, self.seed)):
            count = int(mask[row].sum())
            spread[row] = torch.rand(self.rank, bins, generator=generator).to(power)
            level[row, :count] = torch.rand(count, self.rank, generator=generator).to(power)
        mean = _mean_over_frames(power, mask)
        gains, spectra = normalise((0.5 + level) / self.rank, mean[:, None] * (0.5 + spread))
        return {"gains": gains, "spectra": spectra}

    def variance(self, state: State) -> torch.Tensor:
        return (state["gains"] @ state["spectra"]).clamp(min=_FLOOR)

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        gains, spectra = multiply(state["gains"], state["spectra"], numerator, denominator, self.exponent)
        return {"gains": gains, "spectra": spectra}


def _mean_over_frames(power: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    counted = torch.where(mask[..., None], power, power.new_zeros(()))
    return counted.sum(dim=1) / mask.sum(dim=1)[:, None] + _FLOOR

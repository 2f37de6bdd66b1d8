"""What factorised noise models share: V = gains x spectra, both fitted to the clip by multiplicative updates."""

from __future__ import annotations

from typing import ClassVar

import torch

from avse.contracts.noise_model import NoiseModel, State
from avse.signal.nmf import Exponent, multiply, normalise
from avse.signal.random import clip_generators

_FLOOR = 1e-10


class FactorisedNoise(NoiseModel):
    """V = gains x spectra. A subclass says where the fit begins.

    Arguments
    ---------
    rank : int
        Number of spectra.
    exponent : float
        Of the multiplicative updates. One half is the published one, with which the objective never rises.
    seed : int
        Of the random beginning, which is the same for a clip alone and in any batch.

    State: `gains` (batch, frames, rank), `spectra` (batch, rank, bins) that sum to one over bins.
    """

    learnable: ClassVar[tuple[str, ...]] = ("exponent",)

    def __init__(self, rank: int = 8, exponent: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}.")
        if not 0.0 < exponent <= 1.0:
            raise ValueError(f"exponent must be above 0 and at most 1, got {exponent}.")
        self.rank, self.seed = rank, seed
        self.exponent: Exponent = exponent

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """The clip's mean spectrum in random variations, at the clip's level; see `NoiseModel.initial_state`."""
        batch, frames, bins = power.shape
        spread, level = power.new_zeros(batch, self.rank, bins), power.new_zeros(batch, frames, self.rank)
        for row, generator in enumerate(clip_generators(mask, self.seed)):
            count = int(mask[row].sum())
            spread[row] = torch.rand(self.rank, bins, generator=generator).to(power)
            level[row, :count] = torch.rand(count, self.rank, generator=generator).to(power)
        counted = torch.where(mask[..., None], power, power.new_zeros(()))
        mean = counted.sum(dim=1) / mask.sum(dim=1)[:, None] + _FLOOR
        gains, spectra = normalise((0.5 + level) / self.rank, mean[:, None] * (0.5 + spread))
        return {"gains": gains, "spectra": spectra}

    def variance(self, state: State) -> torch.Tensor:
        return (state["gains"] @ state["spectra"]).clamp(min=_FLOOR)

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        gains, spectra = multiply(state["gains"], state["spectra"], numerator, denominator, self.exponent)
        return {**state, "gains": gains, "spectra": spectra}

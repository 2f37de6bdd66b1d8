"""What noise models share whose fit begins at what a network expects, and that learn where speech is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from avse.contracts.noise_model import State
from avse.nnet.noise_estimator import NoiseEstimator
from avse.noise_models.factorised import FactorisedNoise
from avse.signal.nmf import Exponent, power

_WEIGHTS = Path(__file__).with_name("prior_nmf.safetensors")


class ExpectedNoise(FactorisedNoise):
    """Non-negative matrix factorisation, V = gains x spectra, that takes less of the speech for noise than `nmf` does.

    The fit begins at a factorisation of V_0, the variance that a network expects from the noisy audio
    (`NoiseEstimator`), not at random. In the M-step bins count by the share of noise w in the variance Vx of the noisy
    audio, under the posterior of the inference, so that noise is learned where speech is absent:

        w = min(1, V E[1 / Vx])^g,   numerator -> w numerator,   denominator -> w denominator

    The network's weights are a part of the package and stay fixed. `avse.training.noise_estimator` made them, from
    speech and recordings of noise, some of which are for non-commercial use only; so are the weights.

    Arguments
    ---------
    presence_exponent : float
        g above. 0: all bins count alike, as in `nmf`.
    begin_iterations : int
        Updates of the factorisation of V_0.
    pretrained : bool
        False: the network has random weights, to be trained.
    common :
        Further arguments: see `FactorisedNoise`.

    State: `gains` (batch, frames, rank), `spectra` (batch, rank, bins) that sum to one over bins.
    """

    learnable = ("exponent", "presence_exponent")

    def __init__(
        self,
        rank: int = 2,
        *,
        presence_exponent: float = 2.0,
        begin_iterations: int = 40,
        pretrained: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(rank, **common)
        if presence_exponent < 0 or begin_iterations < 1:
            raise ValueError(
                "presence_exponent must not be negative and begin_iterations must be at least 1, "
                f"got {presence_exponent} and {begin_iterations}."
            )
        self.begin_iterations = begin_iterations
        self.presence_exponent: Exponent = presence_exponent
        self.estimator = NoiseEstimator()
        if pretrained:
            weights = safetensors.torch.load_file(_WEIGHTS)
            self.estimator.load_state_dict({name: value.float() for name, value in weights.items()})
            self.requires_grad_(False)

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """A factorisation of what the network expects; see `NoiseModel.initial_state`."""
        return self.begin(self.estimator(power, mask), mask)

    def begin(self, expected: torch.Tensor, mask: torch.Tensor) -> State:
        """The factorisation of a variance that is expected, shape (batch, frames, bins)."""
        expected = expected * mask[..., None]
        state = super().initial_state(expected, mask)
        for _ in range(self.begin_iterations):
            weight = mask[..., None] / self.variance(state)
            state = super().update(state, expected * weight.square(), weight)
        return state

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        """One M-step with bins weighted by the share of noise; see `NoiseModel.update`."""
        share = self.share(state, denominator)
        return self.factors(state, share * numerator, share * denominator)

    def share(self, state: State, denominator: torch.Tensor) -> torch.Tensor:
        """w above, shape (batch, frames, bins)."""
        return power((self.variance(state) * denominator).clamp(max=1.0), self.presence_exponent)

    def factors(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        """The M-step of weighted bins."""
        return super().update(state, numerator, denominator)

"""Noise model `conditioned_score`: a score of noise that may be told what the noise is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from avse.contracts.noise_model import ScoreNoiseModel, State
from avse.contracts.prior import Context
from avse.nnet.score_network import DATA_STD, ScoreNetwork
from avse.noise_models.described import DescribedNoise
from avse.plugins import register

_WEIGHTS = Path(__file__).with_suffix(".safetensors")


@register("noise_model", "conditioned_score")
class ConditionedScore(DescribedNoise, ScoreNoiseModel):
    """Noise n = V^(1/2) u, V that of `DescribedNoise`, where u has a learned score that is told what the noise is.

        y = d u + r z,   z ~ N_c(0, 1),   d = 0.1,   E[d u | y] = network(y, r, t e);   see `ScoreNetwork`

    Before training u is Gaussian, and the noise is N_c(0, V); what the network learns is how noise differs from that:
    bursts, tones, what V missed. The embedding e enters by FiLM, weighed by the trust t, through
    layers without a bias that begin at zero: without a scene, or where it is zeros, the network is bit for bit the one
    that has none. `posterior_sampling_moments` diffuses u beside speech, two scores under one observation; other
    inferences use V alone.

    The weights are a part of the package and stay fixed. `avse.training.noise_score` made them; see `DescribedNoise`
    for what they may be used for.

    Arguments
    ---------
    bins : int
        Frequency bins of the score; inferences in another transform use V alone.
    size : str
        Of the network; see `ScoreNetwork`.
    score_pretrained : bool
        False: the score is that of a Gaussian, to be trained.
    common :
        Further arguments: see `DescribedNoise`.

    State: that of `DescribedNoise`; with a scene also `told` (batch, scene_dim), which is t e.

    Example
    -------
    >>> model = ConditionedScore()
    >>> power, mask = torch.rand(1, 30, 321), torch.ones(1, 30, dtype=torch.bool)
    >>> state = model.initial_state(power, mask, torch.eye(128)[:1])
    >>> mean, variance = model.noise_given(torch.randn(1, 30, 321, dtype=torch.complex64), torch.ones(1), state, mask)
    >>> mean.shape, variance.shape
    (torch.Size([1, 30, 321]), torch.Size([1, 30, 321]))
    """

    paper = "Ayilo et al., Diffusion-based frameworks for unsupervised speech enhancement, 2026 (ParaDiffUSE)"

    def __init__(
        self,
        rank: int = 2,
        *,
        bins: int = 321,
        size: str = "compact",
        pretrained: bool = True,
        score_pretrained: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(rank, pretrained=pretrained, **common)
        self.score_bins = bins
        self.network = ScoreNetwork(bins, size, scene_dim=self.scene_dim)
        for layer in (self.network.leave, self.network.spread):
            for parameter in layer.parameters():
                torch.nn.init.zeros_(parameter)
        if pretrained and score_pretrained:
            weights = safetensors.torch.load_file(_WEIGHTS)
            self.network.load_state_dict({name: value.float() for name, value in weights.items()})
            self.network.requires_grad_(False)

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """See `DescribedNoise.initial_state`."""
        state = super().initial_state(power, mask, scene)
        return state if scene is None else {**state, "told": self.code(scene, state["trust"])}

    def domain_of(self, noise: torch.Tensor, state: State) -> torch.Tensor:
        """d u = d V^(-1/2) n; see `ScoreNoiseModel.domain_of`."""
        return DATA_STD * noise / self.variance(state).sqrt()

    def noise_given(
        self, noisy: torch.Tensor, ratio: torch.Tensor, state: State, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScoreNoiseModel.noise_given`."""
        variance = self.variance(state) / DATA_STD**2
        unit = self.network(noisy, ratio, Context(mask, torch.zeros_like(mask)), scene=state.get("told"))
        return variance.sqrt() * unit.mean, variance * unit.variance

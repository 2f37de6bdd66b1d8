"""SDE `variance_exploding`: noise grows, speech stays."""

from __future__ import annotations

import math

import torch

from avse.contracts.sde import Sde
from avse.plugins import register


@register("sde", "variance_exploding")
class VarianceExploding(Sde):
    """ds = std_min (std_max / std_min)^t sqrt(2 log(std_max / std_min)) dw.

    Arguments
    ---------
    std_min, std_max : float
        How fast noise grows at the beginning; its standard deviation at the end.

    Example
    -------
    >>> scale, std = VarianceExploding(std_max=2.0).marginal(torch.tensor([0.0, 1.0]))
    >>> scale.tolist(), [round(value, 3) for value in std.tolist()]
    ([1.0, 1.0], [0.0, 2.0])
    """

    paper = "Song et al., Score-based generative modeling through stochastic differential equations, 2021"

    def __init__(self, std_min: float = 0.02, std_max: float = 1.8, first_time: float = 0.08) -> None:
        super().__init__(first_time)
        if not 0 < std_min < std_max:
            raise ValueError(f"0 < std_min < std_max is needed, got {std_min} and {std_max}.")
        self.std_min, self.std_max = std_min, std_max
        self.scaling_exponent = math.log(std_max / std_min)

    def marginal(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(time), self.std_min * torch.expm1(2 * self.scaling_exponent * time).sqrt()

    def coefficients(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        diffusion = self.std_min * torch.exp(self.scaling_exponent * time) * math.sqrt(2 * self.scaling_exponent)
        return torch.zeros_like(time), diffusion

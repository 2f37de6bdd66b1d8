"""SDE `ornstein_uhlenbeck`: speech fades while noise grows."""

from __future__ import annotations

import math

import torch

from avse.contracts.sde import Sde
from avse.plugins import register

_STIFFNESS = 1.5  # how fast speech fades


@register("sde", "ornstein_uhlenbeck")
class OrnsteinUhlenbeck(Sde):
    """ds = -1.5 s dt + std_min (std_max / std_min)^t sqrt(2 log(std_max / std_min)) dw, as published.

    Arguments
    ---------
    std_min, std_max : float
        How fast noise grows at the beginning and at the end.

    Example
    -------
    >>> OrnsteinUhlenbeck().ratio(torch.tensor(1.0)).item() > 1
    True
    """

    paper = "Richter et al., Speech enhancement and dereverberation with diffusion-based generative models, 2023"

    def __init__(self, std_min: float = 0.05, std_max: float = 0.5, first_time: float = 0.03) -> None:
        super().__init__(first_time)
        if not 0 < std_min < std_max:
            raise ValueError(f"0 < std_min < std_max is needed, got {std_min} and {std_max}.")
        self.std_min, self.std_max = std_min, std_max
        self.scaling_exponent = math.log(std_max / std_min)

    def marginal(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rate = _STIFFNESS + self.scaling_exponent
        scale = torch.exp(-_STIFFNESS * time)
        grown = torch.expm1(2 * rate * time) * (self.scaling_exponent / rate)
        return scale, self.std_min * scale * grown.sqrt()

    def coefficients(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        diffusion = self.std_min * torch.exp(self.scaling_exponent * time) * math.sqrt(2 * self.scaling_exponent)
        return torch.full_like(time, _STIFFNESS), diffusion

"""SDE `my_plugin`: how speech turns into noise.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.sde import Sde
from avse.plugins import register


@register("sde", "my_plugin")
class MyPlugin(Sde):
    """Noise whose standard deviation grows with time; speech stays as it is.

    Times of shape (batch,) give scales and standard deviations of shape (batch,).

    Arguments
    ---------
    std_max : float
        Standard deviation of the noise at time 1.
    first_time : float
        See `Sde`.

    Example
    -------
    >>> scale, std = MyPlugin(std_max=2.0).marginal(torch.tensor([0.5]))
    >>> scale.item(), std.item()
    (1.0, 1.0)
    """

    # CHANGE: where it comes from, such as "Doe et al., An equation, 2026".
    paper = ""

    def __init__(self, std_max: float = 1.8, first_time: float = 0.02) -> None:
        super().__init__(first_time)
        if std_max <= 0:
            raise ValueError(f"std_max must be above 0, got {std_max}.")
        self.std_max = std_max

    # KEEP both methods in agreement: one solves the equation of the other.
    def marginal(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Sde.marginal`."""
        # CHANGE: what is left of speech, and how much noise there is. KEEP 1 and 0 at
        # time 0, and noise relative to speech growing.
        return torch.ones_like(time), self.std_max * time

    def coefficients(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Sde.coefficients`."""
        # CHANGE: d scale / dt = -decay * scale, and
        # d std^2 / dt = diffusion^2 - 2 * decay * std^2.
        return torch.zeros_like(time), self.std_max * (2 * time).sqrt()

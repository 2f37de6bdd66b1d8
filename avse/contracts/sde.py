"""Kind `sde`: how speech turns into noise, as a stochastic differential equation."""

from __future__ import annotations

from abc import abstractmethod

import torch

from avse.contracts.plugin import Plugin


class Sde(Plugin):
    """A linear equation ds = -decay(t) s dt + diffusion(t) dw, from speech at time 0 to noise at time 1.

    States are complex, and so is the Wiener process w, with E |dw|^2 = dt: variances are those of real and imaginary
    part together. A state at time t, given speech s, is Gaussian with mean `scale(t) * s` and standard deviation
    `std(t)`. A subclass gives both, and the coefficients of the equation; it holds numbers only, nothing is learned.

    Arguments
    ---------
    first_time : float
        The time next to speech at which models are trained and sampling ends, above 0 and below 1.

    Raises
    ------
    ValueError
        If `first_time` is out of range.

    Example
    -------
    >>> from avse.sdes.ornstein_uhlenbeck import OrnsteinUhlenbeck
    >>> sde = OrnsteinUhlenbeck()
    >>> scale, std = sde.marginal(torch.tensor([0.03, 1.0]))
    >>> [round(value, 3) for value in (*scale.tolist(), *std.tolist())]
    [0.956, 0.223, 0.019, 0.389]
    """

    def __init__(self, first_time: float = 0.03) -> None:
        if not 0.0 < first_time < 1.0:
            raise ValueError(f"first_time must be above 0 and below 1, got {first_time}.")
        self.first_time = first_time

    @abstractmethod
    def marginal(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and standard deviation of a state, given speech.

        Arguments
        ---------
        time : tensor of any shape, in [0, 1]

        Returns
        -------
        scale, std : tensor, shape of `time`
            `scale` is 1 at time 0 and stays above 0; `std` grows with time, relative to `scale`.
        """

    @abstractmethod
    def coefficients(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The equation at a time.

        Arguments
        ---------
        time : tensor of any shape, in [0, 1]

        Returns
        -------
        decay, diffusion : tensor, shape of `time`
        """

    def ratio(self, time: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the noise relative to the scale of speech: how noisy a state is.

        Arguments
        ---------
        time : tensor of any shape

        Returns
        -------
        tensor, shape of `time`
        """
        scale, std = self.marginal(time)
        return std / scale

    def times(self, steps: int) -> torch.Tensor:
        """The times of a sampler, from 1 down to `first_time`, in float64, shape (steps + 1,)."""
        return torch.linspace(1.0, self.first_time, steps + 1, dtype=torch.float64)

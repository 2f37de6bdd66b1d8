"""Kind `sampler`: the way back from noise to speech along a stochastic differential equation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch

from avse.contracts.plugin import Plugin
from avse.contracts.sde import Sde

Expected = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""E[speech | state] from a state (batch, frames, bins) and its time (batch,); the score follows from it."""
Noise = Callable[[], torch.Tensor]
"""Draws complex white noise of variance one in the shape of the state."""


class Sampler(Plugin):
    """Moves a state from one time to an earlier one; a few dozen moves lead from noise to speech.

    A subclass implements `move`, which says where a state goes next as a Gaussian, and if it wants to, `correct`, which
    draws anew at the same time. An inference uses the noisy audio between the two.

    Arguments
    ---------
    steps : int
        How many moves lead from time 1 to the first time of the equation.

    Attributes
    ----------
    stochastic : bool
        Whether moves draw at random. False: only the state at time 1 is random.
    evaluations : int
        How often a step asks for the expected speech.
    leaves : bool
        Whether a move needs no more of the following time than its distance, so that it may lead beyond the first time.

    Raises
    ------
    ValueError
        If there is no step.

    Example
    -------
    >>> from avse.samplers.euler import Euler
    >>> from avse.sdes.ornstein_uhlenbeck import OrnsteinUhlenbeck
    >>> noise = lambda: torch.randn(1, 200, 3, dtype=torch.complex64)
    >>> always = torch.ones(1, 200, 3, dtype=torch.complex64)
    >>> sampler = Euler(steps=5)
    >>> speech = sampler.sample(lambda state, time: always, OrnsteinUhlenbeck(), noise)
    >>> torch.equal(speech, always)
    True
    """

    stochastic: bool = True
    evaluations: int = 1
    leaves: bool = False

    def __init__(self, steps: int = 30) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}.")
        self.steps = steps

    @abstractmethod
    def move(
        self,
        state: torch.Tensor,
        time: torch.Tensor,
        following: torch.Tensor,
        expected: Expected,
        sde: Sde,
        memory: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where a state goes next.

        Arguments
        ---------
        state : tensor, shape (batch, frames, bins), complex
            Not changed.
        time, following : tensor, shape (batch,)
            Of the state, and the earlier one it moves to.
        expected : callable
            Gives E[speech | state] for a state and a time of these shapes.
        sde : Sde
        memory : dict of str to tensor
            Empty at the first move; what a sampler keeps from one move to the next.

        Returns
        -------
        mean : tensor, shape (batch, frames, bins), complex
        std : tensor, shape (batch,)
            Standard deviation of the next state around it; zero for a sampler that is not stochastic.
        """

    def correct(
        self, state: torch.Tensor, time: torch.Tensor, expected: Expected, sde: Sde, noise: Noise
    ) -> torch.Tensor:
        """The state drawn anew at the same time, before a move; as it is, unless a sampler does more.

        Arguments
        ---------
        state : tensor, shape (batch, frames, bins), complex
        time : tensor, shape (batch,)
        expected, sde :
            See `move`.
        noise : callable
            Gives white noise of the state's shape.

        Returns
        -------
        tensor, shape (batch, frames, bins), complex
        """
        return state

    def trajectory(self, sde: Sde, like: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Time and following time of every move, each of shape (batch,), for states like `like`."""
        times = sde.times(self.steps).to(like.real).unbind()
        for time, following in zip(times[:-1], times[1:]):
            yield time.expand(len(like)), following.expand(len(like))

    def sample(self, expected: Expected, sde: Sde, noise: Noise) -> torch.Tensor:
        """Draw speech.

        Arguments
        ---------
        expected, sde :
            See `move`.
        noise : callable
            Gives white noise of the shape wanted.

        Returns
        -------
        tensor, shape (batch, frames, bins), complex
            The speech that is expected at the first time of the equation.
        """
        state = noise()
        time = state.real.new_ones(len(state))
        scale, std = sde.marginal(time)
        state = std[:, None, None] * state
        memory: dict[str, torch.Tensor] = {}
        for time, following in self.trajectory(sde, state):
            state = self.correct(state, time, expected, sde, noise)
            state, std = self.move(state, time, following, expected, sde, memory)
            if self.stochastic:
                state = state + std[:, None, None] * noise()
        return expected(state, following)


def score_of(state: torch.Tensor, time: torch.Tensor, expected: Expected, sde: Sde) -> torch.Tensor:
    """The score by Tweedie's formula, (scale E[speech | state] - state) / std^2; shapes as in `Sampler.move`."""
    scale, std = (value[:, None, None] for value in sde.marginal(time))
    return (scale * expected(state, time) - state) / std.square()

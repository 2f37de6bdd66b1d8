"""Sampler `my_plugin`: the way back from noise to speech.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.sampler import Expected, Sampler
from avse.contracts.sde import Sde
from avse.plugins import register


@register("sampler", "my_plugin")
class MyPlugin(Sampler):
    """Between a draw and the ordinary equation: a share of the noise is made anew.

    With y = state / scale, r = std / scale and D the expected speech, the next y is
    D + sqrt(1 - share^2) (r'/r) (y - D) + share r' z. States are complex (batch,
    steps, bins).

    Arguments
    ---------
    steps : int
        Moves from noise to speech; each asks the network once.
    share : float
        How much of the noise is made anew in a move, in [0, 1).

    Example
    -------
    >>> MyPlugin(share=0.0).stochastic
    False
    """

    # CHANGE: where it comes from, such as "Doe et al., A sampler, 2026".
    paper = ""
    # CHANGE if a step asks for the expected speech more often.
    evaluations = 1

    def __init__(self, steps: int = 30, share: float = 0.3) -> None:
        super().__init__(steps)
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share must be at least 0 and below 1, got {share}.")
        self.share = share
        # KEEP false only while `move` gives a standard deviation of zero.
        self.stochastic = share > 0

    def move(
        self,
        state: torch.Tensor,
        time: torch.Tensor,
        following: torch.Tensor,
        expected: Expected,
        sde: Sde,
        memory: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Sampler.move`: shapes (batch, frames, bins) and (batch,)."""
        # CHANGE: where the state goes. KEEP `state` as it is (no in-place operation),
        # and what the next move must know in `memory`.
        scale, after = sde.marginal(time)[0], sde.marginal(following)[0]
        ratio, later = sde.ratio(time), sde.ratio(following)
        speech = expected(state, time)
        shrink = (1 - self.share**2) ** 0.5 * later / ratio
        noisy = state / scale[:, None, None]
        mean = speech + shrink[:, None, None] * (noisy - speech)
        return after[:, None, None] * mean, after * later * self.share

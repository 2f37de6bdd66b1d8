"""Inference `mcem`: Monte-Carlo EM with draws of the latent variables by Metropolis and Hastings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.inference.em.state import EmState
from avse.inference.em.steps import decode, independent_frames, mixture, prior_cost
from avse.plugins import register
from avse.signal.random import clip_draws
from avse.signal.wiener import speech_variance

_TARGET, _RATE = 0.3, 0.1  # acceptance that proposals are scaled for while burning in, and how fast


class Memory(NamedTuple):
    """Scale of proposals over d, whether frames are accepted one by one, and the variance of speech there."""

    scale: torch.Tensor
    independent: torch.Tensor
    variance: torch.Tensor


@register("inference", "mcem")
class MCEM(LatentInference):
    """EM whose E-step proposes z + d n, n normal, and accepts by the ratio of the posterior densities.

    The variance of n is that of the encoder's posterior where the chains begin, unit by unit.

    Where the prior takes each frame by itself, so does the acceptance. With a prior that looks over time, or a fusion
    that does, a clip is accepted as a whole: exact, but slow to move, and `langevin` is the better choice. While the
    chain burns in, d follows the rate of accepted proposals; chains go on from iteration to iteration.

    Arguments
    ---------
    draws : int
        Proposals in each iteration.
    burn_in : int
        How many of them the M-step does not see; 40 draws with a burn-in of 30 are published.
    chains : int
        Draws of each clip that run side by side.
    proposal_variance : float
        d^2 to begin with; 0.01 is published for n of variance one.
    adaptive : bool
        False, as published: n has variance one, and d stays as it is.
    common :
        Further arguments: see `LatentInference`.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> MCEM.example()(example_batch((3200, 1600))).speech.shape
    torch.Size([2, 3200])
    """

    uses_encoder = False
    learnable = (*LatentInference.learnable, "proposal_variance")
    paper = "Sadeghi et al., Audio-visual speech enhancement using conditional variational auto-encoders, 2020"

    def __init__(
        self,
        prior: LatentPrior | SwitchingPrior,
        noise_model: NoiseModel,
        *,
        draws: int = 5,
        burn_in: int = 3,
        chains: int = 1,
        proposal_variance: float = 0.1,
        adaptive: bool = True,
        m_steps: int = 2,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, m_steps=m_steps, **common)
        if not 0 <= burn_in < draws or chains < 1:
            raise ValueError(
                f"burn_in must be in 0 ... draws - 1 and chains at least 1, got {burn_in}, {draws}, {chains}."
            )
        if proposal_variance <= 0:
            raise ValueError(f"proposal_variance must be above 0, got {proposal_variance}.")
        self.draws, self.burn_in, self.chains, self.proposal_variance = draws, burn_in, chains, proposal_variance
        self.adaptive = adaptive

    @classmethod
    def example_arguments(cls) -> dict:
        return {**super().example_arguments(), "draws": 3, "burn_in": 1}

    def begin(self, state: EmState) -> EmState:
        """All chains at the encoder's mean; see `LatentInference.begin`."""
        assert state.posterior is not None, "the encoder has not run"
        latent = state.posterior.mean.expand(-1, self.chains, -1, -1)
        scale = torch.ones_like(latent[..., :1])
        variance = speech_variance(decode(state, latent))
        return replace(state, latent=latent, memory=Memory(scale, independent_frames(state, latent), variance))

    def e_step(self, state: EmState) -> EmState:
        """A few proposals in every chain; see `LatentInference.e_step`."""
        latent, memory, posterior = state.latent, state.memory, state.posterior
        assert latent is not None and posterior is not None and isinstance(memory, Memory), "the chains have not begun"
        scale, independent, variance = memory
        mask = state.mask[:, None, :, None]
        random = partial(clip_draws, state.power, state.mask, state.generators)
        moves = random((self.draws, self.chains, latent.shape[-1]))
        if self.adaptive:
            moves = moves * (0.5 * posterior.log_variance).exp()
        chance = random((self.draws, self.chains, 1), random=torch.rand)
        chance = torch.where(independent, chance, chance[:, :, :, :1]).clamp(min=1e-12).log()
        cost, nll = self.prior_weight * prior_cost(state, latent), mixture(state, variance).nll()[..., None]
        draws = []
        for draw in range(self.draws):
            proposal = latent + self.proposal_variance**0.5 * scale * moves[draw]
            proposed = speech_variance(decode(state, proposal))
            new_cost, new_nll = (
                self.prior_weight * prior_cost(state, proposal),
                mixture(state, proposed).nll()[..., None],
            )
            gained = (cost + nll - new_cost - new_nll) * mask
            accepted = chance[draw] < torch.where(independent, gained, gained.sum(dim=2, keepdim=True))
            latent, variance, cost, nll = (
                torch.where(accepted, new, old)
                for new, old in ((proposal, latent), (proposed, variance), (new_cost, cost), (new_nll, nll))
            )
            if draw >= self.burn_in:
                draws.append((variance, cost, nll))
            elif self.adaptive:
                scale = scale * ((accepted.to(scale) - _TARGET) * _RATE).exp()
        memory = Memory(scale, independent, variance)
        variance, cost, nll = (torch.cat(values, dim=1) for values in zip(*draws))
        return replace(state, latent=latent, memory=memory, speech_variance=variance, prior_cost=cost, nll=nll)

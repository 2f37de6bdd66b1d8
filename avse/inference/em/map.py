"""Inference `map`: EM with the most probable latent variables, found by gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch

from avse.contracts.noise_model import NoiseModel
from avse.inference.em.driver import LatentInference
from avse.inference.em.speakers import AnyPrior
from avse.inference.em.state import EmState
from avse.inference.em.steps import energy, independent_frames
from avse.plugins import register

_FIRST, _SECOND = 0.8, 0.95  # decay of Adam's moments
_LEAST = 1e-30  # under a square root, for a finite gradient
_FASTER, _SLOWER = 1.1, 0.5  # the step size after a step was accepted, and refused


class Memory(NamedTuple):
    """Adam's two moments, the step sizes relative to `step_size`, and whether frames are accepted one by one."""

    first: torch.Tensor
    second: torch.Tensor
    size: torch.Tensor
    independent: torch.Tensor


@register("inference", "map")
class MAP(LatentInference):
    """EM whose E-step goes down the energy -log p(x, z) by Adam and never up: a step that would rise is refused.

    Where the prior takes each frame by itself, each frame has a step size of its own that grows while the energy falls;
    otherwise each clip has one. The objective therefore falls in every iteration.

    Arguments
    ---------
    steps : int
        Gradient steps in each iteration.
    step_size : float
        Of Adam, to begin with.
    common :
        Further arguments: see `LatentInference`.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> trace = MAP.example()(example_batch((3200, 1600))).trace
    >>> all(later <= earlier for earlier, later in zip(trace, trace[1:]))
    True
    """

    uses_encoder = False
    learnable = (*LatentInference.learnable, "step_size")
    paper = "Sadeghi and Serizel, Fast and efficient speech enhancement with variational autoencoders, 2023"

    def __init__(
        self, prior: AnyPrior, noise_model: NoiseModel, *, steps: int = 2, step_size: float = 0.05, **common: Any
    ) -> None:
        super().__init__(prior, noise_model, **common)
        if steps < 1 or step_size <= 0:
            raise ValueError(f"steps must be at least 1 and step_size above 0, got {steps} and {step_size}.")
        self.steps, self.step_size = steps, step_size

    def begin(self, state: EmState) -> EmState:
        """The encoder's mean; see `LatentInference.begin`."""
        assert state.posterior is not None, "the encoder has not run"
        latent = state.posterior.mean
        zero = torch.zeros_like(latent)
        size = torch.ones_like(latent[..., :1])
        return replace(state, latent=latent, memory=Memory(zero, zero, size, independent_frames(state, latent)))

    def e_step(self, state: EmState) -> EmState:
        """A few steps down; see `LatentInference.e_step`."""
        latent, memory = state.latent, state.memory
        assert latent is not None and isinstance(memory, Memory), "the descent has not begun"
        first, second, size, independent = memory
        mask = state.mask[:, None, :, None]
        variance, cost, nll, gradient = energy(state, latent, prior_weight=self.prior_weight)
        for _ in range(self.steps):
            # Without Adam's correction for its start, which the step size makes up for.
            first = _FIRST * first + (1 - _FIRST) * gradient
            second = _SECOND * second + (1 - _SECOND) * gradient.square()
            proposal = latent - self.step_size * size * first / ((second + _LEAST).sqrt() + 1e-8)
            proposed = energy(state, proposal, prior_weight=self.prior_weight)
            gained = (cost + nll - proposed[1] - proposed[2]) * mask
            accepted = torch.where(independent, gained, gained.sum(dim=2, keepdim=True)) > 0
            size = torch.where(accepted, size * _FASTER, size * _SLOWER)
            # After a refusal the old direction does not count any more: the next is the gradient's.
            first = torch.where(accepted, first, torch.zeros_like(first))
            latent = torch.where(accepted, proposal, latent)
            variance, cost, nll, gradient = (
                torch.where(accepted, new, old) for new, old in zip(proposed, (variance, cost, nll, gradient))
            )
        memory = Memory(first, second, size, independent)
        return replace(state, latent=latent, memory=memory, speech_variance=variance, prior_cost=cost, nll=nll)

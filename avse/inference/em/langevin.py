"""Inference `langevin`: EM with draws of the latent variables by Langevin dynamics, several chains at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.inference.em.state import EmState
from avse.inference.em.steps import decode, energy, in_chunks
from avse.plugins import register
from avse.signal.random import clip_draws
from avse.signal.wiener import speech_variance

_LIMIT = 3.0  # of the drift, in standard deviations of the noise; reached only where the step is too large


@register("inference", "langevin")
class Langevin(LatentInference):
    """EM whose E-step follows the gradient of the log-posterior of z, with noise: z - e M dU + sqrt(2 e M) n.

        U(z) = sum_fn [ |x|^2 / Vx + log Vx ] - log p(z | v) + smoothness * sum_n |z_n - z_(n-1)|_1

    M is the variance of the encoder's posterior where the chains begin. It is fixed, so that the draws follow the same
    distribution as with M = 1, which is published; but units that the audio determines to a hundredth and units that it
    leaves open move equally fast on their own scale.

    Every step of every chain is one forward and one backward pass through the decoder, and the same pass gives the
    M-step its averages over chains.

    Arguments
    ---------
    chains : int
        Draws of each clip that run side by side.
    steps : int
        Langevin steps in each iteration.
    step_size : float
        e above.
    smoothness : float
        Weight of the total variation of z over time.
    common :
        Further arguments: see `LatentInference`.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> Langevin.example()(example_batch((3200, 1600))).speech.shape
    torch.Size([2, 3200])
    """

    uses_encoder = False
    learnable = (*LatentInference.learnable, "step_size", "smoothness")
    paper = "Sadeghi and Serizel, Fast and efficient speech enhancement with variational autoencoders, 2023"

    def __init__(
        self,
        prior: LatentPrior | SwitchingPrior,
        noise_model: NoiseModel,
        *,
        chains: int = 4,
        steps: int = 1,
        step_size: float = 0.02,
        smoothness: float = 0.0,
        m_steps: int = 2,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, m_steps=m_steps, **common)
        if chains < 1 or steps < 1:
            raise ValueError(f"chains and steps must be at least 1, got {chains} and {steps}.")
        if step_size <= 0 or smoothness < 0:
            raise ValueError(
                f"step_size must be above 0 and smoothness not negative, got {step_size} and {smoothness}."
            )
        self.chains, self.steps, self.step_size, self.smoothness = chains, steps, step_size, smoothness

    @classmethod
    def example_arguments(cls) -> dict:
        return {**super().example_arguments(), "chains": 2}

    def begin(self, state: EmState) -> EmState:
        """Draws from the encoder's posterior; see `LatentInference.begin`."""
        posterior = state.posterior
        assert posterior is not None, "the encoder has not run"
        shape = (1, self.chains, posterior.mean.shape[-1])
        draws = clip_draws(state.power, state.mask, state.generators, shape)[0]
        return replace(state, latent=posterior.mean + posterior.log_variance.exp().sqrt() * draws)

    def e_step(self, state: EmState) -> EmState:
        """A few steps of every chain; see `LatentInference.e_step`."""
        latent, posterior = state.latent, state.posterior
        assert latent is not None and posterior is not None, "the chains have not begun"
        scale = self.step_size * posterior.log_variance.exp()
        spread = (2.0 * scale).sqrt()
        shape = (self.steps, self.chains, latent.shape[-1])
        noise = clip_draws(state.power, state.mask, state.generators, shape) * spread
        draws = []
        for step in range(self.steps):
            variance, cost, nll, gradient = energy(state, latent, self.smoothness, self.prior_weight)
            draws.append((variance, cost, nll))
            latent = latent - (scale * gradient).clamp(-_LIMIT * spread, _LIMIT * spread) + noise[step]
        variance, cost, nll = draws[0] if self.steps == 1 else (torch.cat(values, dim=1) for values in zip(*draws))
        return replace(state, latent=latent, speech_variance=variance, prior_cost=cost, nll=nll)

    def present_speech(self, state: EmState) -> torch.Tensor:
        """That of z after the last step; where models compete, what they say together of z before it."""
        if state.models:
            return super().present_speech(state)

        def decoded(part: EmState) -> EmState:
            assert part.latent is not None, "there was no E-step"
            return replace(part, speech_variance=speech_variance(decode(part, part.latent)))

        variance = in_chunks(state, decoded, self.chunk_frames).speech_variance
        assert variance is not None
        return variance

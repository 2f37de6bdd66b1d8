"""Inference `langevin`: EM with draws of the latent variables by Langevin dynamics, several chains at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Gaussian, LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.inference.em.state import Fit
from avse.plugins import register

_LIMIT = 3.0  # of the drift, in deviations of the noise; reached only where the step is too large for the energy


@register("inference", "langevin")
class Langevin(LatentInference):
    """EM whose E-step follows the gradient of the log-posterior of z, with noise: z - e M dU + sqrt(2 e M) n.

        U(z) = sum_fn [ |x|^2 / Vx + log Vx ] - log p(z | v) + smoothness * sum_n |z_n - z_(n-1)|_1

    M is the variance of the encoder's posterior where the chains begin. It is fixed, so that what is drawn stays the
    same as with M = 1, which is published; but units that the sound determines to a hundredth and units that it leaves
    open move equally fast on their own scale.

    Every step of every chain is one pass through the decoder, forth and back, and the same pass gives the M-step its
    averages over chains.

    Arguments
    ---------
    prior : LatentPrior or SwitchingPrior
    noise_model : NoiseModel
    iterations : int
        At most so many.
    chains : int
        Draws of each clip that run side by side.
    steps : int
        Langevin steps in each iteration.
    step_size : float
        e above.
    smoothness : float
        Weight of the total variation of z over time.
    m_steps : int
        Updates of noise and gains in each iteration, all with the same draws of speech.
    warm_start : int
        Iterations of the encoder before the first.
    gain_prior : (float, float) or None
        Shape and rate of a Gamma prior of the gain of each step: (1, 1) is published, (1, 0) is flat, and larger ones
        with shape = rate + 1 hold the gain near one. None: the gain is one, and z alone tells the level.
    tolerance : float
        A clip stops when its objective changes by less, in nats per bin, in several iterations in a row; 0: never.
    chunk_seconds : float
        Longer clips are sampled in pieces of this length that share the noise model.
    seed : int
    gate : str
        Whether a prior that looks at video competes with itself without video, as the evidence of the noisy sound says:
        `none`, by `frame`, or once a `clip`. The outcome is the reliability returned.
    temperature : float
        By how much the evidence is flattened: 1 counts all bins of a step as one observation.

    Example
    -------
    >>> inference = Langevin(**Langevin.example_arguments())
    >>> from avse.conformance import example_batch
    >>> batch = example_batch((3200, 1600))
    >>> inference(batch).speech.shape
    torch.Size([2, 3200])
    """

    paper = "Sadeghi and Serizel, Fast and efficient speech enhancement with variational autoencoders, 2023"

    def __init__(
        self,
        prior: LatentPrior | SwitchingPrior,
        noise_model: NoiseModel,
        iterations: int = 100,
        chains: int = 4,
        steps: int = 1,
        step_size: float = 0.02,
        smoothness: float = 0.0,
        m_steps: int = 2,
        warm_start: int = 5,
        gain_prior: Sequence[float] | None = None,
        tolerance: float = 1e-5,
        chunk_seconds: float = 30.0,
        seed: int = 0,
        gate: str = "none",
        temperature: float = 1.0,
    ) -> None:
        common = (iterations, m_steps, warm_start, gain_prior, tolerance, chunk_seconds, seed, gate, temperature)
        super().__init__(prior, noise_model, *common)
        if chains < 1 or steps < 1:
            raise ValueError(f"chains and steps must be at least 1, got {chains} and {steps}.")
        if step_size <= 0 or smoothness < 0:
            raise ValueError(
                f"step_size must be above 0 and smoothness not negative, got {step_size} and {smoothness}."
            )
        self.chains, self.steps, self.step_size, self.smoothness = chains, steps, step_size, smoothness

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        prior = plugins.get("prior", "vae")
        noise_model = plugins.get("noise_model", "nmf")(rank=2)
        return {"prior": prior.example(), "noise_model": noise_model, "iterations": 3, "chains": 2}

    def begin(self, posterior: Gaussian, fit: Fit) -> dict[str, torch.Tensor]:
        """Draws from the encoder's posterior; shapes in `LatentInference.begin`."""
        draws = fit.normal(1, self.chains, posterior.mean.shape[-1])[0]
        scale = posterior.log_variance.exp()[:, None]
        return {"z": posterior.mean[:, None] + scale.sqrt() * draws, "scale": scale}

    def e_step(self, fit: Fit) -> None:
        """A few steps of every chain; shapes in `Fit`."""
        latent, scale = fit.latent["z"], self.step_size * fit.latent["scale"]
        spread = (2.0 * scale).sqrt()
        noise = fit.normal(self.steps, self.chains, latent.shape[-1]).mul_(spread)
        speech, costs, nlls = [], [], []
        for step in range(self.steps):
            variance, cost, nll, gradient = self.energy(fit, latent, self.smoothness)
            speech.append(variance)
            costs.append(cost)
            nlls.append(nll)
            latent = latent - (scale * gradient).clamp(-_LIMIT * spread, _LIMIT * spread) + noise[step]
        fit.latent |= {"z": latent, "speech": torch.cat(speech, dim=1)}
        fit.latent |= {"cost": torch.cat(costs, dim=1), "nll": torch.cat(nlls, dim=1)}

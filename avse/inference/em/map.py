"""Inference `map`: EM with the most probable latent variables, found by gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Gaussian, LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.inference.em.state import Fit
from avse.plugins import register

_FIRST, _SECOND = 0.8, 0.95  # decay of Adam's moments
_FASTER, _SLOWER = 1.1, 0.5  # the step size after a step was taken, and refused


@register("inference", "map")
class MAP(LatentInference):
    """EM whose E-step goes down the energy -log p(x, z) by Adam and never up: a step that would rise is not taken.

    Where the prior takes each step by itself, each step has a step size of its own that grows while the energy falls;
    otherwise each clip has one. The objective therefore falls in every iteration.

    Arguments
    ---------
    prior : LatentPrior or SwitchingPrior
    noise_model : NoiseModel
    iterations : int
        At most so many.
    steps : int
        Gradient steps in each iteration.
    step_size : float
        Of Adam, to begin with.
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
        Longer clips are processed in pieces of this length that share the noise model.
    seed : int
    gate : str
        Whether a prior that looks at video competes with itself without video, as the evidence of the noisy sound says:
        `none`, by `frame`, or once a `clip`. The outcome is the reliability returned.
    temperature : float
        By how much the evidence is flattened: 1 counts all bins of a step as one observation.

    Example
    -------
    >>> inference = MAP(**MAP.example_arguments())
    >>> from avse.conformance import example_batch
    >>> batch = example_batch((3200, 1600))
    >>> trace = inference(batch).trace
    >>> all(later <= earlier for earlier, later in zip(trace, trace[1:]))
    True
    """

    paper = "Sadeghi and Serizel, Fast and efficient speech enhancement with variational autoencoders, 2023"

    def __init__(
        self,
        prior: LatentPrior | SwitchingPrior,
        noise_model: NoiseModel,
        iterations: int = 100,
        steps: int = 2,
        step_size: float = 0.05,
        m_steps: int = 4,
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
        if steps < 1 or step_size <= 0:
            raise ValueError(f"steps must be at least 1 and step_size above 0, got {steps} and {step_size}.")
        self.steps, self.step_size = steps, step_size

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        prior = plugins.get("prior", "vae")
        noise_model = plugins.get("noise_model", "nmf")(rank=2)
        return {"prior": prior.example(), "noise_model": noise_model, "iterations": 3}

    def begin(self, posterior: Gaussian, fit: Fit) -> dict[str, torch.Tensor]:
        """The encoder's mean; shapes in `LatentInference.begin`."""
        latent = posterior.mean[:, None]
        zero = torch.zeros_like(latent)
        size = torch.full_like(latent[..., :1], self.step_size)
        return {"z": latent, "first": zero, "second": zero, "size": size, "alone": self.alone(fit, latent)}

    def e_step(self, fit: Fit) -> None:
        """A few steps down; shapes in `Fit`."""
        latent, first, second, size, alone = (fit.latent[n] for n in ("z", "first", "second", "size", "alone"))
        mask = fit.context.mask[:, None, :, None]
        speech, cost, nll, gradient = self.energy(fit, latent)
        for _ in range(self.steps):
            # Without Adam's correction for its start, which the step size makes up for.
            first = _FIRST * first + (1 - _FIRST) * gradient
            second = _SECOND * second + (1 - _SECOND) * gradient.square()
            proposal = latent - size * first / (second.sqrt() + 1e-8)
            tried = self.energy(fit, proposal)
            gained = (cost + nll - tried[1] - tried[2]) * mask
            taken = torch.where(alone, gained, gained.sum(dim=2, keepdim=True)) > 0
            size = torch.where(taken, size * _FASTER, size * _SLOWER)
            # After a refusal the old direction does not count any more: the next is the gradient's.
            first = torch.where(taken, first, torch.zeros_like(first))
            latent = torch.where(taken, proposal, latent)
            speech, cost, nll, gradient = (
                torch.where(taken, new, old) for new, old in zip(tried, (speech, cost, nll, gradient))
            )
        fit.latent |= {"z": latent, "first": first, "second": second, "size": size}
        fit.latent |= {"speech": speech, "cost": cost, "nll": nll}

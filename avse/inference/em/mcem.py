"""Inference `mcem`: Monte-Carlo EM with draws of the latent variables by Metropolis and Hastings."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Gaussian, LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.inference.em.state import Fit
from avse.plugins import register
from avse.signal.wiener import speech_variance

_TARGET, _RATE = 0.3, 0.1  # acceptance that proposals are scaled for while burning in, and how fast


@register("inference", "mcem")
class MCEM(LatentInference):
    """EM whose E-step proposes z + d n, n normal, and accepts by the ratio of the posterior densities.

    The variance of n is that of the encoder's posterior where the chains begin, unit by unit; one is published.

    Where the prior takes each step by itself, so does the acceptance. With a prior that looks over time, or a fusion
    that does, a clip is accepted as a whole: exact, but slow to move, and `langevin` is the better choice. While the
    chain burns in, d follows the share of accepted proposals; chains go on from iteration to iteration.

    Arguments
    ---------
    prior : LatentPrior or SwitchingPrior
    noise_model : NoiseModel
    iterations : int
        At most so many.
    draws : int
        Proposals in each iteration.
    burn_in : int
        How many of them the M-step does not see; 40 draws with a burn-in of 30 are published.
    chains : int
        Draws of each clip that run side by side.
    proposal_variance : float
        d^2 to begin with; 0.01 is published for n of variance one.
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
    >>> inference = MCEM(**MCEM.example_arguments())
    >>> from avse.conformance import example_batch
    >>> batch = example_batch((3200, 1600))
    >>> inference(batch).speech.shape
    torch.Size([2, 3200])
    """

    paper = "Sadeghi et al., Audio-visual speech enhancement using conditional variational auto-encoders, 2020"

    def __init__(
        self,
        prior: LatentPrior | SwitchingPrior,
        noise_model: NoiseModel,
        iterations: int = 100,
        draws: int = 5,
        burn_in: int = 3,
        chains: int = 1,
        proposal_variance: float = 0.1,
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
        if not 0 <= burn_in < draws or chains < 1:
            raise ValueError(
                f"burn_in must be in 0 ... draws - 1 and chains at least 1, got {burn_in}, {draws}, {chains}."
            )
        if proposal_variance <= 0:
            raise ValueError(f"proposal_variance must be above 0, got {proposal_variance}.")
        self.draws, self.burn_in, self.chains, self.proposal_variance = draws, burn_in, chains, proposal_variance

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        prior = plugins.get("prior", "vae")
        noise_model = plugins.get("noise_model", "nmf")(rank=2)
        return {"prior": prior.example(), "noise_model": noise_model, "iterations": 3, "draws": 3, "burn_in": 1}

    def begin(self, posterior: Gaussian, fit: Fit) -> dict[str, torch.Tensor]:
        """All chains at the encoder's mean; shapes in `LatentInference.begin`."""
        latent = posterior.mean[:, None].expand(-1, self.chains, -1, -1)
        return {
            "z": latent,
            "spread": (0.5 * posterior.log_variance).exp()[:, None],
            "scale": torch.full_like(latent[..., :1], self.proposal_variance**0.5),
            "alone": self.alone(fit, latent),
            "decoded": speech_variance(self.decode(fit, latent)),
        }

    def e_step(self, fit: Fit) -> None:
        """A few proposals in every chain; shapes in `Fit`."""
        latent, scale, alone, decoded = (fit.latent[name] for name in ("z", "scale", "alone", "decoded"))
        mask = fit.context.mask[:, None, :, None]
        moves = fit.normal(self.draws, self.chains, latent.shape[-1]).mul_(fit.latent["spread"])
        chance = fit.uniform(self.draws, self.chains, 1)
        chance = torch.where(alone, chance, chance[:, :, :, :1]).clamp_(min=1e-12).log_()
        cost = self.cost_of(fit, latent)
        energy = cost + fit.mixture(decoded).nll()[..., None]
        speech, costs, nlls = [], [], []
        for draw in range(self.draws):
            proposal = latent + scale * moves[draw]
            tried = speech_variance(self.decode(fit, proposal))
            new_cost = self.cost_of(fit, proposal)
            new_energy = new_cost + fit.mixture(tried).nll()[..., None]
            gained = (energy - new_energy) * mask
            taken = chance[draw] < torch.where(alone, gained, gained.sum(dim=2, keepdim=True))
            latent, decoded, cost, energy = (
                torch.where(taken, new, old)
                for new, old in ((proposal, latent), (tried, decoded), (new_cost, cost), (new_energy, energy))
            )
            if draw < self.burn_in:
                scale = scale * ((taken.to(scale) - _TARGET) * _RATE).exp()
            else:
                speech.append(decoded)
                costs.append(cost)
                nlls.append(energy - cost)
        fit.latent |= {"z": latent, "scale": scale, "decoded": decoded}
        fit.latent |= {"speech": torch.cat(speech, dim=1), "cost": torch.cat(costs, dim=1)}
        fit.latent["nll"] = torch.cat(nlls, dim=1)

"""Inference `mcem`: Monte-Carlo EM with draws of the latent variables by Metropolis and Hastings."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avse.contracts.latent_inference import Expectation, Fit, LatentInference
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Gaussian, LatentPrior
from avse.plugins import register
from avse.signal.mixture import Mixture

_TARGET, _RATE = 0.3, 0.1  # acceptance that proposals are scaled for while burning in, and how fast


@register("inference", "mcem")
class MCEM(LatentInference):
    """EM whose E-step proposes z + d n, n standard normal, and accepts by the ratio of the posterior densities.

    Where the prior takes each step by itself, so does the acceptance. With a prior that looks over time, or a fusion
    that does, a clip is accepted as a whole: exact, but slow to move, and `langevin` is the better choice. While the
    chain burns in, d follows the share of accepted proposals; chains go on from iteration to iteration.

    Arguments
    ---------
    prior : LatentPrior
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
        d^2 to begin with.
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

    Example
    -------
    >>> inference = MCEM(**MCEM.example_arguments())
    >>> from avse.contracts.checks import example_batch
    >>> batch = example_batch((3200, 1600))
    >>> inference(batch).speech.shape
    torch.Size([2, 3200])
    """

    paper = "Sadeghi et al., Audio-visual speech enhancement using conditional variational auto-encoders, 2020"

    def __init__(
        self,
        prior: LatentPrior,
        noise_model: NoiseModel,
        iterations: int = 100,
        draws: int = 10,
        burn_in: int = 5,
        chains: int = 1,
        proposal_variance: float = 0.01,
        warm_start: int = 5,
        gain_prior: Sequence[float] | None = None,
        tolerance: float = 1e-5,
        chunk_seconds: float = 30.0,
        seed: int = 0,
    ) -> None:
        super().__init__(prior, noise_model, iterations, warm_start, gain_prior, tolerance, chunk_seconds, seed)
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
        scale = torch.full_like(latent[..., :1], self.proposal_variance**0.5)
        return {"z": latent, "scale": scale, "alone": self.alone(fit, latent), "decoded": self.decode(fit, latent)}

    def e_step(self, fit: Fit) -> Expectation:
        """A few proposals in every chain; shapes in `Fit` and `Expectation`."""
        latent, scale, decoded = (fit.latent[name] for name in ("z", "scale", "decoded"))
        alone = fit.latent["alone"]
        moves = fit.normal(self.draws, self.chains, latent.shape[-1])
        chance = fit.uniform(self.draws, self.chains, 1)
        chance = torch.where(alone, chance, chance[:, :, :, :1]).clamp_(min=1e-12).log_()
        mixture = fit.mixture(decoded)
        energy = self._energy(fit, latent, mixture)
        found: list[Expectation] = []
        for draw in range(self.draws):
            proposal = latent + scale * moves[draw]
            new_decoded = self.decode(fit, proposal)
            new_mixture = fit.mixture(new_decoded)
            new_energy = self._energy(fit, proposal, new_mixture)
            gained = (energy - new_energy)[..., None]
            taken = chance[draw] < torch.where(alone, gained, gained.sum(dim=2, keepdim=True))
            latent, decoded = torch.where(taken, proposal, latent), torch.where(taken, new_decoded, decoded)
            mixture = Mixture(
                torch.where(taken, new_mixture.wiener, mixture.wiener),
                torch.where(taken, new_mixture.precision, mixture.precision),
                torch.where(taken, new_mixture.ratio, mixture.ratio),
            )
            energy = torch.where(taken[..., 0], new_energy, energy)
            if draw < self.burn_in:
                scale = scale * ((taken.to(scale) - _TARGET) * _RATE).exp()
            else:
                found.append(Expectation.of(mixture, energy))
        fit.latent = {"z": latent, "scale": scale, "alone": alone, "decoded": decoded}
        return Expectation.mean(found)

    def _energy(self, fit: Fit, latent: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """-log p(x, z) by step, shape (batch, chains, steps), zero beyond each clip's end."""
        energy = mixture.misfit() - self.prior_of(fit, latent).log_prob(latent)
        return energy * fit.context.inside[:, None]

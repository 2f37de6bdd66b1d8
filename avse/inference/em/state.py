"""What an inference with latent priors knows of its clips while it runs, and what its M-step is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from avse.contracts.prior import Context, Gaussian, LatentPrior
from avse.signal.markov import MarkovChain
from avse.signal.wiener import Mixture

LEAST_GAIN, LARGEST_GAIN = 1e-8, 1e8
Cut = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Fit:
    """What is known of the clips that still run; everything has the batch first.

    Arguments
    ---------
    prior : LatentPrior
        What speech looks like.
    power : tensor, shape (batch, frames, bins)
        |x|^2 of the noisy sound.
    context : Context
    gain : tensor, shape (batch, frames, 1)
        Of the speech variance; zero beyond each clip's end.
    variance : tensor, shape (batch, frames, bins)
        Of the noise.
    latent : dict of str to tensor, shape (batch, any, frames, any)
        What the E-step leaves behind. For the M-step: `speech` (batch, draws, frames, bins), draws of the variance of
        speech; and `cost` (batch, draws, frames, 1), what the prior adds to the objective. For the trust in the video:
        `z` (batch, chains, frames, latent_dim). If it is known, to save time: `nll` (batch, draws, frames, 1), the
        negative log-likelihood of these draws. And whatever else it carries from iteration to iteration.
    generators : list of torch.Generator
        One for each clip.
    states : list of Fit
        Where several models of the voice compete: a fit of each to the same sound, gains and noise.
    fallback : int or None
        Of such a state: which other one takes its place at steps where its context shows no mouth. None: it needs none.
    chain : MarkovChain or None
        How the states follow each other.
    rounds : int
        How many E-steps they have taken.
    idle : bool
        Of a state: no clip will choose it again.
    others : tensor, shape (batch, draws, frames, bins), or None
        Variance of all other voices in the sound together, draw by draw, where several voices are looked for.
    encoded : dict or None
        Of a state, while all states take a step: what encoders have made of the voice, for states that share them.
    """

    prior: LatentPrior
    power: torch.Tensor
    context: Context
    gain: torch.Tensor
    variance: torch.Tensor
    latent: dict[str, torch.Tensor]
    generators: list[torch.Generator]
    states: list[Fit] = field(default_factory=list)
    fallback: int | None = None
    chain: MarkovChain | None = None
    rounds: int = 0
    idle: bool = False
    others: torch.Tensor | None = None
    encoded: dict[tuple[int, int], Gaussian] | None = None
    _folded: dict[int, Context] = field(default_factory=dict)
    _prior: Gaussian | None = None

    def select(self, rows: torch.Tensor) -> Fit:
        """Some of the clips."""
        generators = [[one.generators[row] for row in rows.tolist()] for one in (self, *self.states)]
        fit = self._cut(lambda value: value[rows], lambda value: value[rows], generators)
        fit.chain = self.chain.select(rows) if self.chain is not None else None
        return fit

    def between(self, first: int, last: int) -> Fit:
        """Some of the steps, as views."""
        generators = [one.generators for one in (self, *self.states)]
        return self._cut(lambda value: value[:, first:last], lambda value: value[:, :, first:last], generators)

    def folded(self, chains: int) -> Context:
        """The context of `chains` draws of each clip, folded into the batch."""
        if chains not in self._folded:
            rows = torch.arange(len(self.power), device=self.power.device).repeat_interleave(chains)
            self._folded[chains] = self.context if chains == 1 else self.context.map(lambda value: value[rows])
        return self._folded[chains]

    def interference_plus_noise(self, draws: int = 1) -> torch.Tensor:
        """Variance of all that is not this voice, for so many draws of it: (batch, draws or 1, frames, bins).

        Draws of the voice and of the others are taken in pairs; where they do not match, others are averaged.
        """
        variance = self.variance[:, None]
        if self.others is None:
            return variance
        if draws % self.others.shape[1]:
            return variance + self.others.mean(dim=1, keepdim=True)
        return variance + self.others.repeat(1, draws // self.others.shape[1], 1, 1)

    def mixture(self, speech: torch.Tensor) -> Mixture:
        """Speech of some variance, shape (batch, draws, frames, bins), in all that is not this voice."""
        return Mixture.of(
            speech, self.gain[:, None], self.interference_plus_noise(speech.shape[1]), self.power[:, None]
        )

    def voice_power(self) -> torch.Tensor:
        """E |s|^2 under the posterior of speech, without the gain, for each draw: (batch, draws, frames, bins)."""
        speech = self.latent["speech"]
        mixture, noise = self.mixture(speech), self.interference_plus_noise(speech.shape[1])
        power, gain = self.power[:, None], self.gain[:, None]
        return mixture.wiener * (mixture.wiener * power + noise) / gain.clamp(min=LEAST_GAIN)

    def normal(self, draws: int, *shape: int) -> torch.Tensor:
        """Standard normal draws, shape (draws, batch, chains, frames, dim), for `shape` = (chains, dim).

        Each clip draws by itself, in its own length and in 32 bits, so that neither the batch nor the precision
        changes its draws; zero beyond its end.
        """
        return self._draw(torch.randn, draws, *shape)

    def uniform(self, draws: int, *shape: int) -> torch.Tensor:
        """Draws between 0 and 1; see `normal`."""
        return self._draw(torch.rand, draws, *shape)

    def _draw(self, random: Callable[..., torch.Tensor], draws: int, chains: int, dim: int) -> torch.Tensor:
        counts = self.context.mask.sum(dim=1).tolist()
        if len(counts) == 1 and counts[0] == self.power.shape[1]:
            return random(draws, 1, chains, counts[0], dim, generator=self.generators[0]).to(self.power)
        drawn = self.power.new_zeros(draws, len(counts), chains, self.power.shape[1], dim)
        for row, (count, generator) in enumerate(zip(counts, self.generators)):
            drawn[:, row, :, :count] = random(draws, chains, count, dim, generator=generator).to(drawn)
        return drawn

    def _cut(self, cut: Cut, cut_latent: Cut, generators: list[list[torch.Generator]]) -> Fit:
        # States that share a context go on sharing it.
        distinct = {id(one.context): one.context for one in (self, *self.states)}
        contexts = {name: context.map(cut) for name, context in distinct.items()}
        fit = Fit(
            self.prior,
            *[cut(self.power), contexts[id(self.context)], cut(self.gain), cut(self.variance)],
            {name: cut_latent(value) for name, value in self.latent.items()},
            generators[0],
            fallback=self.fallback,
            chain=self.chain,
            rounds=self.rounds,
            others=None if self.others is None else cut_latent(self.others),
        )
        for state, own in zip(self.states, generators[1:]):
            latent = {name: cut_latent(value) for name, value in state.latent.items()}
            fit.states.append(fit.state(state.prior, contexts[id(state.context)], latent, own, state.fallback))
            fit.states[-1].idle = state.idle
        return fit

    def state(
        self,
        prior: LatentPrior,
        context: Context,
        latent: dict[str, torch.Tensor],
        generators: list[torch.Generator],
        fallback: int | None,
    ) -> Fit:
        """A fit of another model of the voice to the same sound, gains and noise; arguments as of `Fit`."""
        shared = (self.gain, self.variance, latent, generators)
        return Fit(prior, self.power, context, *shared, fallback=fallback, others=self.others)


@dataclass
class SufficientStatistics:
    """What the M-step needs to know: means over draws of speech.

    Arguments
    ---------
    wiener : tensor, shape (batch, frames, bins)
        Share of speech, by which the noisy spectrum is multiplied.
    numerator, denominator : tensor, shape (batch, frames, bins)
        The two parts of the objective's derivative with respect to the noise variance: see `NoiseModel`.
    gain_numerator, gain_denominator : tensor, shape (batch, frames, 1)
        The same with respect to the gain, times the gain.
    nll : tensor, shape (batch, frames)
        The objective at each step: negative log-likelihood summed over bins, and what the prior adds.
    """

    wiener: torch.Tensor
    numerator: torch.Tensor
    denominator: torch.Tensor
    gain_numerator: torch.Tensor
    gain_denominator: torch.Tensor
    nll: torch.Tensor

    @classmethod
    def of(cls, fit: Fit) -> SufficientStatistics:
        """Over the draws that an E-step left in `fit.latent`."""
        mixture = fit.mixture(fit.latent["speech"])
        share = mixture.wiener.sum(dim=-1, keepdim=True)
        over = share - mixture.gradient().sum(dim=-1, keepdim=True)
        nll = mixture.nll() + fit.latent["cost"][..., 0]
        draws = (mixture.wiener, mixture.ratio * mixture.precision, mixture.precision, over, share, nll)
        return cls(*[one[:, 0] if one.shape[1] == 1 else one.mean(dim=1) for one in draws])

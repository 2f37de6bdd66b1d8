"""Separation: the voices of all who talk in one sound, found together.

Whoever enhances can separate, by one idea for each family:

- an inference with latent priors looks for one voice after the other and takes all others, as they are known at this
  moment, as part of the noise. These steps together draw from the posterior of all latent variables (block Gibbs), so
  that each inference serves as it is:

      x = sum_j sqrt(g_j) s_j + n,   s_j ~ N_c(0, exp(prior_j.decode(z_j))),   n ~ N_c(0, V)

- any other system, trained to enhance, is asked once with the mouth of each; all rows of a mixture stand side by side
  in one `Batch` (`Batch.mixture`), so that a network may look at all of them.

Who is who is told by the videos. The rest is the mixture less all voices, so that they add up.
"""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from avse.contracts import system as systems
from avse.contracts.prior import SwitchingPrior
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.errors import AvseError
from avse.inference.em.driver import LatentInference
from avse.inference.em.run import Run, gain_cost, no_gradient
from avse.inference.em.state import Fit, SufficientStatistics
from avse.signal.random import clip_generators
from avse.signal.stft import length_mask
from avse.signal.wiener import speech_variance


def separate(system: nn.Module, batch: Batch) -> Estimate:
    """Find the voices of all speakers of mixtures with any system that enhances.

    Arguments
    ---------
    system : module
        An inference or an enhancer.
    batch : Batch
        With several `sources`. `speakers` names those whom a prior knows by name (`speaker_vae`).

    Returns
    -------
    Estimate
        With an axis `sources`.

    Raises
    ------
    AvseError
        If the system cannot do it.
    """
    if isinstance(system, LatentInference):
        return Separation(system)(batch)
    if any(batch.speakers):
        raise AvseError(
            f"{type(system).__name__} knows no speakers by name; that takes a model with the prior speaker_vae."
        )
    return systems.run(system, batch)


_STREAMS = 7_919  # between the random numbers of two voices


class Separation:
    """The voices of a mixture by an inference with latent priors.

    In each iteration every voice has an E-step of its own, in the noise and among all others with the same draws; then
    noise and gains are updated from the one gradient that all voices give together.

    Chance belongs to the voice, and voices are taken in an order that their mouths decide: another order of the videos
    gives the same voices in that order, bit for bit.

    Arguments
    ---------
    inference : LatentInference
        Its settings serve all voices; a gate or a switching prior chooses for each by itself.
    noise_share : float
        Power of the noise before anything is heard, relative to the mixture's. Noise that begins as loud as the mixture
        takes voices for itself, and gives none back.

    Raises
    ------
    AvseError
        If the prior does not know such a voice.

    Example
    -------
    >>> from avse.inference.em.vem import VEM
    >>> from avse.conformance import example_batch
    >>> batch = example_batch((3200, 1600))
    >>> both = Batch.of_speakers([batch, batch.without_video()])
    >>> Separation(VEM(**VEM.example_arguments()))(both).speech.shape
    torch.Size([2, 2, 3200])
    """

    def __init__(
        self,
        inference: LatentInference,
        noise_share: float = 0.01,
    ) -> None:
        self.inference, self.noise_share = inference, noise_share
        self.inferences: list[LatentInference] = []

    def __call__(self, batch: Batch, seconds: float | None = None) -> Estimate:
        """Iterate to the end, or until the time is up.

        Arguments
        ---------
        batch : Batch
            With several `sources`. Where `speakers` are named, the prior must know them, and they are the same in all
            mixtures.
        seconds : float, optional
            Stop after the first iteration that ends later than this.

        Returns
        -------
        Estimate
            With an axis `sources`.
        """
        begun = time.perf_counter()
        talkers = self._prepare(batch)
        for runs in self._iterations(talkers):
            latest = runs
            if seconds is not None and time.perf_counter() - begun > seconds:
                break
        return self._estimate(latest, talkers)

    def iterate(self, batch: Batch) -> Iterator[Estimate]:
        """One `Estimate` after each iteration, each usable as it is; see `__call__`."""
        talkers = self._prepare(batch)
        for runs in self._iterations(talkers):
            yield self._estimate(runs, talkers)

    def _prepare(self, batch: Batch) -> list[Batch]:
        """A batch for each place among the speakers of a mixture; and the inference of each, where they are named."""
        count = batch.sources
        names = batch.speakers[:count]
        if batch.speakers != names * (len(batch) // count):
            raise AvseError("The speakers named must be the same in all mixtures of a batch.")
        self.inferences = [self._of_voice(name) for name in names] if any(names) else []
        return [batch.select(range(place, len(batch), count)) for place in range(count)]

    def _of_voice(self, voice: str) -> LatentInference:
        """The inference with the prior of one voice."""
        if not voice:
            return self.inference
        prior = self.inference.prior
        if not hasattr(prior, "of"):
            raise AvseError(
                f"{type(prior).__name__} knows no speakers by name, so {voice!r} cannot be asked for; that takes a "
                "model with the prior speaker_vae."
            )
        try:
            of_voice = prior.of(voice)
        except ValueError as error:
            raise AvseError(str(error)) from error
        noise_model = self.inference.noise_model  # remains the same object
        return copy.deepcopy(self.inference, {id(prior): of_voice, id(noise_model): noise_model})

    def _iterations(self, talkers: Sequence[Batch]) -> Iterator[list[Run]]:
        count, inference = len(talkers), self.inference
        inferences = self.inferences or [inference] * count
        # Named voices have priors of their own and stay where they are.
        self._order = torch.arange(count).expand(len(talkers[0]), -1) if self.inferences else _order(talkers)
        talkers = _sorted(talkers, self._order)
        device = talkers[0].noisy.device.type
        with no_gradient(device):
            runs = [one.start(batch) for one, batch in zip(inferences, talkers)]
            for run in runs:
                run.state = inference.noise_model.initial_state(self.noise_share * run.fit.power, run.fit.context.mask)
                run.fit.variance = inference.noise_model.variance(run.state)
            for place, (one, run) in enumerate(zip(inferences, runs)):
                seed = inference.seed + _STREAMS * place
                for fit in (run.fit, *run.fit.states):
                    fit.generators = clip_generators(fit.context.mask, seed)
                _imagine(one, run.fit)
            for _ in range(inference.warm_start):
                for place, one in enumerate(inferences):
                    _surround(runs, [run.fit.latent["speech"] for run in runs], [place])
                    one.expect(runs[place].fit, one.encode_step)
                self._m_steps(inferences, runs)
            heard = [run.fit.latent["speech"] for run in runs]
            _surround(runs, heard)
            for one, run in zip(inferences, runs):
                one.begin_all(run.fit)
        for _ in range(inference.iterations):
            with no_gradient(device):
                for place, one in enumerate(inferences):
                    _surround(runs, heard, [place])
                    one.expect(runs[place].fit, one.e_step)
                    heard[place] = _voice(one, runs[place].fit)
                for run, found in zip(runs, self._m_steps(inferences, runs)):
                    run.note(found, inference.gain_prior)
                    run.change = runs[0].change  # the same but for rounding, and all must stop at once
                    going = run.drop_stopped(inference.tolerance)
                heard = [one[going] for one in heard]
            yield runs
            if not len(going):
                return

    def _m_steps(self, inferences: Sequence[LatentInference], runs: Sequence[Run]) -> list[SufficientStatistics]:
        """Update noise and gains; gives the expectation of each voice before the last update, with one objective."""
        first = runs[0]
        mask = first.fit.context.mask[..., None]
        for _ in range(self.inference.m_steps):
            _surround(runs, [run.fit.latent["speech"] for run in runs])
            found = [one.in_chunks(run.fit, SufficientStatistics.of) for one, run in zip(inferences, runs)]
            found = self._with_all_costs(runs, found)
            noise = self.inference.noise_model
            state = noise.update(first.state, found[0].numerator * mask, found[0].denominator * mask)
            variance = noise.variance(state)
            for one, run, of_one in zip(inferences, runs, found):
                run.state, run.fit.variance = state, variance
                one.update_gain(run.fit, of_one)
        return found

    def _with_all_costs(self, runs: Sequence[Run], found: list[SufficientStatistics]) -> list[SufficientStatistics]:
        """The objective of each with what the priors of all others add, so that all have that of the whole."""
        costs = [run.fit.latent["cost"][..., 0].mean(dim=1) for run in runs]
        if self.inference.gain_prior is not None:
            gains = [gain_cost(run.fit.gain, *self.inference.gain_prior) for run in runs]
        else:
            gains = [torch.zeros_like(cost) for cost in costs]
        likelihood, added = found[0].nll - costs[0], sum(costs) + sum(gains)
        return [replace(one, nll=likelihood + added - gain) for one, gain in zip(found, gains)]

    def _estimate(self, runs: Sequence[Run], talkers: Sequence[Batch]) -> Estimate:
        prior, batch = self.inference.prior, talkers[0]
        with no_gradient(batch.noisy.device.type):
            estimates = [run.estimate(prior, one) for run, one in zip(runs, _sorted(talkers, self._order))]
            back = self._order.argsort(dim=1).to(batch.noisy.device)
            noisy = batch.noisy * length_mask(batch.lengths, batch.noisy.shape[1])
            speech = torch.stack([one.speech for one in estimates], dim=1)
            separated = Estimate(
                speech,
                noisy - speech.sum(dim=1),
                torch.stack([one.reliability for one in estimates], dim=1),
                batch.lengths,
                list(runs[0].trace),
                **self._states(runs, batch),
            )
            for name in ("speech", "reliability", "responsibility"):
                value = getattr(separated, name)
                if value is not None:
                    index = back.reshape(*back.shape, *[1] * (value.ndim - 2)).expand_as(value)
                    setattr(separated, name, value.gather(1, index))
            return separated

    def _states(self, runs: Sequence[Run], batch: Batch) -> dict:
        prior = self.inference.prior
        if not isinstance(prior, SwitchingPrior) or self.inferences or not runs[0].shares.shape[1]:
            return {}
        frames, ratio = batch.valid.shape[1], SAMPLES_PER_FRAME // prior.hop
        shares = torch.stack([run.shares for run in runs], dim=1)
        missing = max(0, frames * ratio - shares.shape[3])
        shares = nn.functional.pad(shares, (0, missing))[..., : frames * ratio].unflatten(3, (frames, ratio))
        names = getattr(prior, "names", None) or [str(state) for state in range(len(prior.components))]
        return {"responsibility": shares.mean(dim=4).mT, "states": tuple(names)}


def _order(talkers: Sequence[Batch]) -> torch.Tensor:
    """In which order to take the talkers of each clip, shape (batch, talkers), as their mouths decide."""
    orders = []
    for row in range(len(talkers[0])):
        marks = []
        for one in talkers:
            seen = one.valid[row].cpu()
            mouth = one.mouth[row].cpu()[seen].contiguous().numpy()
            # Talkers without video come last.
            marks.append((not bool(seen.any()), zlib.crc32(mouth.tobytes()), zlib.crc32(seen.numpy().tobytes())))
        orders.append(sorted(range(len(talkers)), key=marks.__getitem__))
    return torch.tensor(orders)


def _sorted(talkers: Sequence[Batch], order: torch.Tensor) -> list[Batch]:
    """The talkers of each clip in its order."""
    if bool((order == torch.arange(len(talkers))).all()):
        return list(talkers)
    frames = max(one.mouth.shape[1] for one in talkers)
    if any(one.mouth.shape[1] != frames for one in talkers):
        raise ValueError("all talkers must have as many frames.")
    rows = torch.arange(len(order))
    return [
        replace(
            talkers[0],
            mouth=torch.stack([talkers[int(order[row, place])].mouth[row] for row in rows]),
            valid=torch.stack([talkers[int(order[row, place])].valid[row] for row in rows]),
        )
        for place in range(len(talkers))
    ]


def _imagine(inference: LatentInference, fit: Fit) -> None:
    """The voice before anything is heard: that of the mean of p(z | v); without a video, of a draw from it.

    Talkers would begin alike otherwise, and nothing would ever tell them apart.
    """

    def imagine(part: Fit) -> None:
        models = [one for one in part.states if one.fallback is None or one.context.video is not None] or [part]
        unseen = ~torch.stack([one.context.valid for one in models]).any(dim=0)[:, None, :, None]
        drawn = part.normal(1, 1, models[0].prior.latent_dim)[0] * unseen
        speech = []
        for one in models:
            before = inference.prior_of(one, torch.zeros_like(drawn))
            latent = before.mean + (0.5 * before.log_variance).exp() * drawn
            speech.append(speech_variance(inference.decode(one, latent)))
        part.latent = {"speech": torch.stack(speech).mean(dim=0), "cost": torch.zeros_like(speech[0][..., :1])}

    inference.in_chunks(fit, imagine)
    for state in fit.states:
        state.latent = {}


def _voice(inference: LatentInference, fit: Fit) -> torch.Tensor:
    """Variance of the voice where an E-step left each chain, without the gain; (batch, chains, frames, bins).

    Where models compete, it is what they said together in the last E-step.
    """
    running = next((one for one in fit.states if not one.idle and "z" in one.latent), fit)
    chains = running.latent["z"].shape[1]
    if fit.states:
        return fit.latent["speech"][:, -chains:]
    if "decoded" in fit.latent:
        return fit.latent["decoded"]

    def decode(part: Fit) -> None:
        part.latent["decoded"] = speech_variance(inference.decode(part, part.latent["z"]))

    inference.in_chunks(fit, decode)
    return fit.latent.pop("decoded")


def _surround(runs: Sequence[Run], voices: Sequence[torch.Tensor], places: Sequence[int] | None = None) -> None:
    """Tell each of some fits what all others are heard at."""
    if len(runs) == 1:
        return
    heard = [run.fit.gain[:, None] * voice for run, voice in zip(runs, voices)]
    for place in range(len(runs)) if places is None else places:
        others = [one for other, one in enumerate(heard) if other != place]
        runs[place].fit.others = sum(others[1:], others[0])

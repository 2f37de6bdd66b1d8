"""Models of the voice that compete step by step: which of them explains the sound, and what they say together.

The models are the components of a switching prior, or one prior with and without its video (the evidence gate). With
states a_n that follow a Markov chain, and one posterior of speech q(s) for all of them,

    log B_n(k) = how well state k explains step n
    q(a)       = forward-backward on B^(1 / temperature)
    q(s)       : 1 / gamma = sum_k q(a_n = k) / sigma_k, the precision of speech averaged over the states

All that follows sees speech of variance gamma, as if there were one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from avse.contracts.prior import Context, Gaussian, LatentPrior, SwitchingPrior
from avse.contracts.types import Batch
from avse.inference.em.state import Fit
from avse.signal.markov import MarkovChain, sticky

GATES = ("none", "frame", "clip")
_STAY = 0.95  # of the evidence gate, from step to step
_DECIDED = 0.999  # of the share of a model
_ROUNDS, _EVERY = 10, 3  # so many choices in a row, and from then on fewer; one for a whole clip can now be final


@dataclass
class Model:
    """One of the models of the voice that compete.

    Arguments
    ---------
    prior : LatentPrior
    context : Context
    fallback : int or None
        Which other model takes its place at steps where its context shows no mouth.
    """

    prior: LatentPrior
    context: Context
    fallback: int | None = None

    @property
    def runs(self) -> bool:
        """False where no clip shows a mouth to a model that another can stand in for."""
        return self.fallback is None or self.context.video is not None


def models_of(prior: LatentPrior | SwitchingPrior, batch: Batch, gate: str = "none") -> list[Model]:
    """The models that compete for a batch, by state; one where there is no choice.

    Arguments
    ---------
    prior : LatentPrior or SwitchingPrior
    batch : Batch
    gate : str
        Of `GATES`: whether a latent prior competes with itself without video.
    """
    if isinstance(prior, SwitchingPrior):
        contexts = prior.contexts(batch)
        fallbacks = prior.fallbacks or [None] * len(prior.components)
        models = [Model(*each) for each in zip(prior.components, contexts, fallbacks, strict=True)]
    else:
        context = prior.context(batch)
        models = [Model(prior, context)]
        if gate != "none":
            models = [Model(prior, context.without_video()), Model(prior, context, fallback=0)]
    running = [model for model in models if model.runs]
    return running if len(running) == 1 else models


def chain_of(prior: LatentPrior | SwitchingPrior, models: Sequence[Model], gate: str) -> MarkovChain:
    """How the models follow each other in each clip, before anything is heard."""
    mask = models[0].context.mask
    if isinstance(prior, SwitchingPrior):
        return _chain(*prior.switch_of([model.context for model in models]), gate, mask)
    return gate_chain(gate, mask)


def gate_chain(gate: str, mask: torch.Tensor) -> MarkovChain:
    """How a prior without its video and the same with it follow each other in each clip, before anything is heard.

    Arguments
    ---------
    gate : str
        Of `GATES`.
    mask : tensor, shape (batch, frames), bool
    """
    return _chain(torch.full((2,), 0.5).log(), sticky(2, _STAY).log(), gate, mask)


def check_gate(gate: str) -> None:
    """Refuse what is none of `GATES` with a ValueError."""
    if gate not in GATES:
        raise ValueError(f"gate must be one of {', '.join(GATES)}, got {gate!r}.")


def for_each(fit: Fit, step: Callable[[Fit], None]) -> None:
    """Take a step with each model, on what is known of gains, noise and voice."""
    voice = None
    encoded: dict[tuple[int, int], Gaussian] = {}
    for state in _running(fit):
        state.encoded = encoded
        state.gain, state.variance, state.others = fit.gain, fit.variance, fit.others
        if voice is not None and not state.prior.encodes_noisy:
            state.latent["voice"] = voice  # as the first model found it
        elif "speech" in fit.latent:
            state.latent["speech"] = fit.latent["speech"]
        before = state.latent.get("voice")
        step(state)
        after = state.latent.get("voice")
        if after is not before:
            voice = after


def note_evidence(fit: Fit, evidence: Callable[[Fit, Fit], torch.Tensor]) -> None:
    """Leave log B in `fit.latent["evidence"]`, shape (batch, states, frames, 1).

    Where a model sees no mouth there is no evidence for or against it: it has that of its stand-in.
    """
    found = {id(state): evidence(fit, state) for state in _running(fit)}
    told = []
    for state in fit.states:
        own = found.get(id(state))
        if state.fallback is not None:
            other = found[id(fit.states[state.fallback])]
            own = other if own is None else torch.where(state.context.valid, own, other)
        told.append(own)
    fit.latent["evidence"] = torch.stack(told, dim=1)[..., None]


def due(fit: Fit) -> bool:
    """Whether it is time for a new choice; counts the times it is asked."""
    fit.rounds += 1
    early = fit.rounds <= _ROUNDS or fit.rounds % _EVERY == 0
    return early and not any(state.idle for state in fit.states)


def choose(fit: Fit, temperature: float, weight: float | None, memory: bool, once: bool) -> None:
    """Forward-backward over whole clips, and learning of the chain.

    Leaves in `fit.latent` the `share` of each model, shape (batch, states, frames, 1), in which a model that sees no
    mouth has given its own to its stand-in; and `choice`, shape (batch, 1, frames, 1), what the choice adds to the
    objective.

    Arguments
    ---------
    fit : Fit
        With `evidence`.
    temperature : float
        By which the evidence is divided.
    weight, memory :
        See `MarkovChain.learned`. None: the chain stays as it is.
    once : bool
        Whether the chain never moves. Then a clear choice is final after a while, and models that no clip chose rest.
    """
    mask = fit.context.mask
    evidence = fit.latent["evidence"][..., 0].mT / temperature
    found = fit.chain.infer(evidence, mask)
    if once and fit.rounds > _ROUNDS:
        fit.chain = fit.chain.settled(found.states[:, 0], _DECIDED)
        found = fit.chain.infer(evidence, mask)
    if weight is not None:
        fit.chain = fit.chain.learned(found, mask, weight, memory)
    share = list(found.states.unbind(dim=2))
    several = torch.zeros_like(mask, dtype=torch.int64)
    for index, state in enumerate(fit.states):
        if state.fallback is not None:
            seen = state.context.valid
            share[state.fallback] = share[state.fallback] + torch.where(seen, 0.0, share[index])
            share[index] = torch.where(seen, share[index], 0.0)
            several += seen
        else:
            several += mask
    # A share of all is exactly one: a clip without video is what it would be alone, bit for bit.
    shares = torch.stack(share, dim=1)
    fit.latent["share"] = (shares / shares.sum(dim=1, keepdim=True))[..., None].to(fit.power)
    if once and bool((fit.chain.initial == 0).any(dim=1).all()):
        for state, own in zip(fit.states, share):
            state.idle = not bool(own.any())
    chosen = (several > 1).any(dim=1, keepdim=True)
    fit.latent["choice"] = (temperature * torch.where(chosen, found.cost, 0.0))[:, None, :, None].to(fit.power)


def combine(fit: Fit) -> None:
    """Leave `speech` and `cost` of all models together in `fit.latent`, draw by draw; shapes in `Fit`."""
    share = {id(state): fit.latent["share"][:, [index]] for index, state in enumerate(fit.states)}
    first, *others = _running(fit)
    speech = first.latent.pop("speech")
    precision, cost = share[id(first)], fit.latent["choice"] + share[id(first)] * first.latent["cost"]
    # -E log p(s | a) beyond that of speech of variance gamma; where one model has nearly all, there is none.
    clip, step = (fit.latent["share"].amax(dim=1)[..., 0] < _DECIDED).nonzero(as_tuple=True)
    excess = speech.new_zeros(len(clip), speech.shape[1])
    for state in others:
        own = share[id(state)]
        ratio = speech / state.latent.pop("speech")  # so that the first model alone passes bit for bit
        precision = torch.addcmul(precision, own, ratio)
        cost = cost + own * state.latent["cost"]
        excess -= own[clip, 0, step] * ratio[clip, :, step].log().sum(dim=-1)
    excess += precision.expand_as(speech)[clip, :, step].log().sum(dim=-1)
    cost = cost.expand(*speech.shape[:3], 1).clone()
    cost[clip, :, step, 0] += excess
    fit.latent.pop("voice", None)  # where it began; from now on it follows from the speech
    fit.latent |= {"speech": speech / precision, "cost": cost}


def trust(fit: Fit) -> torch.Tensor:
    """How far the video is trusted, shape (batch, frames); zero where no mouth is seen.

    Where models compete, that is the posterior of those that look at it; else what the prior says.
    """
    if not fit.states:
        if fit.context.video is None:
            return fit.power.new_zeros(fit.power.shape[:2])
        return fit.prior.reliability(fit.latent["z"].mean(dim=1), fit.context)
    share = fit.latent["share"][..., 0]
    looking = [
        share[:, index] * state.context.valid
        for index, state in enumerate(fit.states)
        if state.context.video is not None
    ]
    return torch.stack([torch.zeros_like(share[:, 0]), *looking]).sum(dim=0).clamp(max=1.0)


def _chain(initial: torch.Tensor, transition: torch.Tensor, gate: str, mask: torch.Tensor) -> MarkovChain:
    if gate == "clip":
        transition = torch.eye(initial.shape[-1]).log()
    return MarkovChain.of(initial.to(mask.device), transition.to(mask.device), len(mask))


def _running(fit: Fit) -> Iterator[Fit]:
    return (one for one in fit.states if not one.idle and (one.fallback is None or one.context.video is not None))

"""Model selection: models of speech that compete frame by frame, and what they say of speech together.

The models are the components of a switching prior, or one prior with and without its video (the evidence gate). With
states a_n that follow a Markov chain, and one posterior of speech q(s) for all of them,

    log B_n(k) = evidence of model k at frame n
    q(a)       = forward-backward on B^(1 / temperature)
    q(s)       : 1 / gamma = sum_k q(a_n = k) / sigma_k, the precision of speech averaged over the models

The M-step takes gamma for the variance of speech, as if there were one model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from avse.inference.em.state import EmState
from avse.signal.markov import MarkovChain, sticky

GATES = ("none", "frame")
_STAY = 0.95  # of the evidence gate, from frame to frame
_DECIDED = 0.999  # responsibility from which the other models count for nothing
_ROUNDS, _EVERY = 10, 3  # the choice is made in each of so many E-steps, and later in every third


def check_gate(gate: str) -> None:
    """Refuse what is none of `GATES` with a ValueError."""
    if gate == "clip":
        raise ValueError("gate `clip`, one choice for a whole clip, is no longer there: use `frame`.")
    if gate not in GATES:
        raise ValueError(f"gate must be one of {', '.join(GATES)}, got {gate!r}.")


def gate_chain(mask: torch.Tensor) -> MarkovChain:
    """How a prior without its video and the same prior with it follow each other, before the audio is known."""
    initial, transition = torch.full((2,), 0.5).log(), sticky(2, _STAY).log()
    return MarkovChain.of(initial.to(mask.device), transition.to(mask.device), len(mask))


def with_evidence(state: EmState, evidence: Callable[[EmState, EmState], torch.Tensor]) -> EmState:
    """Leave `evidence` of all models, by a function such as `LatentInference.evidence`.

    Where a model sees no mouth, it has the evidence of its fallback.
    """
    computed = [evidence(state, each) if each.model.runs else None for each in state.models]
    values = []
    for each, value in zip(state.models, computed):
        if each.model.fallback is not None:
            other = computed[each.model.fallback]
            assert other is not None, "a fallback has no fallback"
            value = other if value is None else torch.where(each.model.context.valid, value, other)
        values.append(value)
    return replace(state, evidence=torch.stack(values, dim=1)[..., None])  # type: ignore[arg-type]


def is_due(rounds: int) -> bool:
    """Whether the choice is made in the E-step of this number, counted from one."""
    return rounds <= _ROUNDS or rounds % _EVERY == 0


def select_model(state: EmState, temperature: float, weight: float | None) -> EmState:
    """Forward-backward over whole clips, and learning of the chain. Leaves `responsibility`, `chain_cost` and `chain`.

    A model that sees no mouth at a frame gives its responsibility to its fallback. The evidence is divided by
    `temperature`. For `weight` see `MarkovChain.learned`; None: the chain stays as it is.
    """
    assert state.chain is not None and state.evidence is not None, "no models compete"
    mask, chain = state.mask, state.chain
    occupancy = chain.infer(state.evidence[..., 0].mT / temperature, mask)
    if weight is not None:
        chain = chain.learned(occupancy, mask, weight)
    posterior = list(occupancy.states.unbind(dim=2))
    choices = torch.zeros_like(mask, dtype=torch.int64)
    for index, each in enumerate(state.models):
        fallback, valid = each.model.fallback, each.model.context.valid
        if fallback is not None:
            posterior[fallback] = posterior[fallback] + torch.where(valid, 0.0, posterior[index])
            posterior[index] = torch.where(valid, posterior[index], 0.0)
        choices += mask if fallback is None else valid
    # A responsibility for everything is exactly one: a clip without video is what it would be alone, bit for bit.
    responsibility = torch.stack(posterior, dim=1)
    responsibility = (responsibility / responsibility.sum(dim=1, keepdim=True))[..., None].to(state.power)
    chosen = (choices > 1).any(dim=1, keepdim=True)
    chain_cost = (temperature * torch.where(chosen, occupancy.cost, 0.0))[:, None, :, None].to(state.power)
    return replace(state, chain=chain, responsibility=responsibility, chain_cost=chain_cost)


def combine(state: EmState) -> EmState:
    """Leave `speech_variance` and `prior_cost` of all models together, draw by draw."""
    assert state.responsibility is not None and state.chain_cost is not None, "no model was selected"
    weights = state.responsibility.split(1, dim=1)
    (weight, first), *others = [(w, each) for w, each in zip(weights, state.models) if each.model.runs]
    variance = first.speech_variance
    assert variance is not None and first.prior_cost is not None, "there was no E-step"
    precision, cost = weight, state.chain_cost + weight * first.prior_cost
    # -E log p(s | a) beyond that of speech of variance gamma; where one model has nearly all, there is none.
    clip, frame = (state.responsibility.amax(dim=1)[..., 0] < _DECIDED).nonzero(as_tuple=True)
    excess = variance.new_zeros(len(clip), variance.shape[1])
    for weight, each in others:
        assert each.speech_variance is not None and each.prior_cost is not None, "there was no E-step"
        ratio = variance / each.speech_variance  # so that the first model alone passes bit for bit
        precision = torch.addcmul(precision, weight, ratio)
        cost = cost + weight * each.prior_cost
        excess = excess - weight[clip, 0, frame] * ratio[clip, :, frame].log().sum(dim=-1)
    excess = excess + precision.expand_as(variance)[clip, :, frame].log().sum(dim=-1)
    cost = cost.expand(*variance.shape[:3], 1).clone()
    cost[clip, :, frame, 0] += excess
    models = tuple(replace(each, speech_variance=None) for each in state.models)
    return replace(state, speech_variance=variance / precision, prior_cost=cost, models=models)

"""A hidden Markov chain over frames: forward-backward in log space on batches of clips, and learning of moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import torch

_FEW = 6  # states up to which all frames at once are faster than one after the other
_NEVER = -1e9  # the logarithm of nothing, with which sums and gradients stay finite in 64 bits


@dataclass
class Occupancy:
    """Posterior of a chain given what was observed, in 64 bits.

    Arguments
    ---------
    states : tensor, shape (batch, frames, states)
        q(a_n = k); the last state's is repeated beyond each clip's end.
    moves : tensor, shape (batch, frames, states, states)
        q(a_(n-1) = j, a_n = k); zero at the first frame and beyond each clip's end.
    cost : tensor, shape (batch, frames)
        What each frame adds to the divergence of the posterior from the chain; zero beyond each clip's end.
    log_evidence : tensor, shape (batch,)
        Logarithm of the sum over all paths: what was observed, less the divergence.
    """

    states: torch.Tensor
    moves: torch.Tensor
    cost: torch.Tensor
    log_evidence: torch.Tensor


@dataclass
class MarkovChain:
    """p(a_1) and p(a_n | a_(n-1)), one for each clip.

    Arguments
    ---------
    initial : tensor, shape (batch, states)
        Log-probabilities of the first state.
    transition : tensor, shape (batch, states, states)
        Log-probabilities of the next (column) given the last (row).
    memory : bool
        False: a state does not depend on the last, and all rows of the transition are the same.
    prior : MarkovChain or None
        The chain that this one was learned from, before anything was observed. None: this one is the prior.

    Example
    -------
    >>> chain = MarkovChain.of(torch.tensor([0.5, 0.5]).log(), sticky(2, 0.9).log(), batch=1)
    >>> evidence = torch.tensor([[[0.0, -2.0], [-1.0, -1.0], [0.0, -2.0]]])
    >>> found = chain.infer(evidence, torch.ones(1, 3, dtype=torch.bool))
    >>> [round(value, 2) for value in found.states[0, :, 0].tolist()]
    [0.96, 0.94, 0.96]
    """

    initial: torch.Tensor
    transition: torch.Tensor
    memory: bool = True
    prior: MarkovChain | None = None

    @classmethod
    def of(cls, initial: torch.Tensor, transition: torch.Tensor, batch: int, memory: bool = True) -> MarkovChain:
        """For each of `batch` clips log-probabilities of shape (states,) and (states, states), or a batch of these."""
        states = initial.shape[-1]
        initial, transition = (table.double().clamp(min=_NEVER) for table in (initial, transition))
        return cls(initial.expand(batch, states), transition.expand(batch, states, states), memory)

    def select(self, rows: torch.Tensor) -> MarkovChain:
        """Those of some of the clips."""
        prior = None if self.prior is None else self.prior.select(rows)
        return replace(self, initial=self.initial[rows], transition=self.transition[rows], prior=prior)

    def infer(self, evidence: torch.Tensor, mask: torch.Tensor) -> Occupancy:
        """Forward-backward.

        Sums over paths are products of matrices with (log-sum-exp, +) in place of (+, *). As these are associative,
        those of few states are built by doubling: a clip of N frames takes log2(N) operations on all frames at once.

        Arguments
        ---------
        evidence : tensor, shape (batch, frames, states)
            log p(observation | state), up to a constant for each frame.
        mask : tensor, shape (batch, frames), bool
            False beyond each clip's end.
        """
        states = evidence.shape[2]
        observed = torch.where(mask[..., None], evidence.double(), 0.0)
        stay = torch.full_like(self.transition, _NEVER)
        stay.diagonal(dim1=1, dim2=2).zero_()
        first = self.initial[:, None, None].expand(-1, 1, states, -1)
        moves = torch.where(mask[:, 1:, None, None], self.transition[:, None], stay[:, None])
        steps = torch.cat([first, moves], dim=1) + observed[:, :, None]
        forward, backward = _messages_at_once(steps) if states <= _FEW else _messages_in_turn(steps)
        total = forward[:, -1].logsumexp(dim=1)
        log_states = (forward + backward).log_softmax(dim=2)
        pairs = forward[:, :-1, :, None] + steps[:, 1:] + backward[:, 1:, None] - total[:, None, None, None]
        pairs = torch.where(mask[:, 1:, None, None], pairs, _NEVER)
        # Of each frame given the last: log q(a_n | a_(n-1)) - log p(a_n | a_(n-1)) = B_n + backward_n - backward_(n-1).
        ahead = (observed + backward)[:, 1:, None] - backward[:, :-1, :, None]
        begun = log_states[:, 0] - self.initial
        cost = torch.cat(
            [(log_states[:, 0].exp() * begun).sum(dim=1, keepdim=True), (pairs.exp() * ahead).sum(dim=(2, 3))], dim=1
        )
        occupied = torch.cat([torch.zeros_like(steps[:, :1]), pairs.exp()], dim=1)
        return Occupancy(log_states.exp(), occupied, cost, total)

    def learned(self, occupancy: Occupancy, mask: torch.Tensor, weight: float) -> MarkovChain:
        """The most probable chain given an occupancy, under a Dirichlet prior around `prior` (this chain, if None).

            p(k | j) = (sum_n q(a_(n-1) = j, a_n = k) + weight * p_prior(k | j)) / (the same, summed over k)

        However often a chain is learned, the pseudo-counts are those of the same prior.

        Arguments
        ---------
        occupancy : Occupancy
        mask : tensor, shape (batch, frames), bool
        weight : float
            The prior counts like so many moves from each state (above 0).
        """
        prior = self.prior or self
        if self.memory:
            initial = occupancy.states[:, 0] + weight * prior.initial.exp()
            transition = occupancy.moves.sum(dim=1) + weight * prior.transition.exp()
        else:
            initial = (occupancy.states * mask[..., None]).sum(dim=1) + weight * prior.initial.exp()
            transition = initial[:, None].expand_as(self.transition)
        tables = [table / table.sum(dim=-1, keepdim=True) for table in (initial, transition)]
        return replace(self, initial=_log(tables[0]), transition=_log(tables[1]), prior=prior)


def sticky(states: int, stay: float) -> torch.Tensor:
    """Probabilities of a transition that stays with probability `stay`, else goes anywhere else.

    >>> [round(value, 2) for value in sticky(3, 0.9)[0].tolist()]
    [0.9, 0.05, 0.05]
    """
    if states == 1:
        return torch.ones(1, 1)
    leave = (1.0 - stay) / (states - 1)
    return torch.full((states, states), leave) + (stay - leave) * torch.eye(states)


def _log(probability: torch.Tensor) -> torch.Tensor:
    return probability.log().clamp(min=_NEVER)


def _messages_at_once(steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-sums over all paths to each state of each step, and from it to the end; both (batch, frames, states)."""
    # The products of all later steps, by turning time round: (A B)^T = B^T A^T.
    earlier, later = _products(torch.cat([steps, steps.flip(1).mT])).chunk(2)
    forward = earlier[:, :, 0]
    return forward, torch.cat([later[:, :-1].flip(1).logsumexp(dim=2), torch.zeros_like(forward[:, :1])], dim=1)


def _messages_in_turn(steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, one step after the other."""
    forward, backward = [steps[:, 0, 0]], [torch.zeros_like(steps[:, 0, 0])]
    for step in steps.unbind(dim=1)[1:]:
        forward.append((forward[-1][:, :, None] + step).logsumexp(dim=1))
    for step in reversed(steps.unbind(dim=1)[1:]):
        backward.append((step + backward[-1][:, None]).logsumexp(dim=2))
    return torch.stack(forward, dim=1), torch.stack(backward[::-1], dim=1)


def _products(steps: torch.Tensor) -> torch.Tensor:
    """Product of each step's matrix with all before it, shape (batch, frames, states, states)."""
    reach = 1
    while reach < steps.shape[1]:
        before, after = steps[:, :-reach], steps[:, reach:]
        # There are few states: a few operations on all steps are faster than one general log-sum-exp.
        through = [before[..., [k]] + after[..., [k], :] for k in range(steps.shape[3])]
        steps = torch.cat([steps[:, :reach], reduce(torch.logaddexp, through)], dim=1)
        reach *= 2
    return steps

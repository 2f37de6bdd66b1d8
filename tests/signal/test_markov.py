"""The hidden Markov chain against sums over all paths, and what it learns against counts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from avse.signal.markov import MarkovChain, sticky

STATES = 3


def _tables(seed: int, states: int = STATES) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    initial = torch.randn(states, generator=draw, dtype=torch.float64).log_softmax(0)
    return initial, torch.randn(states, states, generator=draw, dtype=torch.float64).log_softmax(1)


def _enumerated(evidence: np.ndarray, initial: np.ndarray, transition: np.ndarray) -> tuple:
    """Posteriors of states and moves, divergence and evidence, path by path."""
    steps, count = evidence.shape
    weights, priors, paths = [], [], list(itertools.product(range(count), repeat=steps))
    for path in paths:
        prior = initial[path[0]] + sum(transition[one, two] for one, two in zip(path, path[1:]))
        priors.append(prior)
        weights.append(prior + sum(evidence[n, state] for n, state in enumerate(path)))
    total = np.logaddexp.reduce(weights)
    states, moves, divergence = np.zeros((steps, count)), np.zeros((steps, count, count)), 0.0
    for path, weight, prior in zip(paths, weights, priors):
        share = np.exp(weight - total)
        divergence += share * (weight - total - prior)
        for n, state in enumerate(path):
            states[n, state] += share
            if n:
                moves[n, path[n - 1], state] += share
    return states, moves, divergence, total


@pytest.mark.parametrize(("count", "lengths"), [(STATES, (6, 1, 4)), (8, (3, 1, 2))])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_forward_backward_against_all_paths(scale: float, count: int, lengths: tuple[int, ...]) -> None:
    initial, transition = _tables(0, count)
    draw = torch.Generator().manual_seed(1)
    evidence = scale * torch.randn(3, lengths[0], count, generator=draw, dtype=torch.float64)
    mask = torch.arange(lengths[0]) < torch.tensor(lengths)[:, None]
    found = MarkovChain.of(initial, transition, batch=3).infer(evidence, mask)
    for row, length in enumerate(lengths):
        told = evidence[row, :length].numpy()
        states, moves, divergence, total = _enumerated(told, initial.numpy(), transition.numpy())
        np.testing.assert_allclose(found.states[row, :length], states, atol=1e-12)
        np.testing.assert_allclose(found.moves[row, :length], moves, atol=1e-12)
        assert float(found.cost[row].sum()) == pytest.approx(divergence, abs=1e-9)
        assert float(found.log_evidence[row]) == pytest.approx(total, abs=1e-9)
        assert not bool(found.moves[row, length:].any()) and not bool(found.cost[row, length:].any())


def test_a_chain_that_never_moves_decides_for_the_whole_clip() -> None:
    evidence = torch.randn(1, 700, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    chain = MarkovChain.of(torch.full((2,), 0.5).log(), torch.eye(2).log(), batch=1)
    found = chain.infer(evidence, torch.ones(1, 700, dtype=torch.bool))
    expected = evidence.sum(dim=1).softmax(dim=1).expand(700, 2)
    torch.testing.assert_close(found.states[0], expected)
    assert not bool(found.moves[..., 0, 1].any())


@pytest.mark.parametrize("memory", [True, False])
def test_what_is_learned_against_counts(memory: bool) -> None:
    initial, transition = _tables(2)
    chain = MarkovChain.of(initial, transition, batch=1)
    evidence = torch.randn(1, 8, STATES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mask = torch.arange(8)[None] < 6
    pi, tau = initial.exp().numpy(), transition.exp().numpy()
    learned, expected = replace(chain, memory=memory), (pi, tau)
    for _ in range(5):  # the pseudo-counts stay those of the tables before anything was observed
        learned = learned.select(torch.tensor([0])).learned(learned.infer(evidence, mask), mask, weight=2.0)
        states, moves, _, _ = _enumerated(evidence[0, :6].numpy(), *map(np.log, expected))
        if memory:
            expected = (states[0] + 2 * pi) / 3, np.zeros((STATES, STATES))
            for j, k in itertools.product(range(STATES), repeat=2):
                expected[1][j, k] = (moves[:, j, k].sum() + 2 * tau[j, k]) / (moves[:, j].sum() + 2)
        else:
            shares = (states.sum(axis=0) + 2 * pi) / 8
            expected = shares, np.tile(shares, (STATES, 1))
        np.testing.assert_allclose(learned.initial[0].exp(), expected[0], atol=1e-12)
        np.testing.assert_allclose(learned.transition[0].exp(), expected[1], atol=1e-12)


def test_a_state_that_evidence_never_favours_is_left_at_the_rate_of_the_prior() -> None:
    mask = torch.ones(1, 500, dtype=torch.bool)
    evidence = torch.tensor([-1.0, 0.0]).expand(1, 500, 2)
    chain = MarkovChain.of(torch.full((2,), 0.5).log(), sticky(2, 0.95).log(), batch=1)
    for _ in range(30):
        chain = chain.learned(chain.infer(evidence, mask), mask, weight=2.0)
    # Fixed point of (m + 2 * .95) / (m + n + 2), m and n: moves that stay and leave.
    counts = chain.infer(evidence, mask).moves[0].sum(dim=0)
    expected = (counts[0, 0] + 1.9) / (counts[0].sum() + 2)
    assert float(chain.transition[0, 0, 0].exp()) == pytest.approx(float(expected), rel=1e-3)
    assert float(expected) > 0.4


def test_learning_finds_the_chain_that_states_were_drawn_from() -> None:
    truth = np.array([[0.95, 0.05], [0.2, 0.8]])
    draw, states = np.random.default_rng(0), [0]
    for _ in range(1999):
        states.append(int(draw.random() < truth[states[-1], 1]))
    levels = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    heard = levels[states] + torch.from_numpy(draw.standard_normal((2000, 1)))
    evidence = (-0.5 * (heard - levels.T).square())[None]
    mask = torch.ones(1, 2000, dtype=torch.bool)
    chain = MarkovChain.of(torch.full((2,), 0.5).log(), sticky(2, 0.5).log(), batch=1)
    gained = []
    for _ in range(15):
        found = chain.infer(evidence, mask)
        gained.append(float(found.log_evidence))
        chain = chain.learned(found, mask, weight=1e-6)
    assert np.all(np.diff(gained) > -1e-9)  # as an EM does
    np.testing.assert_allclose(chain.transition[0].exp(), truth, atol=0.06)
    assert float((found.states[0].argmax(dim=1) == torch.tensor(states)).double().mean()) > 0.9

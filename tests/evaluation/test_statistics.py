"""Bootstrap and paired tests against other ways to reach the same numbers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from avse.evaluation.statistics import (
    bootstrap_means,
    calibration,
    expected_calibration_error,
    roc_auc,
    wilcoxon_p,
)


def test_intervals_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, 60)
    [mine] = bootstrap_means(values[:, None], seed=1)
    other = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=2).confidence_interval
    width = other.high - other.low
    assert mine.mean == pytest.approx(values.mean()) and mine.n == 60
    assert (mine.low, mine.high) == pytest.approx((other.low, other.high), abs=0.05 * width)
    assert bootstrap_means(values[:, None], seed=1) == [mine]


def test_targets_are_drawn_with_all_their_mixtures() -> None:
    """Scores that repeat within a target say no more than its mean does."""
    means = np.random.default_rng(3).normal(0.0, 2.0, 40)
    alone = bootstrap_means(means[:, None])
    repeated = bootstrap_means(np.repeat(means, 6)[:, None], np.repeat([f"t{i}" for i in range(40)], 6))
    naive = bootstrap_means(np.repeat(means, 6)[:, None])
    assert (repeated[0].low, repeated[0].high) == pytest.approx((alone[0].low, alone[0].high), abs=0.1)
    assert naive[0].high - naive[0].low < 0.5 * (repeated[0].high - repeated[0].low)


def test_missing_scores_leave_the_others_alone() -> None:
    values = np.array([[1.0, np.nan], [2.0, np.nan], [6.0, 5.0]])
    first, second = bootstrap_means(values)
    assert (first.mean, first.n) == (3.0, 3) and first.low >= 1.0 and first.high <= 6.0
    assert (second.mean, second.low, second.high, second.n) == (5.0, None, None, 1)
    [none] = bootstrap_means(np.zeros((0, 1)))
    assert (none.mean, none.n) == (None, 0)


def test_one_target_has_no_interval() -> None:
    [one] = bootstrap_means(np.array([[1.0], [2.0]]), ["a", "a"])
    assert (one.mean, one.low, one.high, one.n) == (1.5, None, None, 2)


def test_wilcoxon_by_counting_all_signs() -> None:
    differences = np.array([0.3, -1.1, 2.0, 2.7, 3.1, -0.2, 4.4])
    ranks = stats.rankdata(np.abs(differences))
    middle = ranks.sum() / 2
    seen = abs(ranks[differences > 0].sum() - middle)
    sums = [sum(r for r, up in zip(ranks, signs) if up) for signs in product((0, 1), repeat=len(ranks))]
    expected = np.mean([abs(one - middle) >= seen - 1e-9 for one in sums])
    assert wilcoxon_p(differences) == pytest.approx(expected)
    assert wilcoxon_p(np.append(differences, np.nan)) == pytest.approx(expected)
    assert wilcoxon_p(np.array([1.0])) is None


@pytest.mark.parametrize("seed", range(4))
def test_auc_and_calibration_error_against_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    higher, lower = np.round(rng.beta(3, 2, 90), 2), np.round(rng.beta(2, 3, 70), 2)  # with ties
    won = sum((a > b) + 0.5 * (a == b) for a in higher.tolist() for b in lower.tolist())
    assert roc_auc(higher, lower) == pytest.approx(won / (90 * 70), abs=1e-12)
    assert roc_auc(lower, higher) == pytest.approx(1 - won / (90 * 70), abs=1e-12)
    said, true = [*higher.tolist(), *lower.tolist(), 0.0, 1.0], [1.0] * 90 + [0.0] * 70 + [1.0, 0.0]
    error = 0.0
    for low in range(10):
        mask = [at for at, value in enumerate(said) if low <= value * 10 < low + 1 or (low == 9 and value == 1.0)]
        if mask:
            means = [math.fsum(values[at] for at in mask) / len(mask) for values in (said, true)]
            error += len(mask) / len(said) * abs(means[0] - means[1])
    bins = calibration(np.array(said), np.array(true))
    assert expected_calibration_error(bins) == pytest.approx(error, abs=1e-12)
    assert sum(count for _, _, count in bins) == 162


def test_auc_and_calibration_error_at_their_ends() -> None:
    none = np.zeros(0)
    assert roc_auc(none, np.ones(2)) is None and roc_auc(np.ones(2), none) is None
    assert roc_auc(np.ones(3), np.zeros(2)) == 1.0 and roc_auc(np.ones(3), np.ones(2)) == 0.5
    assert calibration(none, none) == [] and expected_calibration_error([]) is None
    assert expected_calibration_error(calibration(np.array([0.0, 1.0]), np.array([1, 0]))) == 1.0
    coin = np.random.default_rng(0).random(40_000)
    assert expected_calibration_error(calibration(coin, np.random.default_rng(1).random(40_000) < coin)) < 0.01

"""Bootstrap intervals, paired tests, and how well a number in [0, 1] tells right from wrong.

Mixtures of one speaker are not independent, so the bootstrap draws speakers, with all their mixtures, instead of
mixtures; where only one speaker is known, it draws clean utterances.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
_CHUNK = 500


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Arguments
    ---------
    mean, low, high : float or None
        None where there are no values; `low` and `high` also where there is only one target.
    n : int
        Values that went in.
    groups : int
        Speakers (or clean utterances) that they are of.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    groups: int = 0


def drawn(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the bootstrap draws of rows with `speaker` and `target`: speakers; targets where fewer than two are known.

    >>> drawn([{"speaker": "a", "target": "1"}, {"speaker": "b", "target": "2"}])
    ['a', 'b']
    """
    speakers = [row.get("speaker") or row["target"] for row in rows]
    return speakers if len(set(speakers)) > 1 else [row["target"] for row in rows]


def bootstrap_means(
    values: np.ndarray,
    targets: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[Interval]:
    """Means and percentile bootstrap intervals of several scores of the same utterances.

    Arguments
    ---------
    values : array, shape (utterances, scores)
        NaN where an utterance has no score.
    targets : sequence, shape (utterances,), optional
        What is drawn with replacement, with all its utterances: see `drawn`. Default: each utterance by itself.
    level : float
        Coverage of the interval.

    Returns
    -------
    list of Interval
        One for each score.

    Example
    -------
    >>> [interval] = bootstrap_means(np.array([[1.0], [2.0], [3.0], [np.nan]]))
    >>> interval.mean, interval.n, 1.0 <= interval.low < 2.0 < interval.high <= 3.0
    (2.0, 3, True)
    """
    values = np.asarray(values, dtype=np.float64)
    present = np.isfinite(values)
    owner = np.arange(len(values)) if targets is None else np.unique(np.asarray(targets), return_inverse=True)[1]
    groups = int(owner.max(initial=-1)) + 1
    sums, counts = np.zeros((groups, values.shape[1])), np.zeros((groups, values.shape[1]))
    np.add.at(sums, owner, np.where(present, values, 0.0))
    np.add.at(counts, owner, present)
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples if groups > 1 else 0, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means.append((weights @ sums) / (weights @ counts))
    intervals = []
    for column in range(values.shape[1]):
        n = int(present[:, column].sum())
        if not n:
            intervals.append(Interval(None, None, None, 0))
            continue
        mean, size = float(values[present[:, column], column].mean()), int((counts[:, column] > 0).sum())
        if size < 2:
            intervals.append(Interval(mean, None, None, n, size))
            continue
        draws = np.concatenate([chunk[:, column] for chunk in means])
        low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
        intervals.append(Interval(mean, float(low), float(high), n, size))
    return intervals


def wilcoxon_p(differences: np.ndarray) -> float | None:
    """Two-sided p of the Wilcoxon signed-rank test that paired differences, shape (values,), are symmetric about zero.

    NaN is left out, zeros count as in Pratt's method. 1.0 where all are zero; None with fewer than two of them.

    Example
    -------
    >>> wilcoxon_p(np.zeros(8)), wilcoxon_p(np.arange(1.0, 21.0)) < 1e-4
    (1.0, True)
    """
    from scipy.stats import wilcoxon

    differences = np.asarray(differences, dtype=np.float64)
    differences = differences[np.isfinite(differences)]
    if len(differences) < 2:
        return None
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences, zero_method="pratt").pvalue)


def roc_auc(higher: np.ndarray, lower: np.ndarray) -> float | None:
    """Area under the ROC curve: the chance that a value of `higher` exceeds one of `lower`, ties counting half.

    Arrays have shape (values,). None where one of them is empty.

    Example
    -------
    >>> roc_auc(np.array([0.9, 0.5]), np.array([0.1, 0.5]))
    0.875
    """
    if not len(higher) or not len(lower):
        return None
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(lower)))


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> list[tuple[float, float, int]]:
    """How often what was said with some confidence is true, in bins of equal width over [0, 1].

    Arguments
    ---------
    confidence : array, shape (values,), in [0, 1]
    correct : array, shape (values,), bool

    Returns
    -------
    list of (float, float, int)
        Mean confidence, share correct, and number of values of each bin that is not empty.

    Example
    -------
    >>> calibration(np.array([0.25, 0.35, 0.95]), np.array([True, False, True]), bins=2)
    [(0.3, 0.5, 2), (0.95, 1.0, 1)]
    """
    place = np.clip((np.asarray(confidence) * bins).astype(int), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    said, true = (np.bincount(place, weights=one, minlength=bins) for one in (confidence, correct))
    return [(float(said[i] / counts[i]), float(true[i] / counts[i]), int(counts[i])) for i in np.flatnonzero(counts)]


def expected_calibration_error(bins: Sequence[tuple[float, float, int]]) -> float | None:
    """Mean distance between confidence and share correct, bins weighed by their values; None without any.

    Paper: Guo et al., On calibration of modern neural networks, ICML 2017.

    Example
    -------
    >>> round(expected_calibration_error([(0.3, 0.5, 2), (0.95, 1.0, 1)]), 3)
    0.15
    """
    total = sum(count for _, _, count in bins)
    return sum(abs(said - true) * count for said, true, count in bins) / total if total else None

"""Samples that are no audio: far above full scale, and far above the audio around them. One would silence the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

REPLACED = "samples far above full scale, and above the audio around them, were replaced by silence"
BLOCK_SECONDS = 0.5  # of audio around that decides
_BEYOND = 10.0  # relative to full scale
_RATIO = 100.0  # to what a tenth of the samples around exceeds


def without_outliers(blocks: Iterable[np.ndarray], told: Callable[[], object]) -> Iterator[np.ndarray]:
    """Blocks of audio in which outliers are silence, each seen beside the blocks before and after it.

    A sample is an outlier where its magnitude exceeds both 10 times full scale and 100 times the quantile 0.9 of the
    magnitudes of one of the three blocks. Audio that is loud for longer than a tenth of a block stays.

    Arguments
    ---------
    blocks : iterable of array, each of shape (..., samples)
        Of `BLOCK_SECONDS` each, or less.
    told : callable
        Called for each block that has any, before it is given.

    Example
    -------
    >>> quiet = np.full(20, 0.1)
    >>> click = np.where(np.arange(20) == 3, 1e6, quiet)
    >>> [float(block.max()) for block in without_outliers([quiet, click, 1e6 * quiet], lambda: print("outliers"))]
    [0.1, 1000000.0, 100000.0]
    >>> [float(block.max()) for block in without_outliers([quiet, click, quiet], lambda: print("outliers"))]
    outliers
    [0.1, 0.1, 0.1]
    """
    iterator = iter(blocks)
    before, block = np.zeros(0), next(iterator, None)
    while block is not None:
        after = next(iterator, None)
        outliers = find_outliers(block, before, *([] if after is None else [after]))
        if outliers is not None:
            told()
        yield block if outliers is None else np.where(outliers, block.dtype.type(0), block)
        before, block = block, after


def find_outliers(block: np.ndarray, *around: np.ndarray) -> np.ndarray | None:
    """Where a block has outliers, by itself and the audio around it; None: nowhere."""
    size = np.abs(block)
    if not size.size or not _BEYOND < size.max() < np.inf:
        return None
    level = max(float(np.quantile(np.abs(part), 0.9)) for part in (block, *around) if part.size)
    outliers: np.ndarray = size > max(_BEYOND, _RATIO * level)
    return outliers if outliers.any() else None

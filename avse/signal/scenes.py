"""Descriptions of the noise as vectors: several as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def combined(scenes: Sequence[torch.Tensor], negative: Sequence[torch.Tensor] = ()) -> torch.Tensor:
    """One vector of length one: the mean of what describes the noise, less the mean of what the noise is not.

    Arguments
    ---------
    scenes, negative : sequence of tensors, shape (..., dim)
        Of length one.

    Returns
    -------
    tensor, shape (..., dim)
        Zeros, which say nothing, where the two cancel.

    Raises
    ------
    ValueError
        If there is none of either.

    Example
    -------
    >>> east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> combined([east], [north])
    tensor([ 0.7071, -0.7071])
    """
    means = [torch.stack(list(part)).mean(dim=0) for part in (scenes, negative) if part]
    if not means:
        raise ValueError("there is nothing that describes the noise.")
    if len(means) == 2:
        return F.normalize(means[0] - means[1], dim=-1)
    return F.normalize(means[0] if scenes else -means[0], dim=-1)

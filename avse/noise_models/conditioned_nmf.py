"""Noise model `conditioned_nmf`: `prior_nmf` that may be told what the noise is."""

from __future__ import annotations

from avse.noise_models.described import DescribedNoise
from avse.plugins import register


@register("noise_model", "conditioned_nmf")
class ConditionedNMF(DescribedNoise):
    """`prior_nmf` that may be told what the noise is.

    Example
    -------
    >>> import torch
    >>> model = ConditionedNMF(rank=2)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> sorted(model.initial_state(power, mask, torch.eye(128)[:1]))
    ['gains', 'spectra', 'trust']
    """

    paper = "Liu et al., Separate anything you describe, 2023 (a description as a condition of separation)"

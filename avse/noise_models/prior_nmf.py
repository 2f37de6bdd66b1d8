"""Noise model `prior_nmf`: `nmf` that begins at what a network expects, and learns where speech is absent."""

from __future__ import annotations

from avse.noise_models.expected import ExpectedNoise
from avse.plugins import register


@register("noise_model", "prior_nmf")
class PriorNMF(ExpectedNoise):
    """Non-negative matrix factorisation, V = gains x spectra, that takes less of the speech for noise than `nmf` does.

    Where the fit begins, how it learns, its weights, arguments and state: see `ExpectedNoise`.

    Example
    -------
    >>> import torch
    >>> model = PriorNMF(rank=2)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> model.variance(model.initial_state(power, mask)).shape
    torch.Size([1, 30, 9])
    """

    paper = "Cohen, Noise spectrum estimation in adverse environments: improved minima controlled averaging, 2003"

"""Noise model `nmf`: a few spectra and their gains at each frame, both learned on the clip."""

from __future__ import annotations

from avse.noise_models.factorised import FactorisedNoise
from avse.plugins import register


@register("noise_model", "nmf")
class NMF(FactorisedNoise):
    """Non-negative matrix factorisation: V = gains x spectra, fitted to the clip by multiplicative updates.

    The fit begins at the clip's mean spectrum, in random variations. Arguments and state: see `FactorisedNoise`.

    Example
    -------
    >>> import torch
    >>> model = NMF(rank=2)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> state = model.initial_state(power, mask)
    >>> for _ in range(10):
    ...     state = model.update_from_power(state, power, mask)
    >>> model.variance(state).shape
    torch.Size([1, 30, 9])
    """

    paper = "Févotte, Bertin and Durrieu, Nonnegative matrix factorization with the Itakura-Saito divergence, 2009"

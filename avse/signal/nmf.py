"""Non-negative matrix factorisation under the Itakura-Saito divergence, on batches of clips."""

from __future__ import annotations

from typing import TypeAlias

import torch

Exponent: TypeAlias = float | torch.Tensor  # a number, or a learned one as a tensor without axes

_TINY = 1e-20  # keeps ratios and their gradients finite where nothing was observed
_FLOOR = 1e-12
_LEAST_BASE = 1e-30  # of a power whose exponent is learned, for its logarithm
_LEAST = 1e-10  # of the factors and the variance in `alternate`


def multiply(
    gains: torch.Tensor,
    spectra: torch.Tensor,
    numerator: torch.Tensor,
    denominator: torch.Tensor,
    exponent: Exponent = 0.5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One multiplicative update of both factors of the variance `gains @ spectra`.

    With `exponent` one half both factors minimise, one after the other, one and the same majorant of the objective that
    `numerator` and `denominator` are the gradient of. It therefore never rises, although the gradient is taken once:
    the spectra are weighted by `gains^2 / updated gains` in their numerator and by the updated gains in their
    denominator. Other summands of the variance (the speech) may be updated from the same gradient.

    Arguments
    ---------
    gains : tensor, shape (batch, frames, rank)
    spectra : tensor, shape (batch, rank, bins)
    numerator, denominator : tensor, shape (batch, frames, bins)
        The two parts of the gradient, as in `NoiseModel.update`. Where both are zero, nothing was observed.
    exponent : float
        Of the ratio of the two. One half is safe; one is faster, and mostly falls too.

    Returns
    -------
    gains, spectra : tensor
        The spectra sum to one over bins; the gains hold their level.

    Example
    -------
    >>> power = torch.rand(1, 20, 9)
    >>> gains, spectra = torch.rand(1, 20, 2), torch.rand(1, 2, 9)
    >>> def nll():
    ...     variance = gains @ spectra
    ...     return (power / variance + variance.log()).sum()
    >>> before = nll()
    >>> variance = gains @ spectra
    >>> gains, spectra = multiply(gains, spectra, power / variance.square(), 1 / variance)
    >>> bool(nll() < before)
    True
    """
    ratio = update_ratio(numerator @ spectra.mT, denominator @ spectra.mT, exponent)
    updated = (gains * ratio).clamp(min=_FLOOR)
    weights = gains / ratio
    spectra = spectra * update_ratio(weights.mT @ numerator, updated.mT @ denominator, exponent)
    return normalise(updated, spectra.clamp(min=_FLOOR))


def alternate(
    gains: torch.Tensor, spectra: torch.Tensor, power: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One multiplicative update of exponent one: of the spectra, then of the gains under the variance with new spectra.

    It is that of the published diffusion samplers. It mostly lowers the objective, faster than `multiply` does.

    Arguments
    ---------
    gains : tensor, shape (batch, frames, rank)
    spectra : tensor, shape (batch, rank, bins)
    power : tensor, shape (batch, frames, bins)
        E |n|^2 of the noise, which the variance `gains @ spectra` is fitted to.
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end.

    Returns
    -------
    gains, spectra : tensor
        The spectra sum to one over bins; the gains hold their level.

    Example
    -------
    >>> power, mask = torch.rand(1, 20, 9), torch.ones(1, 20, dtype=torch.bool)
    >>> gains, spectra = alternate(torch.rand(1, 20, 2), torch.rand(1, 2, 9), power, mask)
    >>> gains.shape, spectra.shape
    (torch.Size([1, 20, 2]), torch.Size([1, 2, 9]))
    """

    def weights() -> tuple[torch.Tensor, torch.Tensor]:
        weight = mask[..., None] / (gains @ spectra).clamp(min=_LEAST)
        return power * weight.square(), weight

    numerator, denominator = weights()
    spectra = (spectra * update_ratio(gains.mT @ numerator, gains.mT @ denominator, 1.0)).clamp(min=_LEAST)
    numerator, denominator = weights()
    gains = (gains * update_ratio(numerator @ spectra.mT, denominator @ spectra.mT, 1.0)).clamp(min=_LEAST)
    return normalise(gains, spectra)


def update_ratio(numerator: torch.Tensor, denominator: torch.Tensor, exponent: Exponent = 0.5) -> torch.Tensor:
    """`(numerator / denominator) ** exponent`, one where both are zero.

    >>> update_ratio(torch.tensor([4.0, 0.0]), torch.tensor([1.0, 0.0])).tolist()
    [2.0, 1.0]
    """
    return power((numerator + _TINY) / (denominator + _TINY), exponent)


def power(base: torch.Tensor, exponent: Exponent) -> torch.Tensor:
    """`base ** exponent` of a base that is not negative, the same bit for bit whether the exponent is learned or not.

    >>> learned = torch.tensor(0.5, requires_grad=True)
    >>> power(torch.tensor(4.0), learned).backward()
    >>> learned.grad.item()  # 2 log 4
    2.7725887298583984
    """
    if not isinstance(exponent, torch.Tensor):
        return base.sqrt() if exponent == 0.5 else base.pow(exponent)
    held = exponent.item()
    fixed = power(base, held)
    if not exponent.requires_grad:
        return fixed
    return fixed * ((exponent - held) * base.clamp(min=_LEAST_BASE).log()).exp()


def normalise(gains: torch.Tensor, spectra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same product with spectra that sum to one over bins; shapes as in `multiply`."""
    level = spectra.sum(dim=-1)
    return gains * level[:, None], spectra / level[..., None]

"""Random numbers that belong to a clip: a generator for each, and draws in its own length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

_CHAINS = 7_919  # between the seeds of two chains of a clip


def clip_generators(mask: torch.Tensor, seed: int, chains: int = 1) -> list[torch.Generator]:
    """Random generators that depend on the seed and each clip's length alone, not on its batch.

    There are `chains` for each clip, side by side.
    """
    generators = []
    for frames in mask.sum(dim=1).tolist():
        for chain in range(chains):
            generator = torch.Generator()
            generator.manual_seed(((seed + _CHAINS * chain) * 1_000_003 + int(frames)) % 2**63)
            generators.append(generator)
    return generators


def complex_noise(like: torch.Tensor, mask: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
    """Complex white noise of variance one in the shape of `like`, (batch, frames, bins).

    It is drawn for each clip by its own generator and in its own length; beyond the clip's end it is zero.
    """
    noise = like.new_zeros(like.shape)
    for row, (generator, frames) in enumerate(zip(generators, mask.sum(dim=1).tolist())):
        drawn = torch.randn(frames, like.shape[2], 2, generator=generator) * 0.5**0.5
        noise[row, :frames] = torch.view_as_complex(drawn).to(like)
    return noise


def clip_draws(
    like: torch.Tensor,
    mask: torch.Tensor,
    generators: Sequence[torch.Generator],
    shape: tuple[int, int, int],
    random: Callable[..., torch.Tensor] = torch.randn,
) -> torch.Tensor:
    """Random numbers for chains of each clip, drawn for each clip by itself and in its own length.

    They are drawn in 32 bits, so that neither the batch nor the precision changes them.

    Arguments
    ---------
    like : tensor
        Gives device and precision.
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end, where the result is zero.
    generators : sequence of torch.Generator
        One for each clip.
    shape : (int, int, int)
        Draws, chains and dim.
    random : function
        `torch.randn` or `torch.rand`.

    Returns
    -------
    tensor, shape (draws, batch, chains, frames, dim)
    """
    draws, chains, dim = shape
    counts = mask.sum(dim=1).tolist()
    if len(counts) == 1 and counts[0] == mask.shape[1]:
        return random(draws, 1, chains, counts[0], dim, generator=generators[0]).to(like)
    drawn = like.new_zeros(draws, len(counts), chains, mask.shape[1], dim)
    for row, (count, generator) in enumerate(zip(counts, generators)):
        drawn[:, row, :, :count] = random(draws, chains, count, dim, generator=generator).to(drawn)
    return drawn

"""Chance that belongs to a clip: a generator for each, and white noise in its own length."""

from __future__ import annotations

import torch

_CHAINS = 7_919  # between the seeds of two chains of a clip


def clip_generators(mask: torch.Tensor, seed: int, chains: int = 1) -> list[torch.Generator]:
    """Random generators that depend on the seed and each clip's length alone, not on its batch.

    Arguments
    ---------
    mask : tensor, shape (batch, frames), bool
    seed : int
    chains : int
        Generators for each clip; they stand side by side.
    """
    generators = []
    for steps in mask.sum(dim=1).tolist():
        for chain in range(chains):
            generator = torch.Generator()
            generator.manual_seed(((seed + _CHAINS * chain) * 1_000_003 + int(steps)) % 2**63)
            generators.append(generator)
    return generators


def complex_noise(like: torch.Tensor, mask: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
    """Complex white noise of variance one, drawn for each clip by itself and in its own length.

    Arguments
    ---------
    like : tensor, shape (batch, frames, bins), complex
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end, where the result is zero.
    generators : list of torch.Generator
        One for each clip.

    Returns
    -------
    tensor, shape (batch, frames, bins), complex
    """
    noise = like.new_zeros(like.shape)
    for row, (generator, steps) in enumerate(zip(generators, mask.sum(dim=1).tolist())):
        drawn = torch.randn(steps, like.shape[2], 2, generator=generator) * 0.5**0.5
        noise[row, :steps] = torch.view_as_complex(drawn).to(like)
    return noise

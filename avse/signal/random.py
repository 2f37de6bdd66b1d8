"""White noise for clips of different lengths, each from a generator of its own."""

from __future__ import annotations

import torch


def complex_noise(like: torch.Tensor, inside: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
    """Complex white noise of variance one, drawn for each clip by itself and in its own length.

    Arguments
    ---------
    like : tensor, shape (batch, steps, bins), complex
    inside : tensor, shape (batch, steps), bool
        False beyond each clip's end, where the result is zero.
    generators : list of torch.Generator
        One for each clip.

    Returns
    -------
    tensor, shape (batch, steps, bins), complex
    """
    noise = like.new_zeros(like.shape)
    for row, (generator, steps) in enumerate(zip(generators, inside.sum(dim=1).tolist())):
        drawn = torch.randn(steps, like.shape[2], 2, generator=generator) * 0.5**0.5
        noise[row, :steps] = torch.view_as_complex(drawn).to(like)
    return noise

"""The level that models are trained at, the gain that brings a clip to it, and quantiles of power."""

from __future__ import annotations

import torch

LEVEL = 0.05
"""Root mean square relative to full scale."""

ACTIVE_DB = 30.0
"""Speech is active where it is at most so many dB below its loudest frame."""


def level_scale(audio: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The gain that brings each clip to `LEVEL`, shape (batch, 1); one for silence.

    Arguments
    ---------
    audio : tensor, shape (batch, samples)
        Zero beyond each clip's end.
    lengths : tensor, shape (batch,)

    Example
    -------
    >>> level_scale(torch.full((1, 100), 0.5), torch.tensor([100])).item()
    0.10000000149011612
    """
    peak = audio.abs().amax(dim=1, keepdim=True)
    silent = peak < 1e-15
    peak = torch.where(silent, torch.ones_like(peak), peak)
    root = ((audio / peak).square().sum(dim=1, keepdim=True) / lengths[:, None]).sqrt()
    return torch.where(silent, torch.ones_like(peak), LEVEL / (root * peak).clamp(min=1e-30))


def floor_over_frames(power: torch.Tensor, mask: torch.Tensor, quantile: float) -> torch.Tensor:
    """A quantile over the frames of each clip of the power of each bin, shape (batch, 1, bins).

    Arguments
    ---------
    power : tensor, shape (batch, frames, bins)
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end; those frames do not count.
    quantile : float
        In [0, 1].

    Example
    -------
    >>> floor_over_frames(torch.arange(5.0)[None, :, None], torch.arange(5)[None] < 3, 0.5).item()
    1.0
    """
    return torch.stack([clip[frames].quantile(quantile, dim=0) for clip, frames in zip(power, mask)])[:, None]


def active_frames(speech: torch.Tensor, size: int) -> torch.Tensor:
    """Frames in which clean speech is within 30 dB of its loudest frame.

    Arguments
    ---------
    speech : tensor, shape (batch, samples)
    size : int
        Samples of a frame.

    Returns
    -------
    tensor, shape (batch, frames), bool
        A frame for each `size` samples and one for the rest; all false for silence.

    Example
    -------
    >>> active_frames(torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.5]]), 2)
    tensor([[False,  True,  True]])
    """
    padded = torch.nn.functional.pad(speech, (0, -speech.shape[1] % size))
    power = padded.unflatten(1, (-1, size)).square().mean(dim=2)
    return power > power.amax(dim=1, keepdim=True) * 10 ** (-ACTIVE_DB / 10)


def uncorrelated_gain(speech: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """The gain, at most one, at which the rest of the mixture is not negatively correlated with an estimate of speech.

        min(1, <noisy, speech> / <speech, speech>)

    Speech and noise are independent, so an estimate for which this is less than one is too loud.

    Arguments
    ---------
    speech, noisy : tensor, shape (batch, samples)

    Returns
    -------
    tensor, shape (batch, 1)
        One for silence.

    Example
    -------
    >>> noisy = torch.tensor([[1.0, -1.0, 2.0]])
    >>> round(uncorrelated_gain(1.25 * noisy, noisy).item(), 3), uncorrelated_gain(0.5 * noisy, noisy).item()
    (0.8, 1.0)
    """
    energy = speech.square().sum(dim=1, keepdim=True)
    product = (speech * noisy).sum(dim=1, keepdim=True)
    return torch.where(energy > 0, product / energy.clamp(min=1e-20), 1.0).clamp(min=0.0, max=1.0)

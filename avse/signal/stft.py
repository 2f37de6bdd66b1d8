"""Short-time Fourier transform on padded batches, and clocks between samples, steps and frames."""

from __future__ import annotations

from typing import TypeVar

import torch

from avse import compatibility

__getattr__ = compatibility.old_names(__name__)

_Count = TypeVar("_Count", int, torch.Tensor)


def stft_frames(samples: _Count, fft_size: int, hop: int) -> _Count:
    """Steps whose window touches a signal of `samples` samples.

    Example
    -------
    >>> stft_frames(16000, 640, 320)
    51
    """
    return -(-samples // hop) + fft_size // (2 * hop)


def stft(signal: torch.Tensor, fft_size: int, hop: int) -> torch.Tensor:
    """Spectrum of a signal, step `t` centred on sample `t * hop`, square-root Hann window.

    The signal is continued by zeros, so that padding a batch changes no step of a clip.

    Arguments
    ---------
    signal : tensor, shape (batch, samples)
    fft_size : int
        Window and transform length in samples.
    hop : int
        Samples between steps; divides `fft_size` by at least 2.

    Returns
    -------
    tensor, shape (batch, frames, bins), complex
        `stft_frames(samples)` steps, `fft_size // 2 + 1` bins.

    Example
    -------
    >>> signal = torch.randn(2, 1000)
    >>> spectrum = stft(signal, 640, 320)
    >>> spectrum.shape, torch.allclose(istft(spectrum, 640, 320, 1000), signal, atol=1e-5)
    (torch.Size([2, 5, 321]), True)
    """
    steps = stft_frames(signal.shape[-1], fft_size, hop)
    padded = torch.nn.functional.pad(signal, (0, (steps - 1) * hop - signal.shape[-1]))
    spectrum = torch.stft(
        padded,
        fft_size,
        hop,
        window=analysis_window(fft_size, signal),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.transpose(1, 2)


def istft(spectrum: torch.Tensor, fft_size: int, hop: int, samples: int) -> torch.Tensor:
    """Signal of a spectrum: the inverse of `stft`.

    Arguments
    ---------
    spectrum : tensor, shape (batch, frames, bins), complex
    samples : int
        Length of the signal.

    Returns
    -------
    tensor, shape (batch, samples)
    """
    return torch.istft(
        spectrum.transpose(1, 2),
        fft_size,
        hop,
        window=analysis_window(fft_size, spectrum.real),
        center=True,
        length=samples,
    )


def repeat_to_frames(frames: torch.Tensor, steps: int, ratio: int) -> torch.Tensor:
    """Repeat video frames on the audio clock.

    Arguments
    ---------
    frames : tensor, shape (batch, frames, ...)
    steps : int
        Steps wanted; beyond the last frame they are zero (false).
    ratio : int
        Steps per video frame.

    Returns
    -------
    tensor, shape (batch, frames, ...)

    Example
    -------
    >>> repeat_to_frames(torch.tensor([[1, 2]]), 5, 2).tolist()
    [[1, 1, 2, 2, 0]]
    """
    repeated = frames.repeat_interleave(ratio, dim=1)[:, :steps]
    missing = steps - repeated.shape[1]
    if missing > 0:
        repeated = torch.cat([repeated, repeated.new_zeros(repeated.shape[0], missing, *repeated.shape[2:])], dim=1)
    return repeated


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True within each clip.

    Arguments
    ---------
    lengths : tensor, shape (batch,)
    size : int

    Returns
    -------
    tensor, shape (batch, size), bool

    Example
    -------
    >>> length_mask(torch.tensor([1, 3]), 3).tolist()
    [[True, False, False], [True, True, True]]
    """
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def analysis_window(fft_size: int, like: torch.Tensor) -> torch.Tensor:
    """The window of `stft` and `istft`, a square-root Hann window of `fft_size` samples.

    >>> round(analysis_window(8, torch.zeros(1)).square().sum().item(), 5)
    4.0
    """
    return torch.hann_window(fft_size, dtype=like.dtype, device=like.device).sqrt()

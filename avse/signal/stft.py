"""Short-time Fourier transform of padded batches, and the clocks of samples, frames and video frames."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

from avse import compatibility

__getattr__ = compatibility.old_names(__name__)

_Count = TypeVar("_Count", int, torch.Tensor)


def stft_frames(samples: _Count, fft_size: int, hop: int) -> _Count:
    """Frames whose window touches a signal of `samples` samples.

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
    """Signal of a spectrum: the inverse of `stft`; shape (batch, samples).

    Arguments
    ---------
    spectrum : tensor, shape (batch, frames, bins), complex
    samples : int
        Length of the signal.
    """
    return torch.istft(
        spectrum.transpose(1, 2),
        fft_size,
        hop,
        window=analysis_window(fft_size, spectrum.real),
        center=True,
        length=samples,
    )


def overlap_gain(lengths: torch.Tensor, fft_size: int, hop: int, samples: int) -> torch.Tensor:
    """What makes `istft` of padded clips that of each clip by itself; shape (batch, samples).

    A window longer than two hops reaches back into a clip from frames beyond the last of its own. Where the spectrum is
    zero in those frames, the signal is multiplied by the sum of all squared windows over that of the clip's own frames;
    beyond the clip's end, by zero.

    Arguments
    ---------
    lengths : tensor, shape (batch,)
        Samples of each clip.
    fft_size, hop, samples : int
        As for `istft`.

    Example
    -------
    >>> lengths, signal = torch.tensor([640, 1280]), torch.randn(2, 1280)
    >>> signal[0, 640:] = 0
    >>> spectrum = stft(signal, 1024, 320)
    >>> spectrum[0, stft_frames(640, 1024, 320) :] = 0
    >>> restored = istft(spectrum, 1024, 320, 1280) * overlap_gain(lengths, 1024, 320, 1280).float()
    >>> torch.allclose(restored, signal, atol=1e-5)
    True
    """
    frames = stft_frames(samples, fft_size, hop)
    own = length_mask(stft_frames(lengths, fft_size, hop), frames).double()
    window = torch.hann_window(fft_size, dtype=own.dtype, device=own.device)
    first = fft_size // 2

    def overlap(counted: torch.Tensor) -> torch.Tensor:
        total = nn.functional.conv_transpose1d(counted[:, None], window[None, None], stride=hop)
        total = total[:, 0, first : first + samples]
        return nn.functional.pad(total, (0, samples - total.shape[1]))

    alone = overlap(own)
    gain = torch.where(alone > 0, overlap(torch.ones_like(own)) / alone, 1.0)
    return torch.where(length_mask(lengths, samples), gain, 0.0)


def repeat_to_frames(values: torch.Tensor, frames: int, ratio: int) -> torch.Tensor:
    """Repeat values of video frames for the frames of a transform, shape (batch, frames, ...).

    Arguments
    ---------
    values : tensor, shape (batch, video_frames, ...)
    frames : int
        Frames wanted; beyond the last video frame they are zero (false).
    ratio : int
        Frames per video frame.

    Example
    -------
    >>> repeat_to_frames(torch.tensor([[1, 2]]), 5, 2).tolist()
    [[1, 1, 2, 2, 0]]
    """
    repeated = values.repeat_interleave(ratio, dim=1)[:, :frames]
    missing = frames - repeated.shape[1]
    if missing > 0:
        repeated = torch.cat([repeated, repeated.new_zeros(repeated.shape[0], missing, *repeated.shape[2:])], dim=1)
    return repeated


def pool_to_video_frames(values: torch.Tensor, video_frames: int, ratio: int) -> torch.Tensor:
    """The mean of the frames of each video frame: the way back from `repeat_to_frames`; shape (..., video_frames).

    Arguments
    ---------
    values : tensor, shape (..., frames)
        Zero is taken where there are fewer frames than those of the video.
    video_frames : int
    ratio : int
        Frames per video frame.

    Example
    -------
    >>> pool_to_video_frames(torch.tensor([[1.0, 3.0, 5.0, 5.0, 9.0]]), 2, 2).tolist()
    [[2.0, 5.0]]
    """
    missing = max(0, video_frames * ratio - values.shape[-1])
    padded = nn.functional.pad(values, (0, missing))[..., : video_frames * ratio]
    return padded.unflatten(-1, (video_frames, ratio)).mean(dim=-1)


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True within each clip, shape (batch, size), bool.

    Arguments
    ---------
    lengths : tensor, shape (batch,)
    size : int

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


_FAR = 1e4  # |d|^2 / v from which on the moments of `expand_moments` are those of its series
_COMPRESSION = 0.3  # compressed speech then reaches about one where it is loudest


def compress(spectrum: torch.Tensor) -> torch.Tensor:
    """0.3 times the square root of a complex spectrum's magnitude, its phase as it was; any shape.

    >>> compress(torch.tensor([4j, 0])).tolist()
    [0.6000000238418579j, 0j]
    """
    return _COMPRESSION * spectrum * spectrum.abs().clamp(min=1e-20).rsqrt()


def expand(compressed: torch.Tensor) -> torch.Tensor:
    """The inverse of `compress`.

    >>> round(expand(compress(torch.tensor([3 + 4j])).abs()).item(), 4)
    5.0
    """
    scaled = compressed / _COMPRESSION
    return scaled * scaled.abs()


def expand_moments(mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of a spectrum C whose compression c is Gaussian with this mean d and variance v; any shape.

        E[C]   = E[c |c|] / 0.3^2 = d sqrt(v) Gamma(5/2) M(-1/2, 2, -x) / 0.3^2,   x = |d|^2 / v
        Var[C] = (|d|^4 + 4 |d|^2 v + 2 v^2) / 0.3^4 - |E[C]|^2

    with Kummer's function M. Where v is zero the mean is `expand(d)`, else it is larger.

    >>> around, power = expand_moments(torch.tensor([0.3 + 0j, 0j]), torch.tensor([0.0, 0.09]))
    >>> [round(value, 3) for value in around.abs().tolist() + power.tolist()]
    [1.0, 0.0, 0.0, 2.0]
    """
    spread = variance.double().clamp(min=1e-30)
    ratio = mean.abs().double().square() / spread
    near, far = ratio.clamp(max=_FAR), ratio > _FAR  # far away the differences of large numbers are left to series
    bessel = torch.special.i0e(near / 2), torch.special.i1e(near / 2)
    kummer = (1 + 2 / 3 * near) * bessel[0] + (1 + 2 * near) / 3 * bessel[1]
    slope = math.gamma(2.5) * kummer
    relative = near.square() + 4 * near + 2 - near * slope.square()
    slope, relative = torch.where(far, (ratio + 1.5).sqrt(), slope), torch.where(far, 2.5 * ratio + 1.625, relative)
    around = mean * spread.sqrt() * slope / _COMPRESSION**2
    return around.to(mean.dtype), (spread.square() * relative / _COMPRESSION**4).to(variance.dtype)

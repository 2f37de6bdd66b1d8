"""Noisy-speech encoder: q(z | x, V, video), learned on clean speech and noise drawn from the noise model."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.prior import Context
from avse.contracts.types import SAMPLE_RATE
from avse.nnet.temporal_block import TemporalBlock
from avse.nnet.video_input import VideoInput
from avse.signal.stft import analysis_window, stft_frames

NOISY_ENCODER = "noisy_encoder"  # the place where video enters
_COMPONENTS = 4
_TO_AMPLITUDE, _TO_POWER = math.log(10) / 20, math.log(10) / 10  # from dB to natural logarithms
_LARGEST_DILATION = 8


class NoisySpeechEncoder(nn.Module):
    """From noisy power and the variance of the noise to the parameters of a Gaussian of z.

    Linear layers, fusion with the video, and residual blocks of dilated convolutions over time.

    Arguments
    ---------
    bins, hidden_dim, latent_dim : int
    layers : int
        Blocks.

    Example
    -------
    >>> network = NoisySpeechEncoder(bins=9, hidden_dim=8, latent_dim=2, layers=2)
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> network(torch.zeros(1, 6, 9), torch.zeros(1, 6, 9), context).shape
    torch.Size([1, 6, 4])
    """

    def __init__(self, bins: int, hidden_dim: int, latent_dim: int, layers: int) -> None:
        super().__init__()
        self.from_power = nn.Linear(bins, hidden_dim)
        self.from_variance = nn.Linear(bins, hidden_dim, bias=False)
        self.blocks = nn.ModuleList(
            TemporalBlock(hidden_dim, dilation=min(2**layer, _LARGEST_DILATION)) for layer in range(layers)
        )
        self.out = nn.Linear(hidden_dim, 2 * latent_dim)

    def forward(
        self, power: torch.Tensor, variance: torch.Tensor, context: Context, video_input: VideoInput | None = None
    ) -> torch.Tensor:
        """Parameters of q(z | x, V, video), shape (batch, frames, 2 * latent_dim).

        `power` and `variance`, shape (batch, frames, bins), are levels with a variance near one. A `video_input` has a
        place `noisy_encoder`; None: audio only.
        """
        hidden = self.audio(power, variance)
        if video_input is not None:
            hidden, _ = video_input.fuse(hidden, context, NOISY_ENCODER)
        mask = context.mask[..., None]
        for block in self.blocks:
            hidden = block(hidden, mask)
        return self.out(hidden)

    def audio(self, power: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """What the video is fused with, shape (batch, frames, hidden_dim); arguments as of `forward`."""
        return torch.tanh(self.from_power(power) + self.from_variance(variance))


def draw_noise(clean: torch.Tensor, fft_size: int, hop: int, snr: tuple[float, float]) -> tuple[torch.Tensor, ...]:
    """Noise as the noise model describes it: a few random spectra, each with a random course in time.

    Spectra have a tilt, smooth peaks and sometimes the partials of a tone; courses are constant, vary smoothly, or
    decay after an onset. No recording is used. The generator is PyTorch's default one.

    Arguments
    ---------
    clean : tensor, shape (batch, samples)
        Speech, whose level the noise is set against.
    fft_size, hop : int
        Of the transform in which the variance is given; see `avse.signal.stft`.
    snr : (float, float)
        Range of the signal-to-noise ratio, over whole clips, in dB; half of all are in its lowest quarter.

    Returns
    -------
    noise : tensor, shape (batch, samples)
    variance : tensor, shape (batch, frames, fft_size // 2 + 1)
        Expected power of its transform.

    Example
    -------
    >>> noise, variance = draw_noise(torch.randn(2, 3200), 640, 320, snr=(-5.0, 5.0))
    >>> noise.shape, variance.shape
    (torch.Size([2, 3200]), torch.Size([2, 11, 321]))
    """
    (batch, samples), bins, frames = clean.shape, fft_size // 2 + 1, stft_frames(clean.shape[1], fft_size, hop)
    shape = (batch, _COMPONENTS)
    spectra = _spectra(shape, bins).to(clean)
    courses = _courses(shape, frames, SAMPLE_RATE / hop).to(clean)
    white = torch.randn(*shape, samples).to(clean)
    response = F.interpolate(spectra, size=samples // 2 + 1, mode="linear", align_corners=True)
    colour = torch.fft.irfft(torch.fft.rfft(white) * (response * _TO_AMPLITUDE).exp(), n=samples)
    course = F.interpolate(courses, size=(frames - 1) * hop + 1, mode="linear", align_corners=True)[..., :samples]
    amplitude = (course * _TO_AMPLITUDE).exp()
    noise = (colour * amplitude).sum(dim=1)
    ratio = snr[0] + (snr[1] - snr[0]) * torch.rand(batch, 1).square().to(clean)
    scale = clean.square().mean(dim=1, keepdim=True) / noise.square().mean(dim=1, keepdim=True).clamp(min=1e-20)
    scale = scale * 10 ** (-ratio / 10)
    levels = _under_window(amplitude.square(), frames, fft_size, hop)
    variance = torch.einsum("bkn,bkf->bnf", levels, _through_window(spectra, fft_size))
    return noise * scale.sqrt(), variance * scale[..., None]


def _under_window(levels: torch.Tensor, frames: int, fft_size: int, hop: int) -> torch.Tensor:
    """Means of (batch, components, samples) under the window of each frame, (batch, components, frames)."""
    weights = analysis_window(fft_size, levels).square()
    padded = F.pad(levels, (fft_size // 2, (frames - 1) * hop + fft_size // 2 - levels.shape[-1]))
    return F.conv1d(padded.flatten(0, 1)[:, None], (weights / weights.sum())[None, None], stride=hop).view(
        *levels.shape[:2], frames
    )


def _through_window(spectra: torch.Tensor, fft_size: int) -> torch.Tensor:
    """Expected power of the transform of noise with some spectra in dB, of the same shape.

    The transform's window multiplies the noise, so its autocorrelation multiplies that of the noise.
    """
    fine = F.interpolate(spectra, size=fft_size + 1, mode="linear", align_corners=True)
    window = analysis_window(fft_size, spectra)
    overlap = torch.fft.irfft(torch.fft.rfft(window, n=2 * fft_size).abs().square(), n=2 * fft_size)
    correlation = torch.fft.irfft((fine * _TO_POWER).exp(), n=2 * fft_size)
    return torch.fft.rfft(correlation * overlap).real[..., ::2].clamp(min=0.0)


def _spectra(shape: tuple[int, int], bins: int) -> torch.Tensor:
    """Random spectra in dB, shape (*shape, bins)."""
    frequency = torch.linspace(0, SAMPLE_RATE / 2, bins)
    octaves = (frequency.clamp(min=60) / 1000).log2()
    hills = F.interpolate(8.0 * torch.randn(*shape, 12), size=bins, mode="linear", align_corners=True)
    ripples = F.interpolate(3.0 * torch.randn(*shape, 80), size=bins, mode="linear", align_corners=True)
    spectra = (2.0 - 10.0 * torch.rand(*shape, 1)) * octaves + hills + ripples
    pitch = 40.0 * (20.0 ** torch.rand(*shape, 1))
    distance = (torch.remainder(frequency / pitch + 0.5, 1.0) - 0.5) * pitch
    partials = 25.0 * (-((distance / 15.0) ** 2)).exp() - 10.0
    return torch.where(torch.rand(*shape, 1) < 0.25, spectra + partials, spectra)


def _courses(shape: tuple[int, int], frames: int, rate: float) -> torch.Tensor:
    """Random levels over time in dB, shape (*shape, frames)."""
    knots = max(2, round(frames / rate * 6))
    swell = F.interpolate(7.0 * torch.randn(*shape, knots), size=frames, mode="linear", align_corners=True)
    begun = torch.rand(*shape, 1) * frames
    since = torch.remainder(torch.arange(frames) - begun, frames * (0.2 + 0.8 * torch.rand(*shape, 1)))
    strike = 10.0 - since / rate * (20.0 + 180.0 * torch.rand(*shape, 1))
    kind = torch.rand(*shape, 1)
    courses = torch.where(kind < 0.5, torch.zeros(frames), torch.where(kind < 0.8, swell, strike))
    level = 8.0 * torch.randn(*shape, 1)
    return (courses + level).clamp(min=-50.0, max=30.0)

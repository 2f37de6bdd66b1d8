"""Losses for supervised enhancement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from avse.contracts.types import Batch, Estimate
from avse.nnet.video_input import reliability_loss
from avse.signal.metrics import si_sdr


class SupervisedLoss(nn.Module, ABC):
    """How far an estimate is from the clean speech, and its reliability from the truth where that is weighed.

    Arguments
    ---------
    reliability_weight : float
        See `EnhancementLoss`.
    """

    compares_without_video = True

    def __init__(self, reliability_weight: float = 0.0) -> None:
        super().__init__()
        self.reliability_weight = reliability_weight

    @abstractmethod
    def distance(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """Of the speech, a scalar."""

    def forward(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """The loss of a batch, a scalar."""
        loss = self.distance(estimate, batch)
        if self.reliability_weight and batch.video_is_clean is not None:
            loss = loss + self.reliability_weight * reliability_loss(
                estimate.reliability, batch.video_is_clean, batch.valid
            )
        return loss

    def scores(self, estimate: Estimate, batch: Batch) -> dict[str, list[float]]:
        """SI-SDR improvement in dB, by clip."""
        gain = si_sdr(estimate.speech, batch.clean) - si_sdr(batch.noisy, batch.clean)
        return {"si_sdr_improvement": gain.tolist()}


class EnhancementLoss(SupervisedLoss):
    """Negative SI-SDR plus distances of compressed spectra at several resolutions.

    Arguments
    ---------
    spectral_weight : float
        Weight of the spectral term beside SI-SDR in dB.
    fft_sizes : sequence of int
        Windows of the spectral term in samples; the hop is half of each.
    compression : float
        Exponent of the magnitudes.
    max_db : float
        SI-SDR above this is not rewarded, so that easy clips do not drown hard ones.
    reliability_weight : float
        Weight of the cross-entropy of the reliability with the truth of which frames are intact, so that it becomes the
        probability of that. 0: the reliability is whatever serves the voice.

    Example
    -------
    >>> clean = torch.randn(2, 3200)
    >>> batch = Batch(clean, torch.tensor([3200, 1600]), torch.zeros(2, 5, 88, 88), torch.zeros(2, 5), clean=clean)
    >>> estimate = Estimate(clean.clone(), clean, torch.zeros(2, 5), batch.lengths)
    >>> float(EnhancementLoss(max_db=30.0)(estimate, batch)) < -29
    True
    """

    def __init__(
        self,
        spectral_weight: float = 10.0,
        fft_sizes: Sequence[int] = (320, 640, 1280),
        compression: float = 0.3,
        max_db: float = 30.0,
        reliability_weight: float = 0.0,
    ) -> None:
        super().__init__(reliability_weight)
        self.spectral_weight, self.fft_sizes = spectral_weight, tuple(fft_sizes)
        self.compression, self.max_db = compression, max_db

    def distance(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """See `SupervisedLoss.distance`."""
        speech, clean = estimate.speech.float(), batch.clean.float()
        loss = -si_sdr(speech, clean).clamp(max=self.max_db).mean()
        # Level-free: clips are compared at unit power.
        scale = clean.square().sum(dim=1, keepdim=True) / batch.lengths[:, None]
        speech, clean = (signal / (scale + 1e-8).sqrt() for signal in (speech, clean))
        for size in self.fft_sizes:
            loss = loss + self.spectral_weight / len(self.fft_sizes) * (
                (self._spectrum(speech, size) - self._spectrum(clean, size)).abs().mean()
            )
        return loss

    def _spectrum(self, signal: torch.Tensor, size: int) -> torch.Tensor:
        window = torch.hann_window(size, device=signal.device)
        spectrum = torch.stft(signal, size, size // 2, window=window, pad_mode="constant", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power / size + 1e-6).pow(self.compression / 2)

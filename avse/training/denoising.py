"""The loss of supervised diffusion: squared errors of compressed spectra, whose best answer is the expected one."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.diffusion import compress
from avse.contracts.fusion import reliability_loss
from avse.contracts.types import Batch, Estimate
from avse.signal.level import level_scale
from avse.signal.metrics import si_sdr
from avse.signal.stft import stft


class DenoisingLoss(nn.Module):
    """Mean squared error of the compressed complex spectrum, relative to that of silence.

    Arguments
    ---------
    fft_size, hop : int
        Of the transform, in samples.
    reliability_weight : float
        Weight of the cross-entropy of the reliability with the truth of which frames are intact. 0: the reliability is
        whatever serves the voice.

    Example
    -------
    >>> clean = torch.randn(2, 3200)
    >>> batch = Batch(clean, torch.tensor([3200, 1600]), torch.zeros(2, 5, 88, 88), torch.zeros(2, 5), clean=clean)
    >>> silent = Estimate(0 * clean, clean, torch.zeros(2, 5), batch.lengths)
    >>> round(DenoisingLoss()(silent, batch).item(), 3)
    1.0
    """

    compares_without_video = True

    def __init__(self, fft_size: int = 640, hop: int = 320, reliability_weight: float = 0.0) -> None:
        super().__init__()
        self.fft_size, self.hop, self.reliability_weight = fft_size, hop, reliability_weight

    def forward(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """The loss of a batch, a scalar."""
        scale = level_scale(batch.clean, batch.lengths)
        speech, clean = (
            compress(stft(scale * sound.float(), self.fft_size, self.hop)) for sound in (estimate.speech, batch.clean)
        )
        loss = (speech - clean).abs().square().sum() / clean.abs().square().sum().clamp(min=1e-8)
        if self.reliability_weight and batch.intact is not None:
            loss = loss + self.reliability_weight * reliability_loss(estimate.reliability, batch.intact, batch.valid)
        return loss

    def scores(self, estimate: Estimate, batch: Batch) -> dict[str, list[float]]:
        """SI-SDR improvement in dB, by clip."""
        gain = si_sdr(estimate.speech, batch.clean) - si_sdr(batch.noisy, batch.clean)
        return {"si_sdr_improvement": gain.tolist()}

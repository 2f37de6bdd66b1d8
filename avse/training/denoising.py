"""The loss of supervised diffusion: squared errors of compressed spectra, whose best answer is the expected one."""

from __future__ import annotations

import torch

from avse.contracts.types import Batch, Estimate
from avse.signal.levels import level_scale
from avse.signal.stft import compress, stft
from avse.training.losses import SupervisedLoss


class DenoisingLoss(SupervisedLoss):
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

    def __init__(self, fft_size: int = 640, hop: int = 320, reliability_weight: float = 0.0) -> None:
        super().__init__(reliability_weight)
        self.fft_size, self.hop = fft_size, hop

    def distance(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """See `SupervisedLoss.distance`."""
        scale = level_scale(batch.clean, batch.lengths)
        speech, clean = (
            compress(stft(scale * sound.float(), self.fft_size, self.hop)) for sound in (estimate.speech, batch.clean)
        )
        return (speech - clean).abs().square().sum() / clean.abs().square().sum().clamp(min=1e-8)

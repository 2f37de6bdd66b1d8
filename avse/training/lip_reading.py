"""Pretraining of visual front-ends: from the mouth alone, predict the spectral envelope of clean speech."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch
from avse.contracts.visual_frontend import VisualFrontend
from avse.signal.stft import length_mask, stft
from avse.training.losses import clean_of


class LipToSpectrum(nn.Module):
    """A visual front-end with a linear head that predicts the band levels of speech for each video frame.

    The network learns when each part of the spectrum has power, and how much; an enhancer needs the same of a mouth. It
    is trained on clean clips, without mixtures.

    Arguments
    ---------
    visual_frontend : VisualFrontend
    bands : int
        Mel-spaced bands.

    Example
    -------
    >>> from avse.visual_frontends.pixel_mlp import PixelMLP
    >>> model = LipToSpectrum(PixelMLP(output_dim=8), bands=4)
    >>> mouth = torch.zeros(1, 5, 88, 88, dtype=torch.uint8)
    >>> batch = Batch(torch.zeros(1, 3200), torch.tensor([3200]), mouth, torch.ones(1, 5, dtype=torch.bool))
    >>> model(batch).shape
    torch.Size([1, 5, 4])
    """

    def __init__(self, visual_frontend: VisualFrontend, bands: int = 20) -> None:
        super().__init__()
        # By the names that the weights of a front-end have in an enhancer or a prior, which start from them.
        self.video_input = nn.ModuleDict({"visual_frontend": visual_frontend})
        self.head = nn.Linear(visual_frontend.output_dim, bands)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Predicted levels, shape (batch, video_frames, bands)."""
        return self.head(self.video_input["visual_frontend"](batch.mouth, batch.valid))


class BandLevelLoss(nn.Module):
    """Squared error of predicted band levels over valid frames; reports their correlation with the true ones.

    Arguments
    ---------
    bands : int
        As in `LipToSpectrum`.

    Example
    -------
    >>> loss = BandLevelLoss(bands=4)
    >>> clean = torch.randn(1, 3200)
    >>> batch = Batch(clean, torch.tensor([3200]), torch.zeros(1, 5, 88, 88), torch.ones(1, 5).bool(), clean=clean)
    >>> float(loss(loss.levels(batch), batch))
    0.0
    """

    compares_without_video = False

    def __init__(self, bands: int = 20) -> None:
        super().__init__()
        self.fft_size = SAMPLES_PER_FRAME
        self.register_buffer("filters", _mel_filters(bands, self.fft_size // 2 + 1), persistent=False)

    def levels(self, batch: Batch) -> torch.Tensor:
        """Band levels of clean speech, shape (batch, video_frames, bands): log scale, zero mean in each clip."""
        frames = batch.valid.shape[1]
        power = stft(clean_of(batch), self.fft_size, SAMPLES_PER_FRAME // 2).abs().square()
        power = power[:, : 2 * frames].unflatten(1, (frames, 2)).mean(dim=2) @ self.filters
        mask = length_mask(-(-batch.lengths // SAMPLES_PER_FRAME), frames)[..., None]
        loudest = power.amax(dim=(1, 2), keepdim=True)
        level = torch.log10(power / (loudest + 1e-10) + 1e-4)
        mean = (level * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
        return (level - mean) * mask

    def forward(self, predicted: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The loss of a batch, a scalar; zero where no frame is valid."""
        error = (predicted - self.levels(batch)).square().mean(dim=2)
        return (error * batch.valid).sum() / batch.valid.sum().clamp(min=1)

    def scores(self, predicted: torch.Tensor, batch: Batch) -> dict[str, list[float]]:
        """Correlation of predicted and true levels over valid frames, by clip."""
        true = self.levels(batch)
        correlations = []
        for row, valid in enumerate(batch.valid):
            if valid.sum() > 2:
                pair = torch.stack([predicted[row, valid].flatten(), true[row, valid].flatten()])
                correlations.append(float(torch.corrcoef(pair)[0, 1].nan_to_num()))
        return {"correlation": correlations} if correlations else {}


def _mel_filters(bands: int, bins: int) -> torch.Tensor:
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(bins, 60.0, 7000.0, bands, SAMPLE_RATE, norm="slaney")

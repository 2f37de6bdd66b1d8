"""Pretraining of visual front-ends: from the mouth, the spectral envelope and the timing of the clean speech."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from avse import compatibility
from avse.contracts.types import SAMPLES_PER_FRAME, Batch
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.lip_synchrony import LipReading, mel_filters
from avse.nnet.video_input import frame_cross_entropy
from avse.signal.levels import active_frames
from avse.signal.stft import length_mask, stft
from avse.training.losses import clean_of

__getattr__ = compatibility.old_names(__name__)
_SMALLEST_VALID_SHARE = 0.8
_LARGEST_SCALE = math.log(100.0)


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
        self.register_buffer("filters", mel_filters(bands, self.fft_size // 2 + 1), persistent=False)

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
            else:
                correlations.append(math.nan)
        return {"correlation": correlations}


class SynchronyLoss(nn.Module):
    """Error of the band levels, plus cross-entropies: of finding the audio of a window of video, and of speaking.

    Every clip is cut to overlapping windows. The audio of each window must be told from the audio of all others in the
    batch, and once more from that of the other windows of its clip, which are shifted by `step` video frames and more;
    and the video likewise. Windows that are mostly silent or without a valid mouth do not count. The ends of the clip
    do not count either, because both networks could know them by the padding. The mouth speaks where the clean
    speech is active (`avse.signal.levels.active_frames`).

    Arguments
    ---------
    bands : int
        As in `LipSynchrony`.
    sync_weight : float
        Weight of the mean of the cross-entropies.
    window, step : int
        Length and shift of the windows in video frames.
    margin : int
        Video frames at both ends of a clip that no window holds.
    speaking_weight : float
        Weight of the cross-entropy of speaking, where the network predicts it.

    Example
    -------
    >>> loss = SynchronyLoss(bands=4, window=4, step=2, margin=0)
    >>> clean, valid = torch.randn(2, 6400), torch.ones(2, 10, dtype=torch.bool)
    >>> batch = Batch(clean, torch.tensor([6400, 6400]), torch.zeros(2, 10, 88, 88), valid, clean=clean)
    >>> embedding = torch.randn(2, 10, 16)
    >>> reading = LipReading(loss.levels(batch), embedding, embedding, torch.tensor(4.0))
    >>> float(loss(reading, batch)) < 0.01, loss.scores(reading, batch)["found"]
    (True, [1.0, 1.0])
    """

    compares_without_video = False

    def __init__(
        self,
        bands: int = 20,
        sync_weight: float = 0.3,
        window: int = 15,
        step: int = 5,
        margin: int = 3,
        speaking_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.band_level, self.speaking_weight = BandLevelLoss(bands), speaking_weight
        self.sync_weight, self.window, self.step, self.margin = sync_weight, window, step, margin

    def levels(self, batch: Batch) -> torch.Tensor:
        """See `BandLevelLoss.levels`."""
        return self.band_level.levels(batch)

    def forward(self, reading: LipReading, batch: Batch) -> torch.Tensor:
        """The loss of a batch, a scalar."""
        loss = self.band_level(reading.levels, batch)
        if reading.speaking is not None:
            entropy = frame_cross_entropy(reading.speaking, _active(batch), batch.valid)
            loss = loss + self.speaking_weight * entropy
        similarity, clip = self._similarities(reading, batch)
        if len(clip) < 2:
            return loss
        logits = similarity * reading.scale.clamp(max=_LARGEST_SCALE).exp()
        in_clip = torch.where(clip[:, None] == clip, logits, torch.finfo(logits.dtype).min)
        match = torch.arange(len(clip), device=logits.device)
        entropies = [F.cross_entropy(rows, match) for rows in (logits, logits.T, in_clip, in_clip.T)]
        return loss + self.sync_weight * torch.stack(entropies).mean()

    def scores(self, reading: LipReading, batch: Batch) -> dict[str, list[float]]:
        """By clip: correlation of the levels; share of its windows of video whose audio is found; AUC of speaking.

        `found` among the audio of the whole batch, `found_in_clip` among that of the clip. `speaking_auc` is not a
        number where a clip has no silent frame, or nothing else.
        """
        similarity, clip = self._similarities(reading, batch)
        in_clip = torch.where(clip[:, None] == clip, similarity, -torch.inf)
        match = torch.arange(len(clip), device=clip.device)
        scores = self.band_level.scores(reading.levels, batch)
        for name, rows in (("found", similarity), ("found_in_clip", in_clip)):
            hits = rows.argmax(dim=1) == match if len(clip) else match.bool()
            scores[name] = [float(hits[clip == row].float().mean()) for row in range(len(batch))]
        if reading.speaking is not None:
            clips = zip(reading.speaking, _active(batch), batch.valid)
            scores["speaking_auc"] = [_auc(one[valid & active], one[valid & ~active]) for one, active, valid in clips]
        return scores

    def _similarities(self, reading: LipReading, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines of all windows that count, shape (video windows, audio windows), and the clip of each."""
        frames = batch.valid.shape[1]
        if frames < self.window + self.margin:
            return reading.video.new_zeros(0, 0), batch.lengths.new_zeros(0)
        cut = lambda stream: stream[:, self.margin :].unfold(1, self.window, self.step)
        counts = cut(batch.valid).float().mean(dim=2) >= _SMALLEST_VALID_SHARE
        counts &= cut(_active(batch)).float().mean(dim=2) >= 0.5
        counts &= cut(length_mask(batch.lengths // SAMPLES_PER_FRAME - self.margin, frames)).all(dim=2)
        video, audio = (
            F.normalize(cut(stream.float())[counts].flatten(1), dim=1) for stream in (reading.video, reading.audio)
        )
        clip = torch.arange(len(batch), device=counts.device)[:, None].expand_as(counts)[counts]
        return video @ audio.T, clip


def _active(batch: Batch) -> torch.Tensor:
    """Video frames in which the clean speech is active, shape (batch, video_frames), bool."""
    return active_frames(clean_of(batch).float(), SAMPLES_PER_FRAME)


def _auc(higher: torch.Tensor, lower: torch.Tensor) -> float:
    """Chance that a value of `higher` exceeds one of `lower`, ties counting half."""
    return float((torch.sign(higher[:, None] - lower) + 1).mean() / 2)

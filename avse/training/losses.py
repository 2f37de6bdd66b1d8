"""Losses of supervised enhancement, separation and diffusion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.nnet.video_input import frame_cross_entropy
from avse.signal.levels import active_frames, level_scale
from avse.signal.metrics import si_sdr
from avse.signal.stft import compress, stft


def clean_of(batch: Batch) -> torch.Tensor:
    """The clean speech of a training batch, shape (batch, samples), float32.

    Raises
    ------
    ValueError
        If the batch has none.
    """
    if batch.clean is None:
        raise ValueError("a loss needs clean speech, and the batch has none.")
    return batch.clean.float()


def without_speech(clean: torch.Tensor) -> torch.Tensor:
    """Clips of (batch, samples) in which the wanted speaker says nothing, shape (batch,), bool."""
    return ~clean.any(dim=1)


def leakage(speech: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """Energy of the estimate over that of the mixture in dB, shape (batch,): what a silent speaker is given.

    Example
    -------
    >>> leakage(torch.full((1, 10), 0.1), torch.ones(1, 10)).round(decimals=2)
    tensor([-20.])
    """
    energies = (signal.square().sum(dim=1) for signal in (speech, noisy))
    estimate, mixture = energies
    return 10 * torch.log10(estimate / mixture.clamp(min=1e-20) + 1e-6)


class SupervisedLoss(nn.Module, ABC):
    """The distance of an estimate from clean speech, and of its reliability from the labels.

    Arguments
    ---------
    reliability_weight : float
        Weight of the cross-entropy of the reliability with the labels of clean video frames, so that it becomes the
        probability that a frame is clean. 0: the reliability is whatever lowers the distance.
    speaking_weight : float
        Weight of the cross-entropy of `Estimate.speaking` with the activity of the clean speech, over clean video
        frames. 0: it is not trained.

    Attributes
    ----------
    compares_without_video : bool
        Whether validation also runs without the video.
    """

    compares_without_video = True

    def __init__(self, reliability_weight: float = 0.0, speaking_weight: float = 0.0) -> None:
        super().__init__()
        self.reliability_weight, self.speaking_weight = reliability_weight, speaking_weight

    @abstractmethod
    def distance(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """The distance of the speech, a scalar."""

    def forward(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """The loss of a batch, a scalar."""
        loss = self.distance(estimate, batch)
        if self.reliability_weight and batch.video_is_clean is not None:
            loss = loss + self.reliability_weight * frame_cross_entropy(
                estimate.reliability, batch.video_is_clean, batch.valid, estimate.audio_reliability
            )
        if self.speaking_weight and batch.video_is_clean is not None:
            if estimate.speaking is None:
                raise ValueError("speaking_weight needs a model that tells who speaks: set model.speaking: true.")
            active = active_frames(clean_of(batch), SAMPLES_PER_FRAME)
            loss = loss + self.speaking_weight * frame_cross_entropy(
                estimate.speaking, active, batch.video_is_clean & batch.valid
            )
        return loss

    def scores(self, estimate: Estimate, batch: Batch) -> dict[str, list[float]]:
        """SI-SDR improvement in dB by clip, and what is left of the mixture in dB where there is no clean speech."""
        clean = clean_of(batch)
        silent = without_speech(clean)
        improvement = si_sdr(estimate.speech, clean) - si_sdr(batch.noisy, clean)
        scores = {"si_sdr_improvement": torch.where(silent, torch.nan, improvement).tolist()}
        if bool(silent.any()):
            leaked = leakage(estimate.speech, batch.noisy)
            scores["leakage_db"] = torch.where(silent, leaked, torch.nan).tolist()
        return scores


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
    silence_weight : float
        Weight of the leakage in dB, for clips without clean speech; it counts from -`max_db` on.
    reliability_weight, speaking_weight : float
        See `SupervisedLoss`.

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
        silence_weight: float = 0.5,
        reliability_weight: float = 0.0,
        speaking_weight: float = 0.0,
    ) -> None:
        super().__init__(reliability_weight, speaking_weight)
        self.spectral_weight, self.fft_sizes = spectral_weight, tuple(fft_sizes)
        self.compression, self.max_db, self.silence_weight = compression, max_db, silence_weight

    def distance(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """See `SupervisedLoss.distance`."""
        speech, clean = estimate.speech.float(), clean_of(batch)
        silent, lengths = without_speech(clean), batch.lengths
        loss = speech.new_zeros(())
        if bool(silent.any()):
            leaked = leakage(speech[silent], batch.noisy[silent].float()).clamp(min=-self.max_db)
            loss = self.silence_weight * leaked.sum() / len(batch)
            speech, clean, lengths = speech[~silent], clean[~silent], lengths[~silent]
            if not len(speech):
                return loss
        share = len(speech) / len(batch)
        loss = loss - share * si_sdr(speech, clean).clamp(max=self.max_db).mean()
        # Clips are compared at unit power, whatever their level.
        power = clean.square().sum(dim=1, keepdim=True) / lengths[:, None]
        speech, clean = (signal / (power + 1e-8).sqrt() for signal in (speech, clean))
        for size in self.fft_sizes:
            loss = loss + share * self.spectral_weight / len(self.fft_sizes) * (
                (self._spectrum(speech, size) - self._spectrum(clean, size)).abs().mean()
            )
        return loss

    def _spectrum(self, signal: torch.Tensor, size: int) -> torch.Tensor:
        window = torch.hann_window(size, device=signal.device)
        spectrum = torch.stft(signal, size, size // 2, window=window, pad_mode="constant", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power / size + 1e-6).pow(self.compression / 2)


class SeparationLoss(EnhancementLoss):
    """`EnhancementLoss` for each speaker of a mixture; the videos tell the speakers apart, so no order is tried out.

    Example
    -------
    >>> clean = torch.randn(2, 3200)
    >>> noisy = clean.sum(dim=0, keepdim=True).expand(2, -1)
    >>> batch = Batch(noisy, torch.tensor([3200, 3200]), torch.zeros(2, 5, 88, 88), torch.zeros(2, 5), clean=clean)
    >>> batch.mixture = torch.tensor([0, 0])
    >>> swapped = Estimate(clean.flip(0), clean, torch.zeros(2, 5), batch.lengths)
    >>> SeparationLoss().scores(swapped, batch)["wrong_speaker"]
    [1.0, 1.0]
    """

    compares_without_video = False  # without video nothing tells the speakers apart

    def scores(self, estimate: Estimate, batch: Batch) -> dict[str, list[float]]:
        """SI-SDR improvement in dB, and whether another speaker of the mixture is nearer than the target; by row."""
        scores = super().scores(estimate, batch)
        if batch.mixture is None:
            return scores
        rows = len(batch)
        distances = si_sdr(estimate.speech[:, None].expand(-1, rows, -1), clean_of(batch).expand(rows, -1, -1))
        same = batch.mixture[:, None] == batch.mixture
        nearest = torch.where(same, distances, -torch.inf).argmax(dim=1)
        wrong = nearest != torch.arange(rows, device=nearest.device)
        return {**scores, "wrong_speaker": wrong.double().tolist()}


class DenoisingLoss(SupervisedLoss):
    """Squared error of the compressed complex spectrum relative to that of silence; its minimum is the posterior mean.

    Arguments
    ---------
    fft_size, hop : int
        Of the transform, in samples.
    reliability_weight : float
        See `SupervisedLoss`.

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
        clean = clean_of(batch)
        scale = level_scale(clean, batch.lengths)
        speech, target = (
            compress(stft(scale * audio, self.fft_size, self.hop)) for audio in (estimate.speech.float(), clean)
        )
        return (speech - target).abs().square().sum() / target.abs().square().sum().clamp(min=1e-8)

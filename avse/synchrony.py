"""How late the audio is relative to the video, and how surely: from the lips and the speech of a clip."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from avse import model_folder
from avse.contracts.types import SAMPLES_PER_FRAME, VIDEO_RATE, Batch, Clip, Estimate
from avse.errors import AvseError
from avse.overlap import concatenate, cut, overlap_add
from avse.signal.levels import active_frames

if TYPE_CHECKING:
    from avse.nnet.lip_synchrony import LipSynchrony

AUTO = "auto"
NAME, KIND, DENOISER = "lip-synchrony", "lip_synchrony", "avse-small"
LONGEST_SECONDS = 60.0  # of a clip that are read
CONFIDENT = 0.9  # an offset is applied from this confidence on
LAGS = np.arange(-15, 16)  # video frames by which the audio may be late
_WINDOW = 25  # video frames that are compared as a whole
_VALID_SHARE, _ACTIVE_SHARE = 0.8, 0.5
_NEAR = 2  # lags so close to the best are no rivals of it
# Logistic regression of "right within one frame" on margin * sqrt(frames), fitted by benchmarks/synchrony.py on the
# development split with known shifts.
_SLOPE, _INTERCEPT = 1.79, -0.40
# The same of "mouth and speech are of one clip" on the lip score, against the speech of other clips of the corpus.
_BELONGING_SLOPE, _BELONGING_INTERCEPT = 12.9, -4.1


@dataclass(frozen=True)
class SyncEstimate:
    """How late the audio of a clip is.

    Arguments
    ---------
    offset_frames : int
        Video frames (40 ms) by which the audio is late relative to the video; negative: early.
    confidence : float
        Probability that this is right within one frame, if any lag of `LAGS` is; 0 where nothing could be compared.
    lip_score : float
        How much the lips tell: the cosine at this lag over the mean at lags that are not near it. About 0 where video
        and audio have nothing to do with each other.
    curve : array, shape (lags,)
        Mean cosine of windows of video and audio at each of `LAGS`; NaN where nothing could be compared.
    frames : int
        Video frames with a mouth that the curve is made of.
    evidence : float
        The cosine at this lag over the best that is not near it, times the square root of `frames`.
    """

    offset_frames: int
    confidence: float
    lip_score: float
    curve: np.ndarray
    frames: int
    evidence: float = 0.0

    @property
    def offset_seconds(self) -> float:
        return self.offset_frames / VIDEO_RATE

    @property
    def belongs(self) -> float:
        """Probability that the mouth and the speech belong together, if they do in half of all clips; 0 if unknown."""
        odds = _BELONGING_SLOPE * self.lip_score + _BELONGING_INTERCEPT
        return float(1 / (1 + np.exp(-odds))) if self.frames else 0.0

    @property
    def applied(self) -> float:
        """The offset in seconds where it is confident enough to be used; else 0."""
        return self.offset_seconds if self.confidence >= CONFIDENT else 0.0

    @classmethod
    def of_curve(cls, curve: np.ndarray, frames: int) -> SyncEstimate:
        """The estimate that a curve gives.

        >>> SyncEstimate.of_curve(np.where(LAGS == 3, 0.8, 0.1), frames=75).offset_seconds
        0.12
        """
        inner = curve[1:-1]
        # At the ends, few frames overlap in short clips: what rises there is a rival, but no peak.
        is_peak = (inner >= curve[:-2]) & (inner >= curve[2:])
        best = 1 + int(np.argmax(np.where(is_peak, inner, -np.inf)))
        others = curve[(np.abs(LAGS - LAGS[best]) > _NEAR) & ~np.isnan(curve)]
        if not is_peak.any() or not len(others):
            return cls(0, 0.0, 0.0, curve, 0)
        evidence = (curve[best] - others.max()) * np.sqrt(frames)
        confidence = 1 / (1 + np.exp(-(_SLOPE * evidence + _INTERCEPT)))
        lip_score = float(curve[best] - others.mean())
        return cls(int(LAGS[best]), float(confidence), lip_score, curve, frames, float(evidence))


def offset_of(offset: float | str) -> float | None:
    """What an option says: seconds by which the audio is late, negative where it is early; None for "auto".

    "auto" is estimated from the clip, and 0 where the estimate is not `CONFIDENT`.

    >>> offset_of("auto"), offset_of("-0.08")
    (None, -0.08)
    """
    if offset == AUTO:
        return None
    try:
        seconds = float(offset)
    except ValueError:
        seconds = np.nan
    if not abs(seconds) <= LONGEST_SECONDS:
        raise AvseError(
            f"offset {offset}: must be auto, or seconds between -{LONGEST_SECONDS:g} and {LONGEST_SECONDS:g}."
        )
    return seconds


def estimate_offset(clip: Clip, device: str | torch.device = "cpu", *, clean: bool = False) -> SyncEstimate:
    """How late the audio of a clip is, from its first minute.

    Arguments
    ---------
    clip : Clip
    device : str or torch.device
    clean : bool
        False: the audio is noisy. It is enhanced by `avse-small` without video first, so that a wrong offset cannot
        act: at -5 dB this finds the offset in 97 % of clips of 3 s (GRID), the noisy audio in 56 %.

    Returns
    -------
    SyncEstimate

    Paper: Chung and Zisserman, Out of time: automated lip sync in the wild, 2016.

    Example
    -------
    >>> estimate_offset(Clip(np.zeros(16000))).confidence  # no mouth is seen
    0.0
    """
    frames = min(len(clip.valid), round(LONGEST_SECONDS * VIDEO_RATE))
    # A tracker leaves black crops where it sees no mouth, in videos of crops too.
    mouth = clip.mouth[:frames]
    valid = clip.valid[:frames] & (mouth.max(axis=(1, 2)) > mouth.min(axis=(1, 2)))
    if valid.sum() < 2:
        return SyncEstimate.of_curve(np.full(len(LAGS), np.nan), 0)
    audio = clip.audio[: frames * SAMPLES_PER_FRAME]
    if not clean:
        audio = denoised(audio, str(device))
    network = _network(str(device))
    place = network.scale.device
    with torch.no_grad():
        seen = network.embed_video(torch.from_numpy(mouth)[None].to(place), torch.from_numpy(valid)[None].to(place))
        heard = network.embed_audio(torch.from_numpy(audio)[None].to(place))
        active = active_frames(torch.from_numpy(audio)[None], SAMPLES_PER_FRAME)[0].numpy()
    return SyncEstimate.of_curve(_curve(seen[0].cpu().numpy(), heard[0].cpu().numpy(), valid, active), int(valid.sum()))


def pooled(estimates: Sequence[SyncEstimate]) -> SyncEstimate:
    """The common offset of several clips, such as those of one recording, from the mean of their curves.

    >>> weak = SyncEstimate.of_curve(np.where(LAGS == 3, 0.2, 0.1), frames=25)
    >>> round(weak.confidence, 2), round(pooled([weak] * 10).confidence, 2)
    (0.62, 0.92)
    """
    curves = np.stack([estimate.curve for estimate in estimates])
    weights = np.array([estimate.frames for estimate in estimates])[:, None] * ~np.isnan(curves)
    with np.errstate(invalid="ignore"):
        curve = np.nansum(weights * np.nan_to_num(curves), axis=0) / weights.sum(axis=0)
    return SyncEstimate.of_curve(curve, sum(estimate.frames for estimate in estimates))


def _curve(video: np.ndarray, audio: np.ndarray, valid: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Mean cosine of windows of embeddings at each lag, of those windows that mostly show a mouth and hold speech."""
    video, audio = video - video[valid].mean(axis=0), audio - audio.mean(axis=0)
    curve = np.full(len(LAGS), np.nan)
    for index, lag in enumerate(LAGS.tolist()):
        first, last = max(0, -lag), min(len(video), len(audio) - lag)
        seen, heard = slice(first, last), slice(first + lag, last + lag)
        window = min(_WINDOW, last - first)
        if window < _WINDOW // 3:
            continue
        sums = functools.partial(_sums, window=window)
        counts = (sums(valid[seen]) >= _VALID_SHARE * window) & (sums(active[heard]) >= _ACTIVE_SHARE * window)
        product = sums((video[seen] * audio[heard]).sum(axis=1))
        power = sums((video[seen] ** 2).sum(axis=1)) * sums((audio[heard] ** 2).sum(axis=1))
        if counts.any():
            curve[index] = (product[counts] / np.sqrt(power[counts] + 1e-9)).mean()
    return curve


def _sums(values: np.ndarray, window: int) -> np.ndarray:
    """Sums over all windows of so many values."""
    return np.convolve(values.astype(np.float64), np.ones(window), "valid")


@functools.cache
def _network(device: str) -> LipSynchrony:
    from avse.nnet.lip_synchrony import LipSynchrony

    folder = model_folder.find(NAME)
    arguments, weights, _ = model_folder.read_network(folder, KIND)
    network = LipSynchrony(**arguments)
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        raise AvseError(f"{folder}: the weights do not fit the recipe ({error}). Install avse anew.") from error
    return network.to(device).eval()


def denoised(audio: np.ndarray, device: str = "cpu") -> np.ndarray:
    """The audio, shape (samples,), enhanced without video."""
    system = _denoiser(device)

    def estimates() -> Iterator[tuple[int, Estimate]]:
        for chunk in cut(Clip(audio)):
            yield chunk.start, system(Batch.from_clips([chunk.clip]).to(device)).unbind()[0].to("cpu")

    with torch.no_grad():
        return concatenate(list(overlap_add(estimates()))).speech.numpy()


@functools.cache
def _denoiser(device: str) -> torch.nn.Module:
    return model_folder.read(model_folder.find(DENOISER)).system.to(device).eval()

"""Enhancement of audio and video as they come: `Streamer`, for causal systems."""

from __future__ import annotations

import bisect
import math
import time as clock
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.nn import functional as F

from avse.contracts.plugin import Plugin
from avse.contracts.prior import Context
from avse.contracts.streaming import StreamingSystem, StreamState
from avse.contracts.types import MOUTH_SIZE, SAMPLE_RATE, SAMPLES_PER_FRAME, VIDEO_RATE, video_frames
from avse.errors import AvseError, AvseWarning
from avse.media.faces.live import LiveCropper
from avse.media.reader import parse_face, tracker_of
from avse.model import Model, load
from avse.signal.outliers import BLOCK_SECONDS, REPLACED, find_outliers
from avse.signal.stft import analysis_window, pool_to_video_frames, repeat_to_frames, stft_frames
from avse.sources import as_float, check_finite

if TYPE_CHECKING:
    from avse.contracts.mouth_tracker import MouthTracker

HOLD = 0.25  # seconds for which a picture stands in for those that are missing; the same as of a file
_AT_ONCE = 50  # frames that the network takes at once
_PICTURES = 64  # pictures that wait for their time
_LONGEST_WAIT = 2.0  # seconds; as many pictures fit
_RECENT = round(BLOCK_SECONDS * SAMPLE_RATE)
_TINY = 1e-11  # of a sum of squared windows
_NOTHING = np.zeros((MOUTH_SIZE, MOUTH_SIZE), np.uint8)


@dataclass
class Block:
    """What a stream gives back for a block.

    Arguments
    ---------
    speech : array, shape (samples,), float32
        The next samples of speech; as many as are finished, which may be none.
    reliability : array, shape (video_frames,), float32, in [0, 1]
        How far the video was trusted, of the video frames that are finished.
    speaking, audio_reliability : array, shape (video_frames,), float32, in [0, 1], or None
        Probability that the person seen speaks, and how far the audio was trusted; None if the model does not tell.
    latency : float
        Seconds of audio that came in and whose speech has not gone out.
    seconds : float
        What the block took.
    """

    speech: np.ndarray
    reliability: np.ndarray
    latency: float
    seconds: float
    speaking: np.ndarray | None = None
    audio_reliability: np.ndarray | None = None


class Streamer:
    """Enhances a stream block by block, with what the causal model gives for the whole clip.

    Time and memory for a block do not grow with the length of the stream. Blocks are of any size. All speech together,
    that of `finish` at its end, is as long as the audio.

    Pictures belong to the audio by their time: each video frame of 40 ms shows the latest picture taken before its
    middle, if that is less than 0.25 s old, as for a file. A picture that comes after its video frame is computed can
    only serve the following ones; `wait` gives pictures more time. The order in which pictures come does not matter,
    and a picture that comes twice counts once.

    Arguments
    ---------
    model : Model, or name or folder of one
        A causal model.
    tracker : str, MouthTracker, or None
        Finds the mouth in pictures that show more than it; see `avse.media.read_clip`.
    face : str, int or tuple
        Which of several faces to follow; see `avse.media.read_clip`.
    wait : float
        Seconds that the audio waits for pictures. They add to the latency.

    Attributes
    ----------
    latency : float
        Seconds from a sample to its speech, beside the time that computing takes: a window of the model's transform,
        the frames that the model looks ahead, and `wait`. A block that is no multiple of the hop adds at most one hop.
    hop : int
        Samples between frames of the transform.

    Raises
    ------
    AvseError
        If the model is not causal, or a part of it carries no state from block to block.

    Example
    -------
    >>> import avse
    >>> from avse import plugins
    >>> system = plugins.get("enhancer", "tf_masker")(channels=16, blocks=2, fusion_block=1, causal=True)
    >>> streamer = Streamer(avse.Model(system, ""))
    >>> [len(streamer.push(np.zeros(size, np.float32)).speech) for size in (320, 320, 100, 540)]
    [0, 320, 0, 640]
    >>> len(streamer.finish().speech)
    320
    """

    def __init__(
        self,
        model: Model | str | Path,
        *,
        tracker: str | MouthTracker | None = None,
        face: str | int | tuple[float, ...] = "largest",
        wait: float = 0.0,
    ) -> None:
        model = model if isinstance(model, Model) else load(model)
        self._system = _streaming_system(model)
        if not 0 <= wait <= _LONGEST_WAIT:
            raise AvseError(f"wait must be between 0 and {_LONGEST_WAIT} s, got {wait}.")
        weight = next(model.system.eval().parameters()).detach()
        fft_size, self.hop = self._system.fft_size, self._system.hop
        self._ratio = SAMPLES_PER_FRAME // self.hop
        self._wait = round(wait * SAMPLE_RATE)
        delay = self._system.delay
        self.latency = (fft_size + delay * self.hop + self._wait) / SAMPLE_RATE
        precision = torch.promote_types(weight.dtype, torch.float32)
        self._window = analysis_window(fft_size, weight.new_zeros((), dtype=precision))
        self._state = StreamState()
        self._pictures = _Pictures(tracker, face)
        self._received = self._given = 0  # samples
        self._early = fft_size // 2  # samples of the first frames that come before the first sample
        self._frame = 0  # the next frame of the transform
        self._last: float = math.inf  # frames of the whole stream
        self._late = delay  # frames to come that are not used
        self._audio = self._window.new_zeros(fft_size // 2)  # from the start of the next frame on
        # What the frames so far add to the samples from the next frame on, and the sum of their squared windows.
        self._tail = self._window.new_zeros(2, fft_size - self.hop)
        self._video: tuple[torch.Tensor, ...] | None = None  # features of the last video frame, and validity
        self._ready: list[torch.Tensor] = []  # speech that is finished
        self._by_frame = {"reliability": self._window.new_zeros(1, 0)}  # in the frames of the last video frame
        self._finished = False
        self._recent = np.zeros(0, np.float32)  # samples beside which outliers are found

    def push(self, samples: np.ndarray, picture: np.ndarray | None = None, time: float | None = None) -> Block:
        """Take the next samples, and a picture.

        Arguments
        ---------
        samples : array, shape (samples,)
            At 16 kHz; any number, also none. Integers have the full scale of their type.
        picture : array, or None
            A mouth crop of shape (88, 88); a frame of shape (height, width, 3), RGB, in which the mouth is found; or an
            empty array for a picture without a mouth. uint8.
        time : float, optional
            When the picture was taken, in seconds since the first sample. Default: when the first of `samples` was.

        Returns
        -------
        Block

        Raises
        ------
        AvseError
            If the samples or the picture are not as above, or the stream is finished. The stream is left as it was.
        """
        began = clock.perf_counter()
        if self._finished:
            raise AvseError("The stream is finished. Make a new Streamer for the next one.")
        samples = as_float(np.asarray(samples))
        if samples.ndim != 1:
            raise AvseError(f"Audio must be one channel of shape (samples,), got {samples.shape}.")
        check_finite(samples)
        outliers = find_outliers(samples, self._recent)
        if outliers is not None:
            warnings.warn(REPLACED, AvseWarning, stacklevel=2)
            samples = np.where(outliers, np.float32(0), samples)
        self._recent = np.concatenate([self._recent, samples])[-_RECENT:]
        if picture is not None:
            self._pictures.add(picture, self._received / SAMPLE_RATE if time is None else time)
        self._received += len(samples)
        self._audio = torch.cat([self._audio, torch.tensor(samples).to(self._audio)])
        self._advance((len(self._audio) - self._wait - self._system.fft_size) // self.hop + 1)
        return self._block(began)

    def finish(self) -> Block:
        """Take the end of the stream, and give the rest of the speech."""
        began = clock.perf_counter()
        if self._received and not self._finished:
            fft_size, video = self._system.fft_size, video_frames(self._received)
            self._last = stft_frames(self._received, fft_size, self.hop)
            frames = self._last - self._frame + self._system.delay
            missing = (frames - 1) * self.hop + fft_size - len(self._audio)
            self._audio = F.pad(self._audio, (0, max(0, missing)))
            self._advance(frames)
            self._ready.append(self._tail[0] / self._tail[1].clamp(min=_TINY))
            over = video * self._ratio - self._last  # negative: the last frame belongs to no video frame
            self._by_frame = {name: F.pad(values, (0, over)) for name, values in self._by_frame.items()}
        self._finished = True
        return self._block(began)

    def _advance(self, frames: int) -> None:
        """Compute the next frames."""
        for start in range(0, frames, _AT_ONCE):
            pieces = self._audio.unfold(0, self._system.fft_size, self.hop)[start : min(start + _AT_ONCE, frames)]
            with torch.inference_mode(), self._state.block():
                self._enhance(pieces)
            self._frame += len(pieces)
        if frames > 0:
            self._audio = self._audio[frames * self.hop :].clone()

    def _enhance(self, pieces: torch.Tensor) -> None:
        """Compute the next frames from their audio, shape (frames, samples)."""
        spectrum = torch.fft.rfft(pieces * self._window)[None]
        found = self._system.enhance_frames(spectrum, self._context(len(pieces)))
        late = min(self._late, len(pieces))
        self._late -= late
        used = found.speech[0, late:]  # without a frame there is no transform
        waves = torch.fft.irfft(used, self._system.fft_size) * self._window if len(used) else used.real
        squared = self._window.square()
        for wave in waves:
            total = torch.stack([wave, squared])
            total[:, : -self.hop] += self._tail
            now, self._tail = total[:, : self.hop], total[:, self.hop :]
            self._ready.append(now[0] / now[1].clamp(min=_TINY))
        known = self._by_frame if self._frame else {}
        self._by_frame = {
            name: torch.cat([known[name], values], dim=1) if name in known else values
            for name, values in ((name, values[:, late:]) for name, values in found.by_frame.items())
        }

    def _context(self, frames: int) -> Context:
        """The video of the next frames: of video frames that begin, and of the last one, which may not be over."""
        begun = self._frame % self._ratio
        first, last = self._frame // self._ratio + (begun > 0), (self._frame + frames - 1) // self._ratio
        if first <= last:
            end = video_frames(self._received)  # a frame of the transform may begin after it
            shown = [self._pictures.at(number) if number < end else None for number in range(first, last + 1)]
            mouth = torch.from_numpy(np.stack([_NOTHING if crop is None else crop for crop in shown]))[None]
            valid = torch.tensor([[crop is not None for crop in shown]], device=self._window.device)
            features = self._system.visual_features(mouth.to(self._window.device), valid)
            video: tuple[torch.Tensor, ...] | None = None if features is None else (features, valid)
            if begun and video is not None and self._video is not None:
                video = tuple(torch.cat(parts, dim=1) for parts in zip(self._video, video))
        else:
            video = self._video
        inside = torch.arange(self._frame, self._frame + frames, device=self._window.device)[None] < self._last
        if video is None:
            return Context(inside, torch.zeros_like(inside))
        self._video = video[0][:, -1:], video[1][:, -1:]
        of_features, of_valid = (repeat_to_frames(part, begun + frames, self._ratio)[:, begun:] for part in video)
        return Context(inside, of_valid & inside, of_features)

    def _block(self, began: float) -> Block:
        """What is finished."""
        speech = torch.cat(self._ready).float().cpu().numpy() if self._ready else np.zeros(0, np.float32)
        self._ready = []
        # Half a window comes before the first sample, and more after the last.
        early = min(self._early, len(speech))
        self._early -= early
        speech = speech[early:][: self._received - self._given]
        self._given += len(speech)
        told: dict[str, Any] = {}
        for name, values in self._by_frame.items():
            full = values.shape[1] // self._ratio
            told[name] = pool_to_video_frames(values[0], full, self._ratio).float().cpu().numpy()
            self._by_frame[name] = values[:, full * self._ratio :].clone()
        latency = (self._received - self._given) / SAMPLE_RATE
        return Block(speech=speech, latency=latency, seconds=clock.perf_counter() - began, **told)


class _Pictures:
    """Mouth crops by their time."""

    def __init__(self, tracker: str | MouthTracker | None, face: str | int | tuple[float, ...]) -> None:
        self._tracker, self._face = tracker, face
        self._cropper: LiveCropper | None = None
        self._times: list[float] = []
        self._crops: list[np.ndarray | None] = []

    def add(self, picture: np.ndarray, time: float) -> None:
        picture = np.asarray(picture)
        crop: np.ndarray | None
        if picture.dtype != np.uint8 or not math.isfinite(time):
            raise AvseError(f"A picture is uint8, and its time a number; got {picture.dtype} at {time}.")
        if picture.shape == _NOTHING.shape or not picture.size:
            crop = picture if picture.size else None
        elif picture.ndim == 3 and picture.shape[2] == 3:
            self._cropper = self._cropper or LiveCropper(tracker_of(self._tracker), parse_face(self._face))
            crop = self._cropper.crop(picture)
        else:
            raise AvseError(f"A picture has shape (88, 88) or (height, width, 3), not {picture.shape}.")
        place = bisect.bisect_left(self._times, time)
        if self._times[place : place + 1] == [time]:
            self._crops[place] = crop
        else:
            self._times.insert(place, time)
            self._crops.insert(place, crop)
        del self._times[:-_PICTURES], self._crops[:-_PICTURES]

    def at(self, number: int) -> np.ndarray | None:
        """The crop of a video frame; None if no mouth is known. Those before it are forgotten."""
        middle = (number + 0.5) / VIDEO_RATE
        last = max(0, bisect.bisect_right(self._times, middle) - 1)
        del self._times[:last], self._crops[:last]
        known = self._times and 0 <= middle - self._times[0] < HOLD
        return self._crops[0] if known else None


def _streaming_system(model: Model) -> StreamingSystem:
    system = model.system
    name = f"{model.name} ({type(system).__name__})"
    if not getattr(system, "causal", False):
        raise AvseError(
            f"{name} looks ahead, and cannot enhance a stream. Train a causal model, as avse_live.yaml of "
            "`avse recipe ls` does (model.causal, fusion.causal and visual_frontend.causal)."
        )
    if not getattr(system, "streams", False):
        parts = [part for part in system.modules() if isinstance(part, Plugin) and not part.streams]
        raise AvseError(
            f"{name} cannot enhance a stream: {type(parts[-1]).__name__} carries no state from block to block "
            "(`avse.contracts.streaming` says how). `avse enhance` enhances a file in chunks."
        )
    return cast(StreamingSystem, system)

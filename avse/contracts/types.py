"""What flows through `avse`: `Clip`, `Batch`, `Estimate`, and the one list of shapes and units.

Every docstring of the package writes shapes with these axis names:

========== ==========================================================================================
axis       meaning
========== ==========================================================================================
batch      clips processed together, padded at their end
samples    audio samples at `SAMPLE_RATE` (16 kHz), mono, float, full scale = 1.0
frames     video frames at `VIDEO_RATE` (25 per second); frame `f` covers samples `640 f ... 640 f + 639`
steps      time steps of a short-time Fourier transform ("audio clock"); an integer number per video frame
bins       frequency bins of the short-time Fourier transform
height     rows of a mouth crop, `MOUTH_SIZE` = 88 pixels
width      columns of a mouth crop, `MOUTH_SIZE` = 88 pixels
dim        features of a vector
========== ==========================================================================================

Mouth crops are grey `uint8`. `valid` is boolean per video frame: false where no mouth was seen. A clip of
`samples` samples has exactly `video_frames(samples)` frames, whatever its video was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000
VIDEO_RATE = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // VIDEO_RATE
MOUTH_SIZE = 88


def video_frames(samples: int) -> int:
    """Number of video frames that cover `samples` audio samples.

    >>> video_frames(16000), video_frames(1), video_frames(641)
    (25, 1, 2)
    """
    return -(-int(samples) // SAMPLES_PER_FRAME)


@dataclass
class Clip:
    """One talking person: sound, and the mouth where it was seen.

    Arguments
    ---------
    audio : array, shape (samples,), float32
        Mono sound at 16 kHz.
    mouth : array, shape (frames, 88, 88), uint8, or None
        Grey mouth crops at 25 frames per second. None: audio only.
    valid : array, shape (frames,), bool, or None
        False where no mouth was seen. None: true wherever there is a crop.
    clip_id : str
        A name for messages and tables.
    speaker : str
        Who talks; empty where nobody knows.
    intact : array, shape (frames,), bool, or None
        Where the mouth that is seen is the speaker's and nothing spoils it, where that is known (training).

    Crops are cut or padded (as invalid) to `video_frames(samples)`.

    Raises
    ------
    ValueError
        If the audio is not one-dimensional or the crops are not 88 x 88 uint8.

    Example
    -------
    >>> clip = Clip(np.zeros(1600, dtype=np.float32))
    >>> clip.mouth.shape, bool(clip.valid.any())
    ((3, 88, 88), False)
    """

    audio: np.ndarray
    mouth: np.ndarray | None = None
    valid: np.ndarray | None = None
    clip_id: str = "clip"
    speaker: str = ""
    intact: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.audio = np.ascontiguousarray(self.audio, dtype=np.float32)
        if self.audio.ndim != 1:
            raise ValueError(f"{self.clip_id}: audio must have shape (samples,), got {self.audio.shape}.")
        frames = video_frames(len(self.audio))
        mouth = np.zeros((frames, MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8)
        valid = np.zeros(frames, dtype=bool)
        if self.mouth is not None:
            given = np.asarray(self.mouth)
            if given.ndim != 3 or given.shape[1:] != (MOUTH_SIZE, MOUTH_SIZE) or given.dtype != np.uint8:
                raise ValueError(
                    f"{self.clip_id}: mouth crops must be uint8 of shape (frames, {MOUTH_SIZE}, {MOUTH_SIZE}), "
                    f"got {given.dtype} {given.shape}."
                )
            seen = np.ones(len(given), dtype=bool) if self.valid is None else np.asarray(self.valid, dtype=bool)
            if seen.shape != (len(given),):
                raise ValueError(f"{self.clip_id}: valid must have shape ({len(given)},), got {seen.shape}.")
            count = min(frames, len(given))
            mouth[:count], valid[:count] = given[:count], seen[:count]
        self.mouth, self.valid = mouth, valid
        if self.intact is not None:
            known = np.zeros(frames, dtype=bool)
            count = min(frames, len(self.intact))
            known[:count] = self.intact[:count]
            self.intact = known & valid

    def without_video(self) -> Clip:
        """The same sound with no frame valid: what an audio-only system would be given."""
        return replace(self, mouth=None, valid=None, intact=None)


@dataclass
class Batch:
    """Clips padded together; what every enhancer and every inference takes.

    Arguments
    ---------
    noisy : tensor, shape (batch, samples)
        The noisy sound, zero beyond each clip's length.
    lengths : tensor, shape (batch,), int64
        Samples of each clip.
    mouth : tensor, shape (batch, frames, 88, 88), uint8
        Mouth crops, zero beyond each clip's end and where invalid.
    valid : tensor, shape (batch, frames), bool
        Where a mouth was seen.
    clean, noise : tensor, shape (batch, samples), or None
        The parts of the mixture where they are known (training, evaluation).
    ids : list of str
        Names of the clips.
    speakers : list of str
        Who talks in each; empty where nobody knows.
    intact : tensor, shape (batch, frames), bool, or None
        Where the mouth that is seen is the speaker's and nothing spoils it, where that is known (training).
    mixture : tensor, shape (batch,), int64, or None
        Rows with one number are talkers of one mixture, each with their mouth. None: each row is a mixture of its own.

    Example
    -------
    >>> batch = Batch.from_clips([Clip(np.ones(1280, np.float32)), Clip(np.ones(640, np.float32))])
    >>> batch.noisy.shape, batch.lengths.tolist(), batch.valid.shape
    (torch.Size([2, 1280]), [1280, 640], torch.Size([2, 2]))
    """

    noisy: torch.Tensor
    lengths: torch.Tensor
    mouth: torch.Tensor
    valid: torch.Tensor
    clean: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    ids: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    intact: torch.Tensor | None = None
    mixture: torch.Tensor | None = None

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[Clip],
        clean: Sequence[np.ndarray] | None = None,
        noise: Sequence[np.ndarray] | None = None,
    ) -> Batch:
        """Pad clips (and the clean speech and noise they were mixed from, where known) into one batch.

        A crop of a single colour shows no mouth, whatever its tracker says, and is not valid here: a black picture
        gives bit for bit what no picture gives.
        """
        import torch  # here, so that commands that need no network start without it

        lengths = [len(clip.audio) for clip in clips]
        frames = max(video_frames(length) for length in lengths)
        mouth = np.zeros((len(clips), frames, MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8)
        valid = np.zeros((len(clips), frames), dtype=bool)
        intact = np.zeros((len(clips), frames), dtype=bool)
        for row, clip in enumerate(clips):
            seen = clip.valid & (clip.mouth.max(axis=(1, 2)) > clip.mouth.min(axis=(1, 2)))
            valid[row, : len(seen)] = seen
            if clip.intact is not None:
                intact[row, : len(seen)] = clip.intact & seen
            mouth[row, : len(seen)][seen] = clip.mouth[seen]
        return cls(
            noisy=_pad([clip.audio for clip in clips]),
            lengths=torch.tensor(lengths, dtype=torch.int64),
            mouth=torch.from_numpy(mouth),
            valid=torch.from_numpy(valid),
            clean=None if clean is None else _pad(clean),
            noise=None if noise is None else _pad(noise),
            ids=[clip.clip_id for clip in clips],
            speakers=[clip.speaker for clip in clips],
            intact=None if all(clip.intact is None for clip in clips) else torch.from_numpy(intact),
        )

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """The same batch on another device (arguments of `torch.Tensor.to`; no dtype)."""
        import torch

        moved: dict[str, Any] = {
            name: value.to(*args, **kwargs) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies faster; for a `DataLoader`."""
        import torch

        moved: dict[str, Any] = {
            name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)

    def without_video(self) -> Batch:
        """The same batch with no frame valid."""
        return replace(self, mouth=self.mouth.new_zeros(self.mouth.shape), valid=self.valid.new_zeros(self.valid.shape))

    def select(self, rows: Sequence[int]) -> Batch:
        """Some of the clips, in this order, as long as the longest of them."""
        rows = list(rows)
        samples = int(self.lengths[rows].max())
        frames = video_frames(samples)
        cut = lambda values, size: None if values is None else values[rows, :size]
        return Batch(
            noisy=cut(self.noisy, samples),
            lengths=self.lengths[rows],
            mouth=cut(self.mouth, frames),
            valid=cut(self.valid, frames),
            clean=cut(self.clean, samples),
            noise=cut(self.noise, samples),
            ids=[self.ids[row] for row in rows] if self.ids else [],
            speakers=[self.speakers[row] for row in rows] if self.speakers else [],
            intact=cut(self.intact, frames),
        )

    def __len__(self) -> int:
        return self.noisy.shape[0]


@dataclass
class Estimate:
    """What an enhancer or an inference found.

    Arguments
    ---------
    speech : tensor, shape (batch, samples) or, for one clip, (samples,)
        The voice.
    noise : tensor, like `speech`
        What is not the voice.
    reliability : tensor, shape (batch, frames) or (frames,), in [0, 1]
        How far the video was trusted; zero where it was not valid.
    lengths : tensor, shape (batch,), or None for one clip
        Samples of each clip.
    trace : list of float
        The objective by iteration, for iterative inference.
    timings : dict
        Seconds by stage (`decode`, `track`, `enhance`, `write`, ...).

    Example
    -------
    >>> import torch
    >>> estimate = Estimate(torch.zeros(2, 640), torch.zeros(2, 640), torch.ones(2, 1), torch.tensor([640, 320]))
    >>> [one.speech.shape[0] for one in estimate.unbind()]
    [640, 320]
    """

    speech: torch.Tensor
    noise: torch.Tensor
    reliability: torch.Tensor
    lengths: torch.Tensor | None = None
    trace: list[float] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    def select(self, rows: Sequence[int]) -> Estimate:
        """That of some of the clips of a batch, in this order, as long as the longest of them."""
        rows = list(rows)
        lengths = self.lengths[rows]
        samples = int(lengths.max())
        return replace(
            self,
            speech=self.speech[rows, :samples],
            noise=self.noise[rows, :samples],
            reliability=self.reliability[rows, : video_frames(samples)],
            lengths=lengths,
        )

    def unbind(self) -> list[Estimate]:
        """One `Estimate` for each clip, cut to its length."""
        if self.lengths is None:
            return [self]
        return [
            Estimate(
                speech=self.speech[row, :length],
                noise=self.noise[row, :length],
                reliability=self.reliability[row, : video_frames(length)],
                trace=list(self.trace),
                timings=dict(self.timings),
            )
            for row, length in enumerate(self.lengths.tolist())
        ]


def _pad(signals: Sequence[np.ndarray]) -> torch.Tensor:
    import torch

    padded = torch.zeros(len(signals), max(len(signal) for signal in signals))
    for row, signal in enumerate(signals):
        padded[row, : len(signal)] = torch.as_tensor(np.asarray(signal, dtype=np.float32))
    return padded

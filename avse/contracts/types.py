"""What flows through `avse`: `Clip`, `Batch`, `Estimate`, and the one list of shapes and units.

Every docstring of the package writes shapes with these axis names:

============ ====================================================================================================
axis         meaning
============ ====================================================================================================
batch        clips processed together, padded at their end
samples      audio samples at `SAMPLE_RATE` (16 kHz), mono, float, full scale = 1.0
video_frames frames of the video at `VIDEO_RATE` (25 per second); number `f` covers samples `640 f ... 640 f + 639`
frames       frames of a short-time Fourier transform; an integer number per video frame
bins         frequency bins of the short-time Fourier transform
height       rows of a mouth crop, `MOUTH_SIZE` = 88 pixels
width        columns of a mouth crop, `MOUTH_SIZE` = 88 pixels
dim          features of a vector
============ ====================================================================================================

Mouth crops are grey `uint8`. `valid` is boolean per video frame: false where no mouth was seen. A clip of
`samples` samples has exactly `video_frames(samples)` frames, whatever its video was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from avse import compatibility

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


@dataclass(init=False)
class Clip:
    """The audio of one speaker, and their mouth where the video shows it.

    Arguments
    ---------
    audio : array, shape (samples,), float32
        Mono, at 16 kHz.
    mouth : array, shape (video_frames, 88, 88), uint8, or None
        Grey mouth crops at 25 frames per second. None: audio only.
    valid : array, shape (video_frames,), bool, or None
        False where no mouth was seen. None: true wherever there is a crop.
    clip_id : str
        A name for messages and tables.
    speaker : str
        The name of the speaker; empty if it is not known.
    video_is_clean : array, shape (video_frames,), bool, or None
        Where the mouth is the speaker's own and nothing corrupts it, if that is known (training).

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
    mouth: np.ndarray
    valid: np.ndarray
    clip_id: str
    speaker: str
    video_is_clean: np.ndarray | None

    def __init__(
        self,
        audio: np.ndarray,
        mouth: np.ndarray | None = None,
        valid: np.ndarray | None = None,
        clip_id: str = "clip",
        speaker: str = "",
        video_is_clean: np.ndarray | None = None,
    ) -> None:
        self.audio = np.ascontiguousarray(audio, dtype=np.float32)
        self.clip_id, self.speaker, self.video_is_clean = clip_id, speaker, None
        if self.audio.ndim != 1:
            raise ValueError(f"{clip_id}: audio must have shape (samples,), got {self.audio.shape}.")
        frames = video_frames(len(self.audio))
        self.mouth = np.zeros((frames, MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8)
        self.valid = np.zeros(frames, dtype=bool)
        if mouth is not None:
            mouth = np.asarray(mouth)
            if mouth.ndim != 3 or mouth.shape[1:] != (MOUTH_SIZE, MOUTH_SIZE) or mouth.dtype != np.uint8:
                raise ValueError(
                    f"{clip_id}: mouth crops must be uint8 of shape (frames, {MOUTH_SIZE}, {MOUTH_SIZE}), "
                    f"got {mouth.dtype} {mouth.shape}."
                )
            valid = np.ones(len(mouth), dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
            if valid.shape != (len(mouth),):
                raise ValueError(f"{clip_id}: valid must have shape ({len(mouth)},), got {valid.shape}.")
            self.mouth[: len(mouth)], self.valid[: len(mouth)] = mouth[:frames], valid[:frames]
        if video_is_clean is not None:
            self.video_is_clean = np.zeros(frames, dtype=bool)
            self.video_is_clean[: len(video_is_clean)] = video_is_clean[:frames]
            self.video_is_clean &= self.valid

    def without_video(self) -> Clip:
        """The same audio with no valid frame: the input of an audio-only system."""
        return Clip(self.audio, clip_id=self.clip_id, speaker=self.speaker)


def shift_video(mouth: np.ndarray, valid: np.ndarray, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Mouth crops and their validity moved to audio that is `offset` seconds late, rounded to whole video frames.

    As many crops are given as there were; those that are missing are not valid.

    >>> shift_video(np.full((3, 88, 88), 7, np.uint8), np.ones(3, bool), 0.04)[1].tolist()
    [False, True, True]
    """
    if not (frames := round(offset * VIDEO_RATE)):
        return mouth, valid
    rows = np.arange(len(valid)) - frames
    there = (rows >= 0) & (rows < len(valid))
    rows = np.where(there, rows, 0)
    return mouth[rows] * there[:, None, None].astype(np.uint8), valid[rows] & there


@dataclass
class Batch:
    """Clips padded together; what every enhancer and every inference takes.

    Arguments
    ---------
    noisy : tensor, shape (batch, samples)
        The noisy audio, zero beyond each clip's length.
    lengths : tensor, shape (batch,), int64
        Samples of each clip.
    mouth : tensor, shape (batch, video_frames, 88, 88), uint8
        Mouth crops, zero beyond each clip's end and where invalid.
    valid : tensor, shape (batch, video_frames), bool
        Where a mouth was seen.
    clean, noise : tensor, shape (batch, samples), or None
        The parts of the mixture where they are known (training, evaluation).
    ids : list of str
        Names of the clips.
    speakers : list of str
        Names of the speakers; an empty one is not known.
    video_is_clean : tensor, shape (batch, video_frames), bool, or None
        Where the mouth is the speaker's own and nothing corrupts it, if that is known (training).
    scene : tensor, shape (batch, dim), or None
        An embedding of what is known of the noise (text, image, video, sound), for noise models and enhancers that take
        one (`scene_dim`). A row of zeros says nothing.
    mixture : tensor, shape (batch,), int64, or None
        Rows with one number are the speakers of one mixture: they have its audio, and each has a mouth of its own.
        They stand side by side. None: each row is a mixture of its own.

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
    video_is_clean: torch.Tensor | None = None
    scene: torch.Tensor | None = None
    mixture: torch.Tensor | None = None

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[Clip],
        clean: Sequence[np.ndarray] | None = None,
        noise: Sequence[np.ndarray] | None = None,
        sources: int | None = None,
    ) -> Batch:
        """Pad clips (and the clean speech and noise they were mixed from, where known) into one batch.

        A mixture of several speakers is given as one clip for each of them, one after the other, each with the audio
        of the mixture and the mouth of that speaker; `sources` is the number of speakers.

        A crop of a single colour shows no mouth, so that its frame is not valid here, whatever its tracker reported: a
        black video gives bit for bit the result of no video.
        """
        import torch  # here, so that commands that need no network start without it

        lengths = [len(clip.audio) for clip in clips]
        frames = max(video_frames(length) for length in lengths)
        mouth = np.zeros((len(clips), frames, MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8)
        valid = np.zeros((len(clips), frames), dtype=bool)
        video_is_clean = np.zeros((len(clips), frames), dtype=bool)
        for row, clip in enumerate(clips):
            valid_frames = clip.valid & (clip.mouth.max(axis=(1, 2)) > clip.mouth.min(axis=(1, 2)))
            count = len(valid_frames)
            valid[row, :count] = valid_frames
            if clip.video_is_clean is not None:
                video_is_clean[row, :count] = clip.video_is_clean & valid_frames
            mouth[row, :count][valid_frames] = clip.mouth[valid_frames]
        return cls(
            noisy=_pad([clip.audio for clip in clips]),
            lengths=torch.tensor(lengths, dtype=torch.int64),
            mouth=torch.from_numpy(mouth),
            valid=torch.from_numpy(valid),
            clean=None if clean is None else _pad(clean),
            noise=None if noise is None else _pad(noise),
            ids=[clip.clip_id for clip in clips],
            speakers=[clip.speaker for clip in clips],
            video_is_clean=(
                None if all(clip.video_is_clean is None for clip in clips) else torch.from_numpy(video_is_clean)
            ),
            mixture=None if sources is None else torch.arange(len(clips)) // sources,
        )

    @classmethod
    def of_speakers(cls, batches: Sequence[Batch], speakers: Sequence[str | None] = ()) -> Batch:
        """One batch of mixtures from one batch for each of their speakers.

        Arguments
        ---------
        batches : sequence of Batch
            The same mixtures, each time with the mouths of another speaker.
        speakers : sequence of (str or None)
            The names of the speakers, the same in all mixtures; None for a name that is not known. Empty: none is.

        Raises
        ------
        ValueError
            If there is no batch, or the number of names is not that of the batches.
        """
        import torch

        if not batches or len(speakers) not in (0, len(batches)):
            raise ValueError(f"every speaker needs one batch and one name, got {len(batches)} and {len(speakers)}.")
        first = batches[0]
        stacked = {
            name: torch.stack([getattr(batch, name) for batch in batches], dim=1).flatten(0, 1)
            for name, value in vars(first).items()
            if isinstance(value, torch.Tensor) and all(getattr(batch, name) is not None for batch in batches)
        }
        mixture = torch.arange(len(first), device=first.noisy.device).repeat_interleave(len(batches))
        return cls(
            **{**stacked, "mixture": mixture},
            ids=[name for name in first.ids for _ in batches],
            speakers=[name or "" for _ in range(len(first)) for name in speakers],
        )

    @property
    def sources(self) -> int:
        """How many speakers each mixture has.

        Raises
        ------
        ValueError
            If the mixtures have different numbers of speakers.
        """
        if self.mixture is None:
            return 1
        counts = set(self.mixture.unique(return_counts=True)[1].tolist())
        if len(counts) != 1:
            raise ValueError(f"all mixtures of a batch must have the same number of speakers, got {sorted(counts)}.")
        return counts.pop()

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
        """Some of the rows, in this order, as long as the longest of them, each a mixture of its own."""
        rows = list(rows)
        samples = int(self.lengths[rows].max())
        frames = video_frames(samples)
        return Batch(
            noisy=self.noisy[rows, :samples],
            lengths=self.lengths[rows],
            mouth=self.mouth[rows, :frames],
            valid=self.valid[rows, :frames],
            clean=None if self.clean is None else self.clean[rows, :samples],
            noise=None if self.noise is None else self.noise[rows, :samples],
            ids=[self.ids[row] for row in rows] if self.ids else [],
            speakers=[self.speakers[row] for row in rows] if self.speakers else [],
            video_is_clean=None if self.video_is_clean is None else self.video_is_clean[rows, :frames],
            scene=None if self.scene is None else self.scene[rows],
        )

    def __len__(self) -> int:
        return self.noisy.shape[0]


@dataclass
class Estimate:
    """The result of a system: the speech of one speaker, or of each speaker of a mixture.

    Where the mixtures of a batch had several speakers (`Batch.mixture`), `speech` and `reliability` have an axis
    `sources` after the batch, and the batch axis counts mixtures: enhancement is separation with one speaker.

    Arguments
    ---------
    speech : tensor, shape (batch, samples) or (batch, sources, samples); for one clip, without the batch
        The speech of each speaker, in the order of the rows of the batch.
    noise : tensor, shape (batch, samples); for one clip, (samples,)
        The noisy audio less all speech.
    reliability : tensor, shape (batch, video_frames) or (batch, sources, video_frames), in [0, 1]
        How far the video was trusted; zero where it was not valid.
    audio_reliability : tensor, like `reliability`, or None
        How far the audio was trusted, also where no video is valid; None if the system does not tell.
    speaking : tensor, like `reliability`, or None
        Probability that the person seen speaks, where the video is trusted; None if the system does not tell.
    lengths : tensor, shape (batch,), or None for one clip
        Samples of each clip.
    trace : list of float
        The objective by iteration, for iterative inference.
    timings : dict
        Seconds by stage (`decode`, `track`, `enhance`, `write`, ...).
    responsibility : tensor, like `reliability` with an axis `states` at its end, or None
        For a switching prior: the posterior probability of each of its states, frame by frame.
    states : tuple of str
        Names of these states.
    scene_trust : tensor, shape (batch,) or for one clip (), in [0, 1], or None
        How far the description of the noise (`Batch.scene`) was trusted; zero without one. None: the noise model takes
        none, or there was none.

    Example
    -------
    >>> import torch
    >>> estimate = Estimate(torch.zeros(2, 640), torch.zeros(2, 640), torch.ones(2, 1), torch.tensor([640, 320]))
    >>> [single.speech.shape[0] for single in estimate.unbind()]
    [640, 320]
    """

    speech: torch.Tensor
    noise: torch.Tensor
    reliability: torch.Tensor
    lengths: torch.Tensor | None = None
    trace: list[float] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    responsibility: torch.Tensor | None = None
    states: tuple[str, ...] = ()
    speaking: torch.Tensor | None = None
    audio_reliability: torch.Tensor | None = None
    scene_trust: torch.Tensor | None = None

    def select(self, rows: Sequence[int]) -> Estimate:
        """The estimates of some of the clips of a batch, in this order, as long as the longest of them.

        Raises
        ------
        ValueError
            If this is the estimate of one clip.
        """
        if self.lengths is None:
            raise ValueError("the estimate of one clip has no rows to select.")
        rows = list(rows)
        samples = int(self.lengths[rows].max())
        return replace(self._cut(rows, samples), lengths=self.lengths[rows])

    def unbind(self) -> list[Estimate]:
        """One `Estimate` for each clip, cut to its length."""
        if self.lengths is None:
            return [self]
        return [replace(self._cut(row, length), lengths=None) for row, length in enumerate(self.lengths.tolist())]

    def to(self, device: str) -> Estimate:
        """The same in single precision on another device."""
        moved = {
            name: value.to(device) if name == "lengths" else value.float().to(device)
            for name, value in vars(self).items()
            if value is not None and name in _TENSORS_OF_ESTIMATE
        }
        return replace(self, **moved)

    def by_source(self, batch: Batch) -> Estimate:
        """The estimate of mixtures from the estimates of their rows, for a system that treats each row by itself.

        Arguments
        ---------
        batch : Batch
            The batch whose rows were estimated.

        Returns
        -------
        Estimate
            With an axis `sources` if the rows of the batch belong to mixtures.
        """
        if batch.mixture is None:
            return self
        split = {
            name: value.unflatten(0, (-1, batch.sources))
            for name in ("speech", *_BY_VIDEO_FRAME)
            if (value := getattr(self, name)) is not None
        }
        return replace(
            self,
            **split,
            noise=batch.noisy[:: batch.sources] - split["speech"].sum(dim=1),
            lengths=batch.lengths[:: batch.sources],
            scene_trust=None if self.scene_trust is None else self.scene_trust[:: batch.sources],
        )

    def _cut(self, rows: int | list[int], samples: int) -> Estimate:
        frames = video_frames(samples)
        responsibility = None if self.responsibility is None else self.responsibility[rows][..., :frames, :]
        by_frame = {
            name: value[rows][..., :frames] for name in _BY_VIDEO_FRAME if (value := getattr(self, name)) is not None
        }
        return replace(
            self,
            **by_frame,
            speech=self.speech[rows][..., :samples],
            noise=self.noise[rows][..., :samples],
            trace=list(self.trace),
            timings=dict(self.timings),
            responsibility=responsibility,
            scene_trust=None if self.scene_trust is None else self.scene_trust[rows],
        )


_BY_VIDEO_FRAME = ("reliability", "audio_reliability", "speaking")
_TENSORS_OF_ESTIMATE = ("speech", "noise", *_BY_VIDEO_FRAME, "responsibility", "scene_trust", "lengths")


def _pad(signals: Sequence[np.ndarray]) -> torch.Tensor:
    import torch

    padded = np.zeros((len(signals), max(len(signal) for signal in signals)), dtype=np.float32)
    for row, signal in enumerate(signals):
        padded[row, : len(signal)] = signal
    return torch.from_numpy(padded)


for _cls in (Clip, Batch):
    compatibility.old_attribute(_cls, "intact", "video_is_clean")

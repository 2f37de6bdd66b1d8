"""What a user has, as a clip: a file, bytes, an array, a tensor."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict, TypeGuard

import numpy as np
import torch

from avse.contracts.types import SAMPLE_RATE, Clip, shift_video
from avse.errors import AvseError, AvseWarning
from avse.files import named
from avse.signal.outliers import BLOCK_SECONDS, REPLACED, without_outliers
from avse.synchrony import estimate_offset, offset_of
from avse.tracks import parse_track

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from avse.contracts.mouth_tracker import MouthTracker

Media = str | Path | bytes | BinaryIO
Source = Media | Clip | np.ndarray | torch.Tensor | Sequence[float]
_RATES = (1_000, 1_000_000)  # of audio that is given as samples, in Hz
_TAKEN = (
    "Give a path, bytes, an open file, a Clip, or one channel of shape (samples,): floats of full scale 1, or integers "
    "of up to 32 bits. A list of several clips goes to Model.enhance_batch."
)


class Decoding(TypedDict, total=False):
    """How the video of a source is decoded; see `avse.media.read_clip`."""

    video: str | Path | None
    use_video: bool
    roi: str
    face: str | int
    tracker: str | MouthTracker | None


class Reading(Decoding, total=False):
    """How the video of a source is decoded, and aligned with the audio: see `avse.synchrony.offset_of`; which track."""

    offset: float | str
    track: int | str


def as_clip(
    source: Source,
    *,
    sample_rate: int = SAMPLE_RATE,
    silent: bool = False,
    offset: float | str = 0.0,
    track: int | str = 0,
    **reading: Unpack[Decoding],
) -> Clip:
    """A `Clip` of anything that `Model.enhance` takes.

    >>> as_clip(np.zeros(8000), sample_rate=8000).audio.shape
    (16000,)
    """
    if unknown := set(reading) - set(Decoding.__annotations__):
        raise TypeError(
            f"unexpected argument {', '.join(sorted(unknown))}; valid: {', '.join(Reading.__annotations__)}"
        )
    seconds = offset_of(offset)
    if is_media(source):
        from avse.media.reader import open_clip, stored

        with stored(source) as path, open_clip(path, silent=silent, track=parse_track(track) or 0, **reading) as reader:
            clip = next(reader.chunks()).clip
            for message in reader.info.warnings:
                warnings.warn(f"{Path(named(path)).name}: {message}", AvseWarning, stacklevel=3)
    elif isinstance(source, Clip):
        audio = _cleaned(source.audio, SAMPLE_RATE)
        clip = source if audio is source.audio else replace(source, audio=audio)
    else:
        clip = Clip(_samples_of(source, sample_rate))
        if reading.get("video") is not None:
            raise AvseError("video= goes with an audio file. For an array, build avse.Clip(audio, mouth, valid).")
    if not len(clip.audio):
        raise AvseError("The audio is empty: at least one sample is needed.")
    check_finite(clip.audio)
    clip = clip if reading.get("use_video", True) else clip.without_video()
    seconds = estimate_offset(clip).applied if seconds is None else seconds
    if not seconds or not clip.valid.any():
        return clip
    return Clip(clip.audio, *shift_video(clip.mouth, clip.valid, seconds), clip.clip_id, clip.speaker)


def is_media(source: Any) -> TypeGuard[Media]:
    """Whether a source is a path, bytes or an open file."""
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read")


def _samples_of(source: Any, sample_rate: float) -> np.ndarray:
    """Audio at 16 kHz, full scale 1, of an array, tensor or list of numbers of one channel; shape (samples,)."""
    check_range("sample_rate", sample_rate, *_RATES)
    try:
        if isinstance(source, torch.Tensor):
            source = source.detach().cpu()
            source = (source.float() if source.is_floating_point() else source).numpy()
        audio = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AvseError(f"A {type(source).__name__} is no audio ({error}). {_TAKEN}") from error
    if audio.ndim == 2 and 1 in audio.shape:  # (1, samples) or (samples, 1)
        audio = audio.reshape(-1)
    if audio.ndim != 1 or audio.dtype.kind not in "fiu" or audio.dtype.itemsize == 8 and audio.dtype.kind != "f":
        raise AvseError(f"A {type(source).__name__} of {audio.dtype}, shape {audio.shape}, is no audio. {_TAKEN}")
    audio = _cleaned(as_float(audio), round(sample_rate))
    if sample_rate != SAMPLE_RATE and len(audio):
        import soxr

        audio = soxr.resample(audio, sample_rate, SAMPLE_RATE)
    return audio


def check_range(name: str, value: float | None, least: float, most: float) -> None:
    """Refuse an argument that is no number within its limits, with an `AvseError`."""
    if value is not None and not (isinstance(value, (int, float, np.number)) and least <= value <= most):
        raise AvseError(f"{name} {value!r}: must be a number from {least:g} to {most:g}.")


def as_float(samples: np.ndarray) -> np.ndarray:
    """Samples as float32 with full scale 1.0; integers have the full scale of their type.

    >>> as_float(np.array([-32768, 16384], np.int16)).tolist(), as_float(np.array([128, 0], np.uint8)).tolist()
    ([-1.0, 0.5], [0.0, -1.0])
    """
    if np.issubdtype(samples.dtype, np.integer):
        half = 2 ** (8 * samples.dtype.itemsize - 1)
        samples = samples / half - (1 if samples.dtype.kind == "u" else 0)
    return np.asarray(samples, dtype=np.float32)


def _cleaned(audio: np.ndarray, rate: int) -> np.ndarray:
    """Audio in which outliers are silence, with a warning."""
    size, found = max(1, round(BLOCK_SECONDS * rate)), list[None]()
    blocks = (audio[start : start + size] for start in range(0, len(audio), size))
    parts = list(without_outliers(blocks, lambda: found.append(None)))
    if not found:
        return audio
    warnings.warn(REPLACED, AvseWarning, stacklevel=4)
    return np.concatenate(parts)


def check_finite(audio: np.ndarray) -> None:
    """Refuse audio that is not a number somewhere, with an `AvseError`."""
    if not np.isfinite(audio).all():
        raise AvseError("The audio holds NaN or infinite samples. Replace them (numpy.nan_to_num) first.")


def lips_of(source: Source, **reading: Unpack[Reading]) -> Clip:
    """A `Clip` whose lips speech is drawn from. A file that shows no mouth is refused where video was asked for."""
    clip = as_clip(source, silent=True, **reading)
    if not isinstance(source, Clip) and reading.get("use_video", True) and not clip.valid.any():
        raise AvseError(
            f"{source if isinstance(source, (str, Path)) else 'The source'}: no mouth is seen, so there are no lips to "
            "draw speech from. With --no-video (use_video=False) any speech is drawn."
        )
    return clip

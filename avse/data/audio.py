"""Audio files of a corpus: read as mono at 16 kHz, written as lossless FLAC."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.files import atomic_path


def read_audio(path: str | Path) -> np.ndarray:
    """An audio file as mono at 16 kHz: wav, flac, ogg and opus by libsndfile, others by FFmpeg.

    Arguments
    ---------
    path : path

    Returns
    -------
    array, shape (samples,), float32

    Raises
    ------
    AvseError
        If the file cannot be read, holds no samples, or holds samples that are not finite.

    Example
    -------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "tone.flac"
    >>> write_audio(target, np.full(800, 0.25))
    >>> read_audio(target)[:2].round(3).tolist()
    [0.25, 0.25]
    """
    import soundfile

    try:
        samples, rate = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError):
        return _by_ffmpeg(path)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not len(mono) or not np.isfinite(mono).all():
        raise AvseError(f"{path}: holds {'samples that are not finite' if len(mono) else 'no samples'}.")
    if rate != SAMPLE_RATE:
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _by_ffmpeg(path: str | Path) -> np.ndarray:
    from avse.media.decode import AudioSource

    source = AudioSource(path)
    with source.container:
        return np.concatenate(list(source.blocks()))


def write_audio(path: str | Path, samples: np.ndarray) -> None:
    """Write mono audio at 16 kHz: 24-bit for `.flac`, 32-bit float for `.wav`; nothing half-written is left.

    Arguments
    ---------
    path : path ending in `.flac`, `.wav` or `.ogg`
    samples : array, shape (samples,)
        Full scale is 1.0; beyond it FLAC clips.

    Raises
    ------
    AvseError
        If the file cannot be written.
    """
    import soundfile

    subtype = {".flac": "PCM_24", ".ogg": "VORBIS"}.get(Path(path).suffix.lower(), "FLOAT")
    with atomic_path(path) as temporary:
        try:
            soundfile.write(os.fsencode(temporary), np.asarray(samples, dtype=np.float32), SAMPLE_RATE, subtype=subtype)
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            raise AvseError(
                f"{path}: cannot be written ({error}). Name a .flac or .wav file on a disk with room."
            ) from error

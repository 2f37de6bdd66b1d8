"""Audio to score: read, found by the name of their utterance, cut to one length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.files import file_below

LENGTH_TOLERANCE = SAMPLE_RATE // 10
_AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_VIDEO = (".mp4", ".mkv", ".mov", ".m4a", ".webm", ".avi")


def find_estimate(folder: Path, utterance: Utterance) -> Path:
    """The file of an estimate in a folder.

    Its name is `<id>.wav`, or another extension, or `<id>.enhanced.wav`; slashes of the id are folders or underscores.
    The name of the noisy file serves in place of the id, as `avse enhance` writes it.

    Raises
    ------
    AvseError
        If there is none, or more than one.
    """
    names = [utterance.id, utterance.id.replace("/", "_")]
    if utterance.noisy is not None:
        names.append(utterance.noisy.stem)
    for name in dict.fromkeys(names):
        paths = [file_below(folder, name, mark + suffix) for mark in ("", ".enhanced") for suffix in _AUDIO + _VIDEO]
        files = [path for path in paths if path.is_file()]
        if len(files) > 1:
            raise AvseError(f"more than one estimate: {', '.join(path.name for path in files)}; keep one")
        if files:
            return files[0]
    raise AvseError(f"no estimate {folder / utterance.id}.wav (or .flac, .enhanced.wav, ...)")


def read_sound(path: Path) -> tuple[np.ndarray, str]:
    """Mono audio at 16 kHz, shape (samples,), and a note where it was resampled."""
    if is_video(path):
        from avse.media import read_clip

        return read_clip(path, use_video=False).audio, ""
    import soundfile

    from avse.data.audio import read_audio

    audio = read_audio(path)
    rate = soundfile.info(str(path)).samplerate
    return audio, "" if rate == SAMPLE_RATE else f"{path.name} resampled from {rate} to {SAMPLE_RATE} Hz"


def is_video(path: Path) -> bool:
    """Whether the extension is that of a container that may hold a video."""
    return path.suffix.lower() in _VIDEO


def cut_to_common(signals: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Cut signals of shape (samples,) that start together to the shortest, with a note where something was cut.

    Raises
    ------
    AvseError
        If lengths differ by more than `LENGTH_TOLERANCE` (0.1 s).

    Example
    -------
    >>> cut_to_common({"estimate": np.zeros(100), "clean": np.zeros(90)})[1]
    'estimate 100, clean 90 samples: cut to 90'
    """
    sizes = {name: audio.size for name, audio in signals.items()}
    shortest, longest = min(sizes.values()), max(sizes.values())
    listed = ", ".join(f"{name} {size}" for name, size in sizes.items()) + " samples"
    if longest - shortest > LENGTH_TOLERANCE:
        raise AvseError(f"lengths differ by more than {LENGTH_TOLERANCE / SAMPLE_RATE:g} s: {listed}")
    note = "" if longest == shortest else f"{listed}: cut to {shortest}"
    return {name: audio[:shortest] for name, audio in signals.items()}, note

"""Decoded clips on disk: audio at 16 kHz and mouth crops, so that no clip is decoded or tracked twice."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.mouth_tracker import MouthTracker
from avse.contracts.types import Clip, shift_video
from avse.data.audio import read_audio
from avse.data.download import opened
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.files import atomic_path

_PCM = 32767.0
_BLOCK = 1 << 16


class ClipCache:
    """A folder of decoded clips, filled on first use.

    Two small arrays stand for each utterance, named by a hash of what its files hold: the audio as 16-bit samples, and
    the crops with their validity. Deleting the folder loses nothing but time; an interrupted fill goes on where it
    stopped.

    Arguments
    ---------
    folder : path
        Where to keep the arrays; made if missing.
    tracker : str, MouthTracker, or None
        Finds the mouths: see `avse.media.read_clip`. Each tracker's crops are kept apart.
    in_memory : bool
        True: `fill` also holds the arrays in memory (about 0.2 MB a second of video), where processes that are forked
        after it share them; for machines that train faster than they read.

    Example
    -------
    >>> import tempfile, soundfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "a.wav", np.zeros(1600), 16000)
    >>> ClipCache(folder / "cache").sound(Utterance("a", clean=folder / "a.wav")).shape
    (1600,)
    """

    def __init__(self, folder: str | Path, tracker: str | MouthTracker | None = None, in_memory: bool = False) -> None:
        self.folder, self.tracker, self.in_memory = Path(folder), tracker, in_memory
        self._audio: dict[Path, np.ndarray] = {}
        self._mouths: dict[Path, tuple[np.ndarray, np.ndarray]] = {}
        self._names: dict[str, str] = {}
        settings = {} if tracker is None or isinstance(tracker, str) else vars(tracker)
        shown = sorted((name, repr(value)) for name, value in settings.items() if not name.startswith("_"))
        name = getattr(tracker, "plugin_name", tracker) or "mouth"
        self._crops = f"{name}-{hashlib.sha1(repr(shown).encode()).hexdigest()[:8]}.npz"

    def sound(self, utterance: Utterance) -> np.ndarray:
        """Audio of an utterance (its clean speech, else its noise, else its noisy speech).

        Returns
        -------
        array, shape (samples,), int16
            Mapped from disk; divide by 32767 for full scale 1.0 (`excerpt` does).
        """
        if in_shard(utterance):
            return np.asarray(_member(utterance, "sound"))
        if utterance.audio in self._audio:
            return self._audio[utterance.audio]
        target = self._path(utterance.audio, "sound.npy")
        if not target.is_file():
            audio = read_audio(utterance.audio)
            with atomic_path(target) as path:
                np.save(path, np.round(np.clip(audio, -1, 1) * _PCM).astype(np.int16))
        return np.load(target, mmap_mode="r")

    def excerpt(self, utterance: Utterance, start: int, samples: int) -> np.ndarray:
        """Part of the audio, shape (at most samples,), float32."""
        return np.asarray(self.sound(utterance)[start : start + samples], dtype=np.float32) / _PCM

    def mouth(self, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        """Mouth crops of an utterance with a video, on the clock of its audio: moved by the utterance's offset.

        Returns
        -------
        mouth : array, shape (video_frames, 88, 88), uint8
        valid : array, shape (video_frames,), bool
        """
        if utterance.video is None:
            raise AvseError(f"{utterance.place or utterance.id}: {utterance.id!r} has no video.")
        return shift_video(*self._crops_of(utterance), utterance.offset)

    def _crops_of(self, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        assert utterance.video is not None
        if in_shard(utterance):
            with _member(utterance, "mouth") as arrays:
                return arrays["mouth"], arrays["valid"]
        if utterance.video in self._mouths:
            return self._mouths[utterance.video]
        target = self._path(utterance.video, self._crops)
        if not target.is_file():
            from avse.media import read_clip

            # The audio of a mixture may go with a part of the video only.
            part = "video_span" in utterance.extra
            clip = read_clip(
                utterance.video if part else utterance.audio,
                video=None if part else utterance.video,
                silent=part,
                tracker=self.tracker,
            )
            with atomic_path(target) as path:
                np.savez(path, mouth=clip.mouth, valid=clip.valid)
        with np.load(target) as arrays:
            return arrays["mouth"], arrays["valid"]

    def clip(self, utterance: Utterance) -> Clip:
        """The whole utterance as a `Clip`."""
        audio = self.excerpt(utterance, 0, len(self.sound(utterance)))
        if utterance.video is None:
            return Clip(audio, clip_id=utterance.id)
        return Clip(audio, *self.mouth(utterance), clip_id=utterance.id)

    def fill(self, utterances: Sequence[Utterance], video: bool = True, progress: bool = True) -> None:
        """Decode all utterances now.

        Arguments
        ---------
        utterances : sequence of Utterance
        video : bool
            False: only the audio.
        progress : bool
            Show a progress bar.
        """
        from rich.console import Console
        from rich.progress import track

        utterances = [u for u in utterances if not in_shard(u)]
        todo = [u for u in utterances if not self._is_filled(u, video)]
        shown, console = progress and bool(todo), Console(stderr=True)
        for utterance in track(todo, f"Decoding {len(todo)} clips", console=console, disable=not shown):
            self.sound(utterance)
            if video and utterance.video is not None:
                self.mouth(utterance)
        for utterance in utterances if self.in_memory else ():
            self._audio[utterance.audio] = np.array(self.sound(utterance))
            if video and utterance.video is not None:
                self._mouths[utterance.video] = self._crops_of(utterance)

    def _is_filled(self, utterance: Utterance, video: bool) -> bool:
        if not self._path(utterance.audio, "sound.npy").is_file():
            return False
        return not video or utterance.video is None or self._path(utterance.video, self._crops).is_file()

    def _path(self, source: Path, kind: str) -> Path:
        try:
            state = source.stat()
        except OSError as error:
            raise AvseError(f"{source}: cannot be read ({error.strerror}). Check the manifest's paths.") from error
        key = f"{source.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        if key not in self._names:
            self._names[key] = _content_name(source, state.st_size)
        name = self._names[key]
        path = self.folder / name[:2] / f"{name}.{kind}"
        if path.is_file():
            return path
        # The last release named arrays by path, size and time of the file.
        old = hashlib.sha1(key.encode()).hexdigest()
        old_path = self.folder / old[:2] / f"{old}.{kind}"
        return old_path if old_path.is_file() else path


def in_shard(utterance: Utterance) -> bool:
    """Whether the files of an utterance are members of a tar file: see `avse.data.shards`."""
    return "sound" in utterance.extra and utterance.audio.suffix == ".tar"


def _member(utterance: Utterance, kind: str) -> Any:
    """What NumPy reads of an utterance's member of a tar file."""
    try:
        offset, size = map(int, utterance.extra[kind].split(":"))
        if utterance.audio.is_file():
            with open(utterance.audio, "rb") as file:
                file.seek(offset)
                return np.load(io.BytesIO(file.read(size)))
        return np.load(io.BytesIO(_fetched(Path(f"{utterance.audio}.url").read_text(), offset, size)))
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise AvseError(
            f"{utterance.place or utterance.id}: {utterance.audio} does not hold its {kind} ({error}). Fetch it again."
        ) from error


def _fetched(url: str, offset: int, size: int) -> bytes:
    """Part of a file at an address. A server that is busy, or fails once, is asked again."""
    for wait in (0.5, 2.0, 8.0, None):
        try:
            with opened(url, offset, size) as source:
                return source.read()
        except AvseError:
            if wait is None:
                raise
            time.sleep(wait)
    raise AssertionError


def _content_name(source: Path, size: int) -> str:
    """A name for what a file holds: of its size, and of blocks at its start, middle and end."""
    digest = hashlib.sha1(str(size).encode())
    with open(source, "rb") as file:
        for start in (0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()

"""`read_clip` and `open_clip`: a media file as `Clip`s, whole or chunk by chunk."""

from __future__ import annotations

import io
import os
import queue
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from avse.contracts.mouth_tracker import MouthTracker
from avse.contracts.types import MOUTH_SIZE, SAMPLE_RATE, SAMPLES_PER_FRAME, VIDEO_RATE, Clip, video_frames
from avse.errors import AvseError
from avse.media.decode import AudioSource, SilentSource, VideoSource, audio_source, video_stream
from avse.media.faces.crop import MouthCropper

DEFAULT_TRACKER = "mtcnn"
_CROPS_AHEAD = 250  # kept while a chunk before them is enhanced
_Item = TypeVar("_Item")
_FEW = 0.1  # share of video frames with a mouth below which there is a warning


@dataclass
class MediaInfo:
    """Properties of a media file.

    Arguments
    ---------
    path : path
        The file with the audio.
    video_path : path, or None
        The file with the video; None: audio only.
    sample_rate, channels : int
    layout, sample_format : str
    channel_names : list of str
        Of the audio as stored: see `AudioSource`.
    track, tracks : int
        The audio track that is read, and how many there are.
    duration : float, or None
        Seconds of audio by the header of the file, if it has one.
    audio_start, video_start : float
        Times of the first sample and the first video frame on their files' clocks, in seconds.
    fps, size, rotation : float, (int, int), int
        Of the video as stored (clockwise degrees); None, None, 0 without one.
    warnings : list of str
        Defects that were corrected; grows as the file is read.
    """

    path: Path
    video_path: Path | None
    sample_rate: int
    channels: int
    layout: str
    channel_names: list[str]
    sample_format: str
    track: int
    tracks: int
    duration: float | None
    audio_start: float
    video_start: float = 0.0
    fps: float | None = None
    size: tuple[int, int] | None = None
    rotation: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass
class Chunk:
    """A part of a file.

    Arguments
    ---------
    clip : Clip
        The part.
    index : int
        Its number, from 0.
    start : int
        Its first sample in the 16 kHz audio of the file; a multiple of 640.
    overlap : int
        Samples at its start that are also in the chunk before.
    is_last : bool
        Whether it is the last.
    """

    clip: Clip
    index: int
    start: int
    overlap: int
    is_last: bool


class ClipReader:
    """A media file, read once from start to end in bounded memory. `open_clip` makes it.

    Attributes
    ----------
    info : MediaInfo
        Properties of the file.
    samples : int
        Samples at the file's own rate read so far; after the last chunk, the length of the audio.
    offset : float
        Seconds by which the audio is late relative to the video; it may be set until the first chunk is read. Crops are
        moved as much, rounded to whole video frames.
    boxes : list
        The face in each video frame read so far, without the offset: see `MouthCropper.box`.
    """

    def __init__(
        self,
        audio: AudioSource | SilentSource,
        video: VideoSource | None,
        cropper: MouthCropper | None,
        info: MediaInfo,
    ):
        self.info, self.offset = info, 0.0
        self._audio, self._video, self._cropper = audio, video, cropper
        self._blocks: Iterator[np.ndarray] = audio.blocks()
        self._crops: Iterator[tuple[np.ndarray, bool]] = iter(())
        self.boxes: list[tuple[float, ...] | None] = []
        self._ahead: _Ahead[tuple[np.ndarray, bool, tuple[float, ...] | None]] | None = None
        if video is not None and cropper is not None:
            found = ((*crop, cropper.box) for crop in cropper.run(video.frames(self.start)))
            self._ahead = _Ahead(found, _CROPS_AHEAD)
            self._crops = self._noted(self._ahead)
        self._used = False
        self._seen = self._asked = 0  # video frames

    @property
    def samples(self) -> int:
        return self._audio.samples

    @property
    def start(self) -> float:
        """Start of the audio on the clock of the file with the video, in seconds."""
        if self._video is not None and self._video.path != self._audio.path:
            return self._video.zero
        return self._audio.start

    def tags(self, of_file: bool = True) -> dict[str, str]:
        """Tags of the file with the audio (unless told otherwise) and of its track, by their names in small letters."""
        stream = getattr(self._audio, "stream", None)
        whole = self._audio.container.metadata if of_file else {}
        found = {**whole, **({} if stream is None else stream.metadata)}
        return {key.lower(): value for key, value in found.items()}

    def keep(self, mono: bool = False) -> None:
        """Keep the audio at the file's own rate as it is read, until `kept` takes it; `mono`: its down-mix."""
        if isinstance(self._audio, AudioSource):
            self._audio.kept, self._audio.keep_mono = deque(), mono

    def kept(self) -> np.ndarray:
        """What was read since the last call, shape (channels, samples), float32; after `keep`."""
        assert isinstance(self._audio, AudioSource) and self._audio.kept is not None
        blocks = list(self._audio.kept)
        self._audio.kept.clear()
        return np.concatenate(
            [np.zeros((1 if self._audio.keep_mono else self.info.channels, 0), np.float32), *blocks], axis=1
        )

    def skip(self) -> None:
        """Read the audio to its end without returning it, so that `samples` is known."""
        if not self._used:
            self._used = True
            self._audio.skip()

    def head(self, seconds: float) -> Clip:
        """The start of the file as it is, without the offset; `chunks` gives it again."""
        self.look_ahead()
        wanted = round(seconds * VIDEO_RATE) * SAMPLES_PER_FRAME
        blocks: list[np.ndarray] = []
        while sum(map(len, blocks)) < wanted and (block := next(self._blocks, None)) is not None:
            blocks.append(block)
        audio = np.concatenate([*blocks, np.zeros(0, np.float32)])[:wanted]
        crops = list(islice(self._crops, video_frames(len(audio))))
        self._blocks, self._crops = chain(blocks, self._blocks), chain(crops, self._crops)
        mouth = np.stack([crop for crop, _ in crops]) if crops else None
        return Clip(audio, mouth, np.array([valid for _, valid in crops]) if crops else None, self.info.path.stem)

    def chunks(self, seconds: float | None = None, overlap_seconds: float = 0.0) -> Iterator[Chunk]:
        """Consecutive parts of the file. A file shorter than `seconds` has one part, that of `read_clip`.

        Arguments
        ---------
        seconds : float, or None
            Length of a part, in whole video frames. None: one part, the whole file.
        overlap_seconds : float
            Length of the end of a part that the next one repeats.

        Yields
        ------
        Chunk
        """
        if self._used:
            raise AvseError(f"{self.info.path}: already read; open it again to read it again.")
        self._used = True
        self.look_ahead()
        size = None if seconds is None else max(1, round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME))
        shared = round(overlap_seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
        if size is not None and not 0 <= shared < size:
            raise ValueError(f"overlap_seconds must be at least 0 and less than seconds, got {overlap_seconds}.")
        blocks, crops = self._blocks, shifted(self._crops, self.offset)
        audio, ended = np.zeros(0, np.float32), False
        mouth, valid = np.zeros((0, MOUTH_SIZE, MOUTH_SIZE), np.uint8), np.zeros(0, bool)
        start = index = held = 0
        while True:
            wanted = np.inf if size is None else size * SAMPLES_PER_FRAME
            parts = [audio]
            have = len(audio)
            while not ended and have <= wanted:  # one sample more than the chunk shows whether it is the last
                block = next(blocks, None)
                ended = block is None
                parts += [] if block is None else [block]
                have += 0 if block is None else len(block)
            audio = np.concatenate(parts)
            is_last = have <= wanted
            here = have if is_last else int(wanted)
            fresh = list(islice(crops, video_frames(here) - len(valid)))
            self._seen += sum(crop_valid for _, crop_valid in fresh)
            self._asked += len(fresh)
            if fresh:
                mouth = np.concatenate([mouth, np.stack([crop for crop, _ in fresh])])
                valid = np.concatenate([valid, np.array([crop_valid for _, crop_valid in fresh])])
            if is_last and self._cropper is not None:
                try:
                    self._cropper.finish()
                except AvseError as error:
                    raise AvseError(f"{self.info.video_path}: {error}") from None
            if is_last:
                self._warn_of_video()
            self._gather_warnings()
            clip = Clip(audio[:here], mouth, valid, clip_id=self.info.path.stem)
            yield Chunk(clip, index, start, held, is_last)
            if is_last:
                return
            assert size is not None
            step, held = size - shared, shared * SAMPLES_PER_FRAME
            audio, mouth, valid = audio[step * SAMPLES_PER_FRAME :], mouth[step:], valid[step:]
            start, index = start + step * SAMPLES_PER_FRAME, index + 1

    def look_ahead(self) -> None:
        """Begin to read the video, in a thread and up to ten seconds of it, before it is asked for."""
        if self._ahead is not None:
            self._ahead.start()

    def _noted(
        self, found: Iterator[tuple[np.ndarray, bool, tuple[float, ...] | None]]
    ) -> Iterator[tuple[np.ndarray, bool]]:
        for crop, valid, box in found:
            self.boxes.append(box)
            yield crop, valid

    def _warn_of_video(self) -> None:
        """Say what of the video was asked for and was not there."""
        if self._video is None:
            return
        name, end = self._video.path.name, self._video.end
        lacking = 0.0 if end is None else self.start + self._audio.samples / self._audio.rate - end
        if lacking > 1.0:
            self.info.warnings.append(f"the video of {name} ends {lacking:.2f} s before the audio")
        if self._seen < _FEW * self._asked:
            found = f"a mouth is seen in {self._seen / self._asked:.0%}" if self._seen else "no mouth is seen in any"
            self.info.warnings.append(f"{found} of the frames of {name}; the rest is enhanced by audio alone")

    def _gather_warnings(self) -> None:
        for source in (self._audio, self._video):
            for message in source.warnings if source is not None else ():
                if message not in self.info.warnings:
                    self.info.warnings.append(message)

    def close(self) -> None:
        """Close the files."""
        if self._ahead is not None:
            self._ahead.stop()
        self._audio.container.close()
        if self._video is not None:
            self._video.container.close()

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Ahead(Iterator[_Item]):
    """Items that a thread makes, up to so many before they are asked for, beside what the others do."""

    def __init__(self, items: Iterator[_Item], count: int) -> None:
        self._items, self._made = items, queue.Queue[Any](count)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_stopped = False

    def start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        self._is_stopped = True
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._made.get_nowait()  # the thread may wait for room
            self._thread.join(0.001)

    def _run(self) -> None:
        try:
            for item in self._items:
                self._made.put(item)
                if self._is_stopped:
                    return
            self._made.put(StopIteration())
        except BaseException as error:  # raised where the item is asked for
            self._made.put(error)

    def __next__(self) -> _Item:
        item = self._made.get()
        if isinstance(item, BaseException):
            raise item
        return item


def open_clip(
    path: str | Path,
    *,
    video: str | Path | None = None,
    use_video: bool = True,
    roi: str = "auto",
    face: str | int | tuple[float, ...] = "largest",
    tracker: str | MouthTracker | None = None,
    silent: bool = False,
    track: int = 0,
) -> ClipReader:
    """Open a media file to read it chunk by chunk; arguments and errors as for `read_clip`.

    Example
    -------
    >>> import soundfile, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "long.wav"
    >>> soundfile.write(path, np.zeros(48000, np.float32), 16000)
    >>> with open_clip(path) as reader:
    ...     [(chunk.start, len(chunk.clip.audio), chunk.is_last) for chunk in reader.chunks(2.0, overlap_seconds=1.0)]
    [(0, 32000, False), (16000, 32000, True)]
    """
    face = parse_face(face)
    if roi not in ("auto", "face", "mouth"):
        raise AvseError(f"roi {roi!r}: must be auto, face, or mouth.")
    if track < 0:
        raise AvseError(f"track {track}: audio tracks count from 0.")
    audio = audio_source(path, silent, track, video)
    info = MediaInfo(
        path=audio.path,
        video_path=None,
        sample_rate=audio.rate,
        channels=audio.channels,
        layout=audio.layout,
        channel_names=audio.channel_names,
        sample_format=audio.sample_format,
        track=track,
        tracks=len(audio.container.streams.audio),
        duration=audio.duration,
        audio_start=audio.start,
    )
    if not use_video or (video is None and video_stream(audio.container) is None):
        if use_video and face != "largest":
            info.warnings.append(f"face {face} was asked for, but there is no video")
        return ClipReader(audio, None, None, info)
    source = VideoSource(audio.path if video is None else video)
    info.video_path, info.video_start = source.path, source.start
    info.fps, info.size, info.rotation = source.fps, source.size, source.rotation
    return ClipReader(audio, source, MouthCropper(tracker_of(tracker), face, roi), info)


def read_clip(
    path: str | Path | bytes | BinaryIO,
    *,
    video: str | Path | None = None,
    use_video: bool = True,
    roi: str = "auto",
    face: str | int | tuple[float, ...] = "largest",
    tracker: str | MouthTracker | None = None,
    silent: bool = False,
    track: int = 0,
) -> Clip:
    """Read a media file: its audio at 16 kHz, and the mouth of one face at 25 frames per second.

    Arguments
    ---------
    path : path, bytes, or file
        A video with audio, or an audio file; any container and codec that FFmpeg reads. Its path, what it holds, or the
        file open for reading.
    video : path, or None
        A separate file with the video, which starts together with the audio.
    use_video : bool
        False: audio only.
    roi : "auto", "face", or "mouth"
        "mouth": the video already shows mouth crops. "auto": it does if its frames are square, of at most 128 pixels,
        and show no face.
    face : "largest", int, or "x,y,width,height"
        Which of several faces to follow: the largest, one by its number from left to right starting at 0, or the one in
        a box (pixels).
    tracker : str, MouthTracker, or None
        Name of a plugin of kind `mouth_tracker`, or an instance; None: `mtcnn`.
    silent : bool
        Whether a video without audio is read as silence, as for the generation of speech from lips.
    track : int
        Which audio track of the file, from 0. Its channels are mixed to one: see `avse.signal.downmix.Downmix`.

    Returns
    -------
    Clip
        Frames in which no mouth was found are invalid; without a video, all are.

    Raises
    ------
    AvseError
        If the file cannot be read, has no audio, or the chosen face does not exist.

    Example
    -------
    >>> import soundfile, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "speech.wav"
    >>> soundfile.write(path, np.zeros(44100, np.float32), 44100)
    >>> clip = read_clip(path)
    >>> clip.audio.shape, clip.mouth.shape, bool(clip.valid.any())
    ((16000,), (25, 88, 88), False)
    """
    arguments: dict[str, Any] = {"use_video": use_video, "roi": roi, "face": face, "tracker": tracker}
    with stored(path) as file, open_clip(file, video=video, silent=silent, track=track, **arguments) as reader:
        return next(reader.chunks()).clip


@contextmanager
def stored(media: str | Path | bytes | BinaryIO) -> Iterator[str | Path]:
    """The path of a media file. Bytes, and what an open file holds, are kept in a temporary file inside the `with`.

    Raises
    ------
    AvseError
        If it is none of these.
    """
    if isinstance(media, (str, os.PathLike)):
        yield media
        return
    source = io.BytesIO(media) if isinstance(media, (bytes, bytearray, memoryview)) else media
    if not hasattr(source, "read"):
        raise AvseError(f"a {type(media).__name__} is no media file; give a path, bytes, or a file open for reading.")
    with tempfile.TemporaryDirectory(prefix="avse-") as folder:
        path = Path(folder) / "clip"
        with path.open("wb") as file:
            try:
                shutil.copyfileobj(source, file)
            except TypeError as error:
                raise AvseError("the file is open as text; open it with mode 'rb'.") from error
        try:
            yield path
        except AvseError as error:
            raise AvseError(str(error).replace(str(path), "the media given")) from error


def shifted(crops: Iterable[tuple[np.ndarray, bool]], offset: float) -> Iterator[tuple[np.ndarray, bool]]:
    """Crops and their validity moved to audio that is `offset` seconds late; a crop that is missing is not valid.

    >>> crops = [(np.full((88, 88), 7, np.uint8), True)] * 3
    >>> [valid for _, valid in shifted(crops, 0.04)], len(list(shifted(crops, -0.04)))
    ([False, True, True, True], 2)
    """
    frames = round(offset * VIDEO_RATE)
    missing = np.zeros((MOUTH_SIZE, MOUTH_SIZE), np.uint8), False
    return islice(chain(repeat(missing, max(0, frames)), crops), max(0, -frames), None)


def parse_face(face: str | int | tuple[float, ...]) -> str | int | tuple[float, ...]:
    """`--face`: "largest", an index, or four numbers x,y,width,height.

    >>> parse_face("largest"), parse_face("1"), parse_face("10,20,30,40")
    ('largest', 1, (10.0, 20.0, 30.0, 40.0))
    """
    wrong = AvseError(
        f"face {face!r}: must be largest, an index from 0 (left to right), or x,y,width,height in pixels; or speaking, "
        "where files are enhanced."
    )
    if isinstance(face, str) and face != "largest":
        try:
            values = tuple(float(part) for part in face.split(","))
        except ValueError:
            raise wrong from None
        face = int(values[0]) if len(values) == 1 and values[0].is_integer() else values
    if isinstance(face, int) and face >= 0 or face == "largest":
        return face
    if isinstance(face, tuple) and len(face) == 4 and np.isfinite(face).all() and min(face[2:]) > 0:
        return face
    raise wrong


def tracker_of(tracker: str | MouthTracker | None) -> Any:
    """A mouth tracker, by its name or as it is."""
    if isinstance(tracker, MouthTracker):
        return tracker
    from avse import plugins

    return plugins.get("mouth_tracker", tracker or DEFAULT_TRACKER)()

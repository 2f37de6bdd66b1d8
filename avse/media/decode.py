"""Sound and pictures out of any file that FFmpeg knows, one after the other, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.errors import AvseError
from avse.media.faces.crop import Picture

_WORKING_SIDE = 1920  # larger pictures are reduced before crops are cut from them
_LONGEST_HOLD = 0.25  # seconds for which a picture stands before it counts as a frozen or missing video
_LARGEST_GAP = 600.0  # seconds of missing sound that are filled with silence
_TURNS = {90: 0, 180: 1, 270: 2}  # clockwise degrees -> codes of cv2.rotate


def open_container(path: str | Path) -> Any:
    """Open a media file with PyAV; any failure says what to do."""
    import av

    path = Path(path)
    if not path.exists():
        raise AvseError(f"{path}: no such file.")
    if path.is_dir():
        raise AvseError(f"{path}: is a folder, not a media file.")
    try:
        if path.stat().st_size == 0:
            raise AvseError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
        return av.open(str(path), metadata_errors="ignore")
    except PermissionError as error:
        raise AvseError(f"{path}: cannot be read (permission denied).") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AvseError(
            f"{path}: not a sound or video file that can be read ({reason(error)}). "
            "It may be damaged, cut short, or something else under a media name; copy or export it again."
        ) from error


def video_stream(container: Any) -> Any | None:
    """The first real video stream: no cover art, no still picture."""
    from av.stream import Disposition

    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        return None
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    return None


class AudioSource:
    """The sound of a file as mono blocks at 16 kHz.

    Arguments
    ---------
    path : path
        Any file with sound.

    Attributes
    ----------
    rate, channels : int
        Of the file.
    start : float
        Time of the first sample, in seconds of the file's clock.
    duration : float, or None
        Seconds of sound that the file states.
    samples : int
        Samples at the file's own rate read so far; after the last block, all.
    warnings : list of str
        What was mended on the way.

    Raises
    ------
    AvseError
        If the file cannot be opened, holds no sound, or not one sample of it decodes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.container = open_container(path)
        if not self.container.streams.audio:
            self.container.close()
            raise AvseError(
                f"{self.path}: no sound in it. Enhancing needs the recorded sound; if it is in another file, "
                f"give that file and pair this one with --video {self.path.name}."
            )
        self.stream = self.container.streams.audio[0]
        self.samples = 0
        self._frames = _decoded(self.container, self.stream, self.warnings)
        self._first = next((frame for frame in self._frames if frame.samples), None)
        if self._first is None:
            self.container.close()
            detail = f" ({self.warnings[0]})" if self.warnings else ""
            raise AvseError(f"{self.path}: its sound is empty: not one sample could be decoded{detail}.")
        self.rate = int(self._first.sample_rate)
        self.duration = _length(self.container, self.stream)
        self.channels = len(self._first.layout.channels)
        self.start = float(self._first.time) if self._first.pts is not None else 0.0

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks of shape (samples,), float32, at 16 kHz; at least one sample in all."""
        import soxr

        resampler = None if self.rate == SAMPLE_RATE else soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, "float32")
        given = 0
        for block in self._mono():
            self.samples += len(block)
            if resampler is not None:
                block = resampler.resample_chunk(block)
            given += len(block)
            if len(block):
                yield block
        wanted = max(1, round(self.samples * SAMPLE_RATE / self.rate))
        if resampler is not None:
            rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)[: max(wanted - given, 0)]
            yield np.pad(rest, (0, max(wanted - given - len(rest), 0)))

    def skip(self) -> None:
        """Read to the end only to count the samples."""
        self.samples += sum(len(block) for block in self._mono())

    def _mono(self) -> Iterator[np.ndarray]:
        frame, self._first = self._first, None
        position = 0
        while frame is not None:
            if frame.sample_rate != self.rate:
                raise AvseError(
                    f"{self.path}: its sound changes from {self.rate} to {frame.sample_rate} Hz at "
                    f"{position / self.rate:.2f} s. Convert it to one sample rate first."
                )
            if frame.pts is not None:
                missing = float(frame.time) - self.start - position / self.rate
                if 0.1 < missing < _LARGEST_GAP:
                    _warn(self.warnings, f"{missing:.2f} s of sound missing at {position / self.rate:.2f} s")
                    silence = np.zeros(round(missing * self.rate), np.float32)
                    position += len(silence)
                    yield silence
            block = _mono(frame)
            if not np.isfinite(block).all():
                _warn(self.warnings, "samples that are not finite numbers were replaced by silence")
                block = np.where(np.isfinite(block), block, np.float32(0))
            position += len(block)
            yield block
            frame = next(self._frames, None)
        heard, stated = position / self.rate, _stated(self.stream)
        if stated is not None and heard < stated - 1.0:
            _warn(self.warnings, f"the sound ends at {heard:.2f} s of the {stated:.2f} s that the file states")


class SilentSource:
    """The sound of a film that has none: silence, from its first picture to its last, in place of an `AudioSource`.

    Arguments
    ---------
    path : path

    Raises
    ------
    AvseError
        If the file cannot be opened, or it is not known how long its pictures last.
    """

    rate, channels = SAMPLE_RATE, 1

    def __init__(self, path: str | Path) -> None:
        self.path, self.samples = Path(path), 0
        self.warnings: list[str] = []
        self.container = open_container(path)
        stream = video_stream(self.container)
        duration = None if stream is None else _length(self.container, stream)
        if stream is None or not duration:
            self.container.close()
            raise AvseError(f"{self.path}: neither sound nor pictures of a known length in it. Give a film.")
        self.duration = duration
        self.start = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0

    def blocks(self) -> Iterator[np.ndarray]:
        """One block of zeros, shape (samples,), float32."""
        self.skip()
        yield np.zeros(self.samples, np.float32)

    def skip(self) -> None:
        """Count the samples."""
        self.samples = max(1, round(self.duration * SAMPLE_RATE))


def sound_of(path: str | Path, silent: bool = False) -> AudioSource | SilentSource:
    """The sound of a file; with `silent`, that of a film without sound is silence."""
    if silent:
        with open_container(path) as container:
            has_sound = bool(container.streams.audio)
        if not has_sound:
            return SilentSource(path)
    return AudioSource(path)


class VideoSource:
    """The pictures of a file at 25 per second, by their time stamps.

    Arguments
    ---------
    path : path
        Any file with a video stream.

    Attributes
    ----------
    fps : float or None
        Average rate that the file states.
    size : (int, int)
        Width and height as stored.
    rotation : int
        Clockwise degrees by which the picture is turned to be shown.
    start : float
        Time of the first picture, in seconds of the file's clock.
    zero : float
        Time at which the file's own sound begins, or, where it has none, its first picture.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.container = open_container(path)
        stream = video_stream(self.container)
        if stream is None:
            self.container.close()
            raise AvseError(f"{self.path}: no video in it. Give a file with a moving picture, or leave out --video.")
        self.stream = stream
        self.stream.thread_type = "AUTO"
        self.fps = float(stream.average_rate) if stream.average_rate else None
        self.size = (stream.codec_context.width, stream.codec_context.height)
        self._reformatters: dict[str, Any] = {}
        self._frames = _decoded(self.container, stream, self.warnings)
        self._first = next(self._frames, None)
        self.start = float(self._first.time or 0.0) if self._first is not None else 0.0
        sound = next((s for s in self.container.streams.audio if s.start_time is not None), None)
        self.zero = self.start if sound is None else float(sound.start_time * sound.time_base)
        self.rotation = (-int(self._first.rotation)) % 360 if self._first is not None else 0

    def pictures(self, zero: float) -> Iterator[Picture | None]:
        """Endless pictures, 25 per second: the one on show in the middle of each 40 ms, or None where there is none.

        Arguments
        ---------
        zero : float
            Time of the file's clock at which the first 40 ms begin.
        """
        shown, picture = self._first, None
        following = next(self._frames, None)
        index = 0
        while shown is not None:
            at = zero + (index + 0.5) / VIDEO_RATE
            while following is not None and _time(following) <= at:
                shown, picture, following = following, None, next(self._frames, None)
            hold = min(_LONGEST_HOLD, _time(following) - _time(shown)) if following is not None else self._last_hold()
            if at < _time(shown):
                yield None
            elif at < _time(shown) + hold:
                picture = picture or self._picture(shown)
                yield picture
            else:
                yield None
                if following is None:
                    break
            index += 1
        while True:
            yield None

    def _last_hold(self) -> float:
        # One frame more than its own: lossy codecs pad the sound to whole packets, a little beyond the last picture.
        return min(_LONGEST_HOLD, (1 / self.fps if self.fps else 1 / VIDEO_RATE) + 1 / VIDEO_RATE)

    def _picture(self, frame: Any) -> Picture:
        import cv2
        from av.video.reformatter import VideoReformatter

        ratio = float(self.stream.sample_aspect_ratio or 1) or 1.0
        width, height = frame.width * ratio, float(frame.height)
        code = _TURNS.get(self.rotation)

        def reduced(side: int, layout: str) -> np.ndarray:
            factor = min(1.0, side / max(width, height))
            size = max(1, round(width * factor)), max(1, round(height * factor))
            # One for each layout, kept, and one thread: starting threads for each picture costs more than they give.
            reformatter = self._reformatters.setdefault(layout, VideoReformatter())
            pixels = reformatter.reformat(frame, size[0], size[1], layout, threads=1).to_ndarray()
            return pixels if code is None else cv2.rotate(pixels, code)

        grey = reduced(_WORKING_SIDE, "gray")
        shown = width if self.rotation in (0, 180) else height
        return Picture(grey, lambda side: reduced(side, "rgb24"), grey.shape[1] / shown)


def _decoded(container: Any, stream: Any, warnings: list[str]) -> Iterator[Any]:
    """Frames of one stream; damaged packets are skipped, a damaged end ends it, both with a warning."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError) as error:
            _warn(warnings, f"the {stream.type} ends early: {reason(error)}")
            return
        try:
            yield from packet.decode()
        except (av.error.FFmpegError, OSError) as error:
            _warn(warnings, f"damaged {stream.type} data was skipped: {reason(error)}")


def _length(container: Any, stream: Any) -> float | None:
    """Seconds that a file states of a stream, else of the longest of all its streams."""
    whole = container.duration  # in microseconds
    return _stated(stream) or (whole / 1_000_000 if whole else None)


def _stated(stream: Any) -> float | None:
    """Seconds that a stream says it lasts."""
    known = stream.duration is not None and stream.time_base is not None
    return float(stream.duration * stream.time_base) if known else None


def _mono(frame: Any) -> np.ndarray:
    """Samples of shape (samples,), float32, full scale 1: the mean of the channels, without the subwoofer's."""
    values = frame.to_ndarray()
    channels = len(frame.layout.channels)
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    names = [channel.name for channel in frame.layout.channels]
    kept = [row for row, name in enumerate(names) if name != "LFE"] if channels > 2 else range(channels)
    values = values[list(kept)]
    if values.dtype == np.uint8:
        values = values.astype(np.float32) / 128 - 1
    elif np.issubdtype(values.dtype, np.integer):
        values = values / -float(np.iinfo(values.dtype).min)
    with np.errstate(invalid="ignore", over="ignore"):
        return values.mean(axis=0).astype(np.float32)


def _time(frame: Any) -> float:
    return float(frame.time or 0.0)


def _warn(warnings: list[str], message: str) -> None:
    if message not in warnings and len(warnings) < 20:
        warnings.append(message)


def reason(error: BaseException) -> str:
    """What a library says went wrong, in few words."""
    return str(getattr(error, "strerror", None) or error)

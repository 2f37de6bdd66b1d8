"""Audio and video frames from any file that FFmpeg reads, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.errors import AvseError
from avse.media.faces.crop import Frame, shrunk
from avse.signal.downmix import Downmix
from avse.signal.outliers import BLOCK_SECONDS, REPLACED, without_outliers

_WORKING_SIDE = 1920  # larger frames are reduced before cropping
_THREADS = 4  # of a decoder, at most: each of them holds 25 MB more at 3840x2160
_LONGEST_HOLD = 0.25  # seconds after which the video counts as frozen or missing
_LARGEST_GAP = 24 * 3600.0  # seconds of missing audio that are filled with silence; beyond it time stamps are wrong
_LARGEST_OVERLAP = 10.0  # seconds of audio that are left out where time stamps go back; beyond it they are wrong
_JUMP = 10.0  # seconds by which the clock of a transport stream jumps where another recording begins, as in FFmpeg
# Arrangements where the file names none, by number of channels.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# Formats whose first plane is the luma, of 8 bits; and luma from 16 to 235 as grey from 0 to 255.
_LUMA_FIRST = {f"yuv{full}{kind}p" for full in ("", "j") for kind in (410, 411, 420, 422, 440, 444)} | {"nv12", "nv21"}
_TO_FULL_RANGE = np.clip((np.arange(256) - 16) * 255 / 219 + 0.5, 0, 255).astype(np.uint8)
_CUT_SHORT = "the file is cut short: its end is missing"
_LAST_PACKETS = 20_000  # of a transport stream: 4 MB, more than one picture or block of audio takes
_TURNS = {90: 0, 180: 1, 270: 2}  # clockwise degrees -> codes of cv2.rotate


def open_container(path: str | Path) -> Any:
    """Open a media file with PyAV; errors are `AvseError` with advice."""
    import av

    path = Path(path)
    if not path.exists():
        raise AvseError(f"{path}: no such file.")
    if path.is_dir():
        raise AvseError(f"{path}: is a folder, not a media file.")
    try:
        if path.stat().st_size == 0:
            raise AvseError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
        return av.open(str(path.absolute()), metadata_errors="ignore")  # `10:30.mp4` would name a protocol
    except PermissionError as error:
        raise AvseError(f"{path}: cannot be read (permission denied).") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AvseError(
            f"{path}: not an audio or video file that can be read ({reason(error)}). "
            "It may be damaged, cut short, or something else under a media name; copy or export it again."
        ) from error


def video_stream(container: Any) -> Any | None:
    """The first video stream that is neither cover art nor a still image."""
    from av.stream import Disposition

    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        return None
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    return None


class AudioSource:
    """The audio of a file as mono blocks at 16 kHz.

    Arguments
    ---------
    path : path
        Any file with audio.
    track : int
        Which of its audio tracks, from 0.
    video : path, optional
        The file that is to go with it, for a message.

    Attributes
    ----------
    rate, channels : int
        Of the file.
    layout, channel_names : str, list of str
        The arrangement of channels, such as `stereo`, and the name of each, such as `FL`.
    sample_format : str
        How samples are stored, in the words of libsndfile: `PCM_16`, `PCM_24`, or `FLOAT`, which may exceed full scale.
        `PCM_16` stands for lossy codecs as well.
    kept : deque of array, shape (channels, samples), or None
        A deque gets the blocks at the file's own rate as they are read; None: they are not kept.
    keep_mono : bool
        Whether they are kept as their down-mix, of one channel.
    start : float
        Time of the first sample, in seconds of the file's clock.
    duration : float, or None
        Seconds of audio, by the header of the file.
    samples : int
        Samples at the file's own rate read so far; after the last block, all.
    warnings : list of str
        Defects that were corrected.

    Raises
    ------
    AvseError
        If the file cannot be opened, has no audio, or no sample of it can be decoded.
    """

    def __init__(self, path: str | Path, track: int = 0, video: str | Path | None = None) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.kept: deque[np.ndarray] | None = None
        self.keep_mono = False
        self.container = open_container(path)
        if not self.container.streams.audio:
            self.container.close()
            other = "in another file, give that file" if video is None else f"in {video}, give that file first"
            raise AvseError(
                f"{self.path}: has no audio. Enhancement needs the recorded audio; if it is {other} and pair this one "
                f"with --video {self.path.name}."
            )
        tracks = self.container.streams.audio
        if track >= len(tracks):
            self.container.close()
            raise AvseError(f"{self.path}: has no audio track {track}; its {len(tracks)} count from 0.")
        self.stream = tracks[track]
        self.samples = 0
        self._frames = _decoded(self.container, self.stream, self.warnings)
        self._first = next((frame for frame in self._frames if frame.samples), None)
        if self._first is None:
            self.container.close()
            detail = f" ({self.warnings[0]})" if self.warnings else ""
            raise AvseError(f"{self.path}: its audio is empty: no sample could be decoded{detail}.")
        self.rate = int(self._first.sample_rate)
        self.duration = _length(self.container, self.stream)
        self.channel_names = [channel.name for channel in self._first.layout.channels]
        self.channels, named = len(self.channel_names), self._first.layout.name
        self.layout = _LAYOUTS.get(self.channels, named) if named.endswith("channels") else named
        exact = "FLOAT" if self.stream.codec_context.name.startswith("pcm_f") else "PCM_16"
        self.sample_format = "PCM_24" if self._first.format.name.startswith("s32") else exact
        self.start = float(self._first.time) if self._first.pts is not None else 0.0
        self.warnings += _cut_short(self.path, self.container)

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
        """Read to the end to count the samples."""
        blocks = self._blocks() if self.kept is None else self._mono()
        self.samples += sum(block.shape[-1] for block in blocks)

    def _mono(self) -> Iterator[np.ndarray]:
        """The down-mix at the file's own rate."""
        downmix = Downmix(self.channel_names, self.rate)
        blocks = _gathered(self._blocks(), round(BLOCK_SECONDS * self.rate))
        for block in without_outliers(blocks, lambda: _warn(self.warnings, REPLACED)):
            mono = downmix(block)
            if self.kept is not None:
                self.kept.append(mono[None] if self.keep_mono else block)
            yield mono

    def _blocks(self) -> Iterator[np.ndarray]:
        """Blocks of shape (channels, samples)."""
        frame, self._first = self._first, None
        position, clock = 0, self.start
        while frame is not None:
            if frame.sample_rate != self.rate:
                raise AvseError(
                    f"{self.path}: its audio changes from {self.rate} to {frame.sample_rate} Hz at "
                    f"{position / self.rate:.2f} s. Convert it to one sample rate first."
                )
            missing = 0.0 if frame.pts is None else float(frame.time) - clock - position / self.rate
            if not -_LARGEST_OVERLAP < missing < _LARGEST_GAP:
                _warn(self.warnings, f"the time stamps jump by {missing:.0f} s at {position / self.rate:.2f} s")
                clock, missing = clock + missing, 0.0
            lacking = round(missing * self.rate) if abs(missing) > 0.1 else 0
            if lacking > 0:
                _warn(self.warnings, f"{missing:.2f} s of audio missing at {position / self.rate:.2f} s")
            while lacking > 0:
                silence = np.zeros((self.channels, min(lacking, 10 * self.rate)), np.float32)
                position, lacking = position + silence.shape[1], lacking - silence.shape[1]
                yield silence
            block = _channels(frame)
            if len(block) != self.channels:
                _warn(self.warnings, f"{len(block)} channels at {position / self.rate:.2f} s were mixed to one")
                block = np.repeat(block.mean(axis=0, keepdims=True), self.channels, axis=0)
            if not np.isfinite(block).all():
                _warn(self.warnings, "samples that are not finite numbers were replaced by silence")
                block = np.where(np.isfinite(block), block, np.float32(0))
            if lacking < 0:
                _warn(self.warnings, "audio whose time stamps overlap those before it was left out")
                block = block[:, -lacking:]
            position += block.shape[1]
            yield block
            frame = next(self._frames, None)
        heard, stated = position / self.rate, _length(self.container, self.stream)
        if stated is not None and heard < stated - 0.5:
            _warn(self.warnings, f"the audio ends at {heard:.2f} s of the {stated:.2f} s in the header of the file")


class SilentSource:
    """Silence from the first frame of a video without audio to its last, in place of an `AudioSource`.

    Arguments
    ---------
    path : path

    Raises
    ------
    AvseError
        If the file cannot be opened, or the length of its video is not known.
    """

    rate, channels, layout, sample_format = SAMPLE_RATE, 1, "mono", "PCM_16"
    channel_names = ["FC"]

    def __init__(self, path: str | Path) -> None:
        self.path, self.samples = Path(path), 0
        self.warnings: list[str] = []
        self.container = open_container(path)
        stream = video_stream(self.container)
        duration = None if stream is None else _length(self.container, stream) or _counted(self.container, stream)
        if stream is None or not duration:
            self.container.close()
            raise AvseError(f"{self.path}: has neither audio nor a video of known length. Give a video file.")
        self.duration = duration
        self.start = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0

    def blocks(self) -> Iterator[np.ndarray]:
        """One block of zeros, shape (samples,), float32."""
        self.skip()
        yield np.zeros(self.samples, np.float32)

    def skip(self) -> None:
        """Count the samples."""
        self.samples = max(1, round(self.duration * SAMPLE_RATE))


def audio_source(
    path: str | Path, silent: bool = False, track: int = 0, video: str | Path | None = None
) -> AudioSource | SilentSource:
    """A track of the audio of a file; with `silent`, silence for a video without audio."""
    if silent:
        with open_container(path) as container:
            has_audio = bool(container.streams.audio)
        if not has_audio:
            return SilentSource(path)
    return AudioSource(path, track, video)


class VideoSource:
    """The video of a file at 25 frames per second, by time stamps.

    Arguments
    ---------
    path : path
        Any file with a video stream.

    Attributes
    ----------
    fps : float or None
        Average frame rate in the header of the file.
    size : (int, int)
        Width and height as stored.
    rotation : int
        Clockwise degrees by which frames are rotated for display.
    start : float
        Time of the first frame, in seconds of the file's clock.
    zero : float
        Start of the audio of the file; without audio, of its video.
    end : float or None
        Time at which the video ended, once it has.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.container = open_container(path)
        stream = video_stream(self.container)
        if stream is None:
            self.container.close()
            raise AvseError(f"{self.path}: has no video. Give a file with a video, or leave out --video.")
        self.stream = stream
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = min(os.cpu_count() or 1, _THREADS)
        self.fps = float(stream.average_rate) if stream.average_rate else None
        self.size = (stream.codec_context.width, stream.codec_context.height)
        self._reformatters: dict[str, Any] = {}
        self.warnings += _cut_short(self.path, self.container)
        self._frames = self._timed(_decoded(self.container, stream, self.warnings))
        self._first = next(self._frames, None)
        self.end: float | None = None
        self.start = float(self._first.time or 0.0) if self._first is not None else 0.0
        audio = next((s for s in self.container.streams.audio if s.start_time is not None), None)
        self.zero = self.start if audio is None else float(audio.start_time * audio.time_base)
        self.rotation = (-int(self._first.rotation)) % 360 if self._first is not None else 0

    def frames(self, zero: float) -> Iterator[Frame | None]:
        """Endless frames, 25 per second: the one displayed in the middle of each 40 ms, or None.

        Arguments
        ---------
        zero : float
            Start of the first 40 ms, in seconds of the file's clock.
        """
        shown, converted, self._first = self._first, None, None
        following = next(self._frames, None)
        index = 0
        # One frame longer than the last: lossy codecs pad the audio to whole packets, beyond the end of the video.
        last_hold = 1 / (self.fps or VIDEO_RATE) + 1 / VIDEO_RATE
        while shown is not None:
            at = zero + (index + 0.5) / VIDEO_RATE
            while following is not None and _time(following) <= at:
                shown, converted, following = following, None, next(self._frames, None)
            hold = last_hold if following is None else _time(following) - _time(shown)
            end = _time(shown) + min(_LONGEST_HOLD, hold)
            if _time(shown) <= at < end:
                converted = converted or self._frame(shown)
                yield converted
            else:
                yield None
                if following is None and at >= end:
                    self.end = end
                    break
            index += 1
        yield from repeat(None)

    def _timed(self, frames: Iterator[Any]) -> Iterator[Any]:
        """Frames with a time: by their number where the file has none, as raw video."""
        rate = self.stream.average_rate or VIDEO_RATE
        for number, frame in enumerate(frames):
            if frame.pts is None:
                _warn(self.warnings, f"the video has no time stamps; {float(rate):g} frames per second are assumed")
                frame.pts, frame.time_base = number, 1 / Fraction(rate)
            yield frame

    def _frame(self, frame: Any) -> Frame:
        import cv2
        from av.video.reformatter import ColorRange, VideoReformatter

        ratio = float(self.stream.sample_aspect_ratio or 1) or 1.0
        width, height = frame.width * ratio, float(frame.height)
        code = _TURNS.get(self.rotation)

        def fitted(side: float) -> tuple[int, int]:
            factor = min(1.0, side / max(width, height))
            return max(1, round(width * factor)), max(1, round(height * factor))

        def turned(pixels: np.ndarray) -> np.ndarray:
            return pixels if code is None else cv2.rotate(pixels, code)

        def converted(size: tuple[int, int], layout: str) -> np.ndarray:
            # One reformatter per layout with one thread: starting threads for each frame costs more than it saves.
            reformatter = self._reformatters.setdefault(layout, VideoReformatter())
            pixels: np.ndarray = reformatter.reformat(frame, *size, layout, threads=1).to_ndarray()
            return turned(pixels)

        def reduced(divisor: int) -> np.ndarray:
            size = fitted(min(_WORKING_SIDE, max(width, height)) / divisor)
            plane = frame.planes[0]
            if frame.format.name not in _LUMA_FIRST or ratio != 1 or plane.line_size < 0:
                return converted(size, "gray")
            pixels: Any = shrunk(_pixels(plane), size)
            is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
            return turned(pixels.copy() if is_full else cv2.LUT(pixels, _TO_FULL_RANGE))

        size = fitted(_WORKING_SIDE)
        shown = size if self.rotation in (0, 180) else size[::-1]
        return Frame(shown[::-1], reduced, lambda side: converted(fitted(side), "rgb24"), size[0] / width)


def _pixels(plane: Any) -> np.ndarray:
    """A plane of 8 bits, shape (height, width), where it is."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _decoded(container: Any, stream: Any, warnings: list[str]) -> Iterator[Any]:
    """Frames of one stream; damaged packets are skipped and a damaged end is cut off, with a warning."""
    import av

    packets, frame = demuxed(container, stream), None
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            if frame is not None and frame.is_corrupt:
                _warn(warnings, _CUT_SHORT)
            return
        except (av.error.FFmpegError, OSError) as error:
            _warn(warnings, f"the {stream.type} ends early: {reason(error)}")
            return
        try:
            for frame in packet.decode():
                yield frame
        except (av.error.FFmpegError, OSError) as error:
            _warn(warnings, f"damaged {stream.type} data was skipped: {reason(error)}")


def demuxed(container: Any, *streams: Any) -> Iterator[Any]:
    """Packets of streams. In formats whose clock may jump, as in `cat a.ts b.ts`, they are moved to one clock.

    As in FFmpeg, it jumps where a time stamp goes back, or forward by more than 10 s, and all streams move together.
    """
    from av.format import Flags

    if not container.format.flags & Flags.ts_discont.value:
        yield from container.demux(*streams)
        return
    moved = Fraction(0)
    expected: dict[int, Fraction] = {}
    for packet in container.demux():
        if packet.dts is not None and packet.stream.type in ("audio", "video"):
            time = packet.dts * packet.time_base + moved
            jump = time - expected.get(packet.stream.index, time)
            if not -0.1 <= jump <= _JUMP:
                moved, time = moved - jump, time - jump
            expected[packet.stream.index] = time + (packet.duration or 0) * packet.time_base
        if packet.stream in streams:
            shift = round(moved / packet.time_base)
            if shift and packet.dts is not None:
                packet.dts += shift
            if shift and packet.pts is not None:
                packet.pts += shift
            yield packet


def _cut_short(path: Path, container: Any) -> list[str]:
    """What to say of a file that ends before its header says, or in the middle of a packet."""
    size, name = path.stat().st_size, container.format.name
    is_cut = name == "mpegts" and _ends_amid_packet(path, size)
    if name in ("wav", "avi", "aiff"):
        with open(path, "rb") as file:
            head = file.read(8)
        stated = int.from_bytes(head[4:], "big" if head[:4] == b"FORM" else "little")
        # What was written to a pipe, or is longer than 4 GB, states nothing.
        is_cut = head[:4] in (b"RIFF", b"FORM") and size < stated + 8 < 0xFFFFFFFF
    return [_CUT_SHORT] if is_cut else []


def _ends_amid_packet(path: Path, size: int) -> bool:
    """Whether a transport stream ends amid a packet of its own, or of the audio or video in it.

    The head of a packet of audio states its length. One of video, which states none, is filled up at its end: if the
    file ends with one that is not, its end is missing, or fits by chance (one in 184).
    """
    side = next((side for side in (188, 192, 204) if size % side == 0), None)
    if side is None:
        return True
    lead = 4 if side == 192 else 0  # a time stamp, as cameras write it
    with open(path, "rb") as file:
        file.seek(max(0, size - _LAST_PACKETS * side))
        data = file.read()
    lacking: dict[int, float] = {}  # bytes, by stream; infinite: not stated
    last, is_full = -1, False
    for begin in range(lead, len(data), side):
        packet = data[begin : begin + 188]
        stream, has = int.from_bytes(packet[1:3], "big") & 0x1FFF, packet[3] >> 4 & 3
        payload = {1: packet[4:], 3: packet[5 + packet[4] :]}.get(has, b"")
        if packet[:1] != b"G":
            return False  # not as expected: nothing is known
        if packet[1] & 0x40 and payload[:3] == b"\0\0\1":
            stated = int.from_bytes(payload[4:6], "big")
            lacking[stream] = stated + 6 if stated else np.inf
        if payload and stream in lacking:
            lacking[stream] -= len(payload)
            spare = packet[4] - (7 if packet[5] & 0x10 else 1)  # beside a clock
            last, is_full = stream, has == 1 or spare <= 0
    return any(
        0 < missing < np.inf or missing > 0 and is_full and stream == last for stream, missing in lacking.items()
    )


def _length(container: Any, stream: Any) -> float | None:
    """Seconds of a stream by the header, else of the longest stream of the file."""
    whole = container.duration  # in microseconds
    return _stated(stream) or (whole / 1_000_000 if whole else None)


def _counted(container: Any, stream: Any) -> float:
    """Seconds of a video whose header states none, as raw video: by its time stamps, else by the number of frames."""
    first, end, count = None, Fraction(0), 0
    for packet in demuxed(container, stream):
        if packet.size:
            count += 1
        if packet.size and packet.pts is not None:
            first = packet.pts * packet.time_base if first is None else min(first, packet.pts * packet.time_base)
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return float(count / (stream.average_rate or VIDEO_RATE) if first is None else end - first)


def _stated(stream: Any) -> float | None:
    """Seconds of a stream by its header."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")  # as FFmpeg writes it into Matroska
    with suppress(ValueError):
        return float(parts[0]) * 3600 + float(parts[1]) * 60 + float(parts[2]) if len(parts) == 3 else None
    return None


def _channels(frame: Any) -> np.ndarray:
    """Samples of shape (channels, samples), float32, full scale 1."""
    values: np.ndarray = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    if values.dtype == np.uint8:
        return values.astype(np.float32) / 128 - 1
    if np.issubdtype(values.dtype, np.integer):
        values = values / -float(np.iinfo(values.dtype).min)
    with np.errstate(invalid="ignore", over="ignore"):
        return values.astype(np.float32)


def _gathered(blocks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Blocks joined to at least this number of samples, but for the last."""
    waiting: list[np.ndarray] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += block.shape[1]
        if count >= samples:
            yield np.concatenate(waiting, axis=1)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _time(frame: Any) -> float:
    return float(frame.time or 0.0)


def _warn(warnings: list[str], message: str) -> None:
    if message not in warnings and len(warnings) < 20:
        warnings.append(message)


def reason(error: BaseException) -> str:
    """The message of a library, without its details."""
    return str(getattr(error, "strerror", None) or error)

"""Writing enhanced speech: into a copy of the input video, or as an audio file."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.files import atomic_path
from avse.media.decode import open_container, reason, video_stream
from avse.media.reader import ClipReader

# Audio files by suffix: format and subtype of libsndfile.
_AUDIO_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
}
# Audio codecs of video files by suffix; for others, the default of FFmpeg for the container.
_CODECS = {
    **dict.fromkeys((".mp4", ".m4v", ".m4a", ".mov", ".3gp", ".flv", ".ts", ".mts"), "aac"),
    ".mkv": "flac",
    ".webm": "libopus",
    ".avi": "pcm_s16le",
}
_LIMITED_RATES = {
    "OPUS": (8000, 12000, 16000, 24000, 48000),
    "MPEG_LAYER_III": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}
_BIT_RATE = 128_000
_REORDERED = 32  # largest number of packets without a decoding time before the first with one
_HELD = 256  # samples withheld until the end, where the audio is cut to the length of the input


class ClipWriter:
    """Writes enhanced speech block by block, as a context manager; the file appears complete, or not at all.

    `.wav`, `.flac`, `.ogg`, `.opus`, `.mp3`, `.aiff` are audio files. Any other suffix gives a media file with the
    video stream of the input, copied packet by packet, and the speech at the start time of the input's audio. The
    speech is mono, at the sample rate of the input (or the nearest that the codec has), and exactly as long as the
    input's audio. `.mkv` stores it without loss.

    Arguments
    ---------
    output : path
        The file to write.
    reader : ClipReader
        The input; it must be read to its end before the writer is closed. Its video is copied even if it was not read.

    Attributes
    ----------
    rate : int
        Sample rate of the output.

    Raises
    ------
    AvseError
        If the output cannot be written, or its container cannot hold the video.

    Example
    -------
    >>> import soundfile, tempfile
    >>> from avse.media import open_clip
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "noisy.wav", np.zeros(44100, np.float32), 44100)
    >>> with open_clip(folder / "noisy.wav") as reader, ClipWriter(folder / "speech.flac", reader) as writer:
    ...     for chunk in reader.chunks(seconds=0.4):
    ...         writer.write(chunk.clip.audio)
    >>> soundfile.info(folder / "speech.flac").frames
    44100
    """

    def __init__(self, output: str | Path, reader: ClipReader) -> None:
        self.output, self._reader = Path(output), reader
        inputs = [path for path in (reader.info.path, reader.info.video_path) if path is not None]
        if self.output.exists() and any(path.exists() and self.output.samefile(path) for path in inputs):
            raise AvseError(f"{self.output}: is the input itself. Choose another output.")
        self._sink: _AudioFile | _MediaFile
        self._stack = ExitStack()

    def __enter__(self) -> ClipWriter:
        import soxr

        with ExitStack() as stack:
            # On every exit the sink is closed, then the temporary file is renamed or removed.
            path = stack.enter_context(atomic_path(self.output))
            stack.enter_context(_explained(self.output))
            if self.output.suffix.lower() in _AUDIO_FORMATS:
                self._sink = _AudioFile(path, self.output, self._reader.info.sample_rate)
            else:
                self._sink = _MediaFile(path, self.output, self._reader)
            stack.push(self._sink.close)
            self.rate = self._sink.rate
            self._resampler = None
            if self.rate != SAMPLE_RATE:
                self._resampler = soxr.ResampleStream(SAMPLE_RATE, self.rate, 1, "float32")
            self._tail = np.zeros(0, np.float32)
            self._written = 0
            self._stack = stack.pop_all()
        return self

    def write(self, speech: np.ndarray) -> None:
        """Append speech, shape (samples,), float, at 16 kHz."""
        speech = np.ascontiguousarray(speech, dtype=np.float32)
        self._put(speech if self._resampler is None else self._resampler.resample_chunk(speech))

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            self._stack.__exit__(kind, *error)
            return
        with self._stack:
            if self._resampler is not None:
                self._put(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            info = self._reader.info
            missing = round(self._reader.samples * self.rate / info.sample_rate) - self._written
            rest = np.pad(self._tail, (0, max(missing - len(self._tail), 0)))[: max(missing, 0)]
            self._sink.write(np.clip(rest, -1, 1))

    def _put(self, speech: np.ndarray) -> None:
        waiting = np.concatenate([self._tail, speech])
        ready = max(len(waiting) - _HELD, 0)
        if ready:
            self._sink.write(np.clip(waiting[:ready], -1, 1))
            self._written += ready
        self._tail = waiting[ready:]


def write_enhanced(reader: ClipReader, output: str | Path, blocks: Iterable[np.ndarray]) -> None:
    """Write enhanced speech block by block with a `ClipWriter`, whose errors it raises.

    Arguments
    ---------
    reader : ClipReader
        The input, which gives video, sample rate, start and length; it may be read while the blocks are made.
    output : path
        The file to write.
    blocks : iterable of array, each of shape (samples,), float
        Speech at 16 kHz, in all as long as the input.

    Example
    -------
    >>> with open_clip("noisy.mp4") as reader:  # doctest: +SKIP
    ...     write_enhanced(reader, "speech.mp4", (chunk.clip.audio / 2 for chunk in reader.chunks(0.4)))
    """
    with ClipWriter(output, reader) as writer:
        for block in blocks:
            writer.write(block)
        reader.skip()


class _AudioFile:
    """An audio file, by libsndfile."""

    def __init__(self, path: Path, output: Path, rate: int) -> None:
        import soundfile

        kind, subtype = _AUDIO_FORMATS[path.suffix.lower()]
        self.rate = _allowed(rate, _LIMITED_RATES.get(subtype))
        self._path, self._output = path, output
        self._file = soundfile.SoundFile(path, "w", self.rate, 1, subtype, format=kind)

    def write(self, samples: np.ndarray) -> None:
        import soundfile

        # libsndfile's Ogg encoders overflow their stack on very long blocks.
        for begin in range(0, len(samples), 65536):
            try:
                self._file.write(samples[begin : begin + 65536])
            except (AssertionError, soundfile.LibsndfileError) as error:  # fewer samples written than given
                raise self._full() from error

    def close(self, kind: type[BaseException] | None = None, *_: object) -> None:
        import soundfile

        frames = self._file.frames
        self._file.close()  # no error even if the last bytes are not written
        if kind is None and soundfile.info(self._path).frames != frames:
            raise self._full()

    def _full(self) -> AvseError:
        why = "No space left on device, or a limit on file sizes was reached"
        return AvseError(f"{self._output}: writing failed ({why}). Nothing was left behind.")


class _MediaFile:
    """A copied video stream and encoded speech, by FFmpeg."""

    def __init__(self, path: Path, output: Path, reader: ClipReader) -> None:
        import av

        suffix = output.suffix.lower()
        with ExitStack() as stack:
            try:
                self._container = av.open(str(path), "w")
            except ValueError as error:
                raise AvseError(
                    f"{output}: {suffix or 'a name without suffix'} is no kind of media file. "
                    "Use .mp4 or .mkv for a video, .wav or .flac for audio."
                ) from error
            stack.callback(self._container.close)
            codec = av.Codec(_CODECS.get(suffix) or self._container.default_audio_codec, "w")
            self.rate = _allowed(reader.info.sample_rate, codec.audio_rates)
            video_path = reader.info.video_path or reader.info.path
            original = stack.enter_context(open_container(video_path))
            source = video_stream(original)
            self._packets: Iterator[Any] = iter(())
            self._container.metadata.update(original.metadata)
            try:
                if source is not None:
                    self._copy = self._container.add_stream_from_template(source)
                    self._copy.metadata.update(source.metadata)
                    self._packets = _timed(original.demux(source), source)
                self._audio: Any = self._container.add_stream(codec.name, rate=self.rate, layout="mono")
                self._audio.time_base = Fraction(1, self.rate)
                if codec.name not in ("flac", "pcm_s16le"):
                    self._audio.bit_rate = _BIT_RATE  # type: ignore[union-attr]
                self._container.start_encoding()
            except (av.error.FFmpegError, ValueError) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                    raise
                held = "" if source is None else f"the video of {video_path.name} ({source.codec_context.name}) and "
                raise AvseError(
                    f"{output}: a {suffix} file cannot hold {held}audio as {codec.name}. "
                    f"Write {output.with_suffix('.mkv').name} instead."
                ) from error
            self._position = round(reader.start * self.rate)
            self._pending = next(self._packets, None)
            self._stack = stack.pop_all()

    def write(self, samples: np.ndarray) -> None:
        import av

        for begin in range(0, len(samples), self.rate):
            block = samples[begin : begin + self.rate]
            frame = av.AudioFrame.from_ndarray(block[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self._position, Fraction(1, self.rate)
            self._position += len(block)
            self._container.mux(self._audio.encode(frame))
            self._copy_video(self._position / self.rate)

    def _copy_video(self, until: float) -> None:
        while self._pending is not None and self._pending.dts * self._pending.time_base <= until:
            self._pending.stream = self._copy
            self._container.mux(self._pending)
            self._pending = next(self._packets, None)

    def close(self, kind: type[BaseException] | None = None, *_: object) -> None:
        with self._stack:
            if kind is None:
                self._container.mux(self._audio.encode(None))
                self._copy_video(float("inf"))


def _timed(packets: Iterable[Any], stream: Any) -> Iterator[Any]:
    """Packets with decoding times; Matroska omits the first ones of a video with reordered frames."""
    step = 0
    if stream.average_rate:
        step = max(1, round(1 / (stream.average_rate * stream.time_base)))
    waiting: list[Any] = []
    last = None
    for packet in packets:
        if not packet.size:
            continue  # the empty packet at the end of a demuxed stream
        if packet.dts is None and last is not None:
            packet.dts = last + (packet.duration or step)
        waiting.append(packet)
        if packet.dts is None and len(waiting) < _REORDERED:
            continue
        last = packet.dts if packet.dts is not None else packet.pts
        for place, early in enumerate(waiting):
            if early.dts is None and last is not None:
                early.dts = last - (len(waiting) - 1 - place) * (packet.duration or step)
        yield from waiting
        waiting = []
    yield from waiting


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Turn errors of the encoding libraries into `AvseError`."""
    import av
    import soundfile

    try:
        yield
    except (av.error.FFmpegError, soundfile.LibsndfileError) as error:
        raise AvseError(f"{output}: writing failed ({reason(error)}). Nothing was left behind.") from error


def _allowed(rate: int, rates: Sequence[int] | None) -> int:
    """The rate, or the next higher (else the highest) that a codec supports."""
    if not rates or rate in rates:
        return rate
    return min((other for other in rates if other > rate), default=max(rates))

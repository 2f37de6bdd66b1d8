"""Writing enhanced speech: into a copy of the input video, or as an audio file."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.errors import AvseError
from avse.files import atomic_path
from avse.media.decode import demuxed, open_container, reason, video_stream
from avse.media.reader import ClipReader

# Audio files written by libsndfile, by suffix: format and subtype; None: that of the input.
_AUDIO_FORMATS: dict[str, tuple[str, str | None]] = {
    ".wav": ("WAV", None),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".aiff": ("AIFF", None),
    ".aif": ("AIFF", None),
}
# Audio codecs by suffix for FFmpeg; for others, its default for the container.
_CODECS = {
    **dict.fromkeys((".mp4", ".m4v", ".m4a", ".mov", ".3gp", ".flv", ".ts", ".mts"), "aac"),
    **dict.fromkeys((".mkv", ".flac"), "flac"),
    **dict.fromkeys((".webm", ".ogv"), "libopus"),
    ".avi": "pcm_s16le",
    ".mp3": "libmp3lame",
}
# Formats that hold few video codecs: others are encoded anew, as VP8. The FFmpeg that PyAV brings encodes no Theora.
_ANEW = dict.fromkeys((".webm", ".ogv"), "libvpx")
_BITS_PER_PIXEL = 0.15
_GOOD = {"crf": "8", "deadline": "good", "cpu-used": "4"}  # quality and speed of libvpx
_QUICKTIME = (".mp4", ".m4v", ".mov")
_AUDIO_ALONE = (".flac", ".mp3", ".m4a", ".aac", ".ac3")  # they hold a cover, but no film
_LIMITED_RATES = {"OPUS": (8000, 12000, 16000, 24000, 48000)}
_TAGS = ("title", "artist", "album", "comment", "copyright", "date", "genre")  # of libsndfile
_BIT_RATE = 128_000  # of a channel
# What FFmpeg does by default to spare bits takes up to six times as long, and makes speech no better at this bit rate.
_OPTIONS = {"aac": {"aac_coder": "fast", "aac_ms": "0"}}
_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_REORDERED = 32  # largest number of packets without a decoding time before the first with one
_HELD = 256  # samples withheld until the end, where the audio is cut to the length of the input
# What a container says of itself, not of its content.
_OWN_TAGS = {
    *(
        "major_brand",
        "minor_version",
        "compatible_brands",
        "encoder",
        "duration",
        "handler_name",
        "vendor_id",
        "software",
    ),
    *("creation_time", "bps", "number_of_frames", "number_of_bytes", "filename", "mimetype", "language-eng", "name"),
}


class ClipWriter:
    """Writes enhanced speech block by block, as a context manager; the file appears complete, or not at all.

    `.wav`, `.flac`, `.ogg`, `.opus`, `.mp3`, `.aiff`, `.m4a` are audio files. Any other suffix gives a media file with
    the streams of the input, copied packet by packet: its video, subtitles, attachments and other audio tracks, with
    chapters, languages, tags and cover. Video that a `.webm` or `.ogv` cannot hold is encoded anew, with a warning. The
    speech takes the place of the audio track that was read, at its start time.
    It has the sample rate of the input (or the nearest that the codec has), and is exactly as long as the input's
    audio. `.mkv` and `.flac` store it without loss; `.wav` with the bits of the input. What the file cannot hold is
    named in `reader.info.warnings`.

    Arguments
    ---------
    output : path
        The file to write.
    reader : ClipReader
        The input; it must be read to its end before the writer is closed. Its video is copied even if it was not read.
    channels : int
        Of the speech: 1, or as many as the input has.
    given_rate : int
        Sample rate of the blocks, in Hz.

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

    def __init__(
        self, output: str | Path, reader: ClipReader, *, channels: int = 1, given_rate: int = SAMPLE_RATE
    ) -> None:
        self.output, self._reader, self._channels, self._given_rate = Path(output), reader, channels, given_rate
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
            kind = _AudioFile if self.output.suffix.lower() in _AUDIO_FORMATS else _MediaFile
            self._sink = kind(path, self.output, self._reader, self._channels)
            stack.push(self._sink.close)
            self.rate = self._sink.rate
            self._resampler = None
            if self.rate != self._given_rate:
                self._resampler = soxr.ResampleStream(self._given_rate, self.rate, self._channels, "float32")
            self._tail = np.zeros((self._channels, 0), np.float32)
            self._written = self._clipped = 0
            self._stack = stack.pop_all()
        return self

    def write(self, speech: np.ndarray) -> None:
        """Append speech, shape (samples,) or (channels, samples), float, at `given_rate`."""
        self._put(np.atleast_2d(speech).astype(np.float32), last=False)

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            self._stack.__exit__(kind, *error)
            return
        with self._stack:
            self._put(np.zeros((self._channels, 0), np.float32), last=True)
            info = self._reader.info
            missing = max(0, round(self._reader.samples * self.rate / info.sample_rate) - self._written)
            self._give(np.pad(self._tail, ((0, 0), (0, max(missing - self._tail.shape[1], 0))))[:, :missing])
            self._sink.finish()
            if self._clipped:
                clipped = (
                    "1 sample above full scale was"
                    if self._clipped == 1
                    else f"{self._clipped} samples above full scale were"
                )
                info.warnings.append(
                    f"{clipped} clipped in {self.output.name}. "
                    "A .wav of a .wav with floating-point samples keeps them; so does --loudness keep."
                )
            info.warnings += self._sink.lost

    def _put(self, speech: np.ndarray, last: bool) -> None:
        if self._resampler is not None:
            speech = np.ascontiguousarray(speech.T if self._channels > 1 else speech[0])
            speech = np.atleast_2d(self._resampler.resample_chunk(speech, last=last).T)
        waiting = np.concatenate([self._tail, speech], axis=1)
        ready = max(waiting.shape[1] - _HELD, 0)
        if ready:
            self._give(waiting[:, :ready])
            self._written += ready
        self._tail = waiting[:, ready:]

    def _give(self, speech: np.ndarray) -> None:
        if not self._sink.exceeds:
            self._clipped += int(np.sum(np.abs(speech) > 1))
            speech = np.clip(speech, -1, 1)
        self._sink.write(speech)


def write_enhanced(
    reader: ClipReader,
    output: str | Path,
    blocks: Iterable[np.ndarray],
    *,
    channels: int = 1,
    given_rate: int = SAMPLE_RATE,
) -> None:
    """Write enhanced speech block by block with a `ClipWriter`, whose errors it raises.

    Arguments
    ---------
    reader : ClipReader
        The input, which gives video, sample rate, start and length; it may be read while the blocks are made.
    output : path
        The file to write.
    blocks : iterable of array, each of shape (samples,) or (channels, samples), float
        Speech, in all as long as the input.
    channels, given_rate : int
        Of the blocks.

    Example
    -------
    >>> with open_clip("noisy.mp4") as reader:  # doctest: +SKIP
    ...     write_enhanced(reader, "speech.mp4", (chunk.clip.audio / 2 for chunk in reader.chunks(0.4)))
    """
    with ClipWriter(output, reader, channels=channels, given_rate=given_rate) as writer:
        for block in blocks:
            writer.write(block)
        reader.skip()


class _AudioFile:
    """An audio file, by libsndfile."""

    def __init__(self, path: Path, output: Path, reader: ClipReader, channels: int) -> None:
        import soundfile

        kind, subtype = _AUDIO_FORMATS[path.suffix.lower()]
        subtype = subtype or reader.info.sample_format
        self.rate = _allowed(reader.info.sample_rate, _LIMITED_RATES.get(subtype))
        self.exceeds = subtype == "FLOAT"
        self.lost: list[str] = []
        self._path, self._output = path, output
        try:
            self._file = soundfile.SoundFile(os.fsencode(path), "w", self.rate, channels, subtype, format=kind)
        except soundfile.LibsndfileError as error:
            if channels <= 2:
                raise
            raise _too_many(output, channels) from error
        tags = reader.tags()
        for name in _TAGS:
            if name in tags:
                setattr(self._file, name, tags[name])

    def write(self, samples: np.ndarray) -> None:
        import soundfile

        # libsndfile's Ogg encoders overflow their stack on very long blocks.
        for begin in range(0, samples.shape[1], 65536):
            try:
                self._file.write(samples[:, begin : begin + 65536].T)
            except (AssertionError, soundfile.LibsndfileError) as error:  # fewer samples written than given
                raise self._full() from error

    def finish(self) -> None:
        """Nothing is left to do before the file is closed."""

    def close(self, kind: type[BaseException] | None = None, *_: object) -> None:
        import soundfile

        frames = self._file.frames
        self._file.close()  # no error even if the last bytes are not written
        if kind is None and soundfile.info(os.fsencode(self._path)).frames != frames:
            raise self._full()

    def _full(self) -> AvseError:
        why = "No space left on device, or a limit on file sizes was reached"
        return AvseError(f"{self._output}: writing failed ({why}). Nothing was left behind.")


class _MediaFile:
    """Copied streams and encoded speech, by FFmpeg."""

    exceeds = False

    def __init__(self, path: Path, output: Path, reader: ClipReader, channels: int) -> None:
        import av

        suffix = output.suffix.lower()
        self.lost: list[str] = []
        self._path, self._channels = path, channels
        self._layout = reader.info.layout if channels == reader.info.channels else "mono"
        with ExitStack() as stack:
            self._film = video_path = reader.info.video_path or reader.info.path
            self._original = stack.enter_context(open_container(video_path))
            # Tags as phones write them, which FFmpeg else leaves out.
            phone = suffix in _QUICKTIME and any(key.startswith("com.") for key in self._original.metadata)
            options = {"movflags": "use_metadata_tags"} if phone else {}
            no_kind = AvseError(
                f"{output}: {suffix or 'a name without suffix'} is no kind of media file, or one of several files. "
                "Use .mp4 or .mkv for a video, .wav or .flac for audio."
            )
            try:
                # FFmpeg takes no cover into its own kind of .m4a.
                kind = "mp4" if suffix == ".m4a" else None
                self._container = av.open(str(path), "w", format=kind, options=options)
            except ValueError as error:
                raise no_kind from error
            # A playlist and its segments, or pictures, are written beside the file; a subtitle holds no audio.
            if self._container.format.no_file or self._container.default_audio_codec in ("", "none"):
                self._container.close()
                raise no_kind
            self._open = True
            stack.callback(self._shut)
            codec = av.Codec(_CODECS.get(suffix) or self._container.default_audio_codec, "w")
            self.rate = _allowed(reader.info.sample_rate, codec.audio_rates)
            self._layout = self._layout.replace("downmix", "stereo")
            if codec.name == "libopus":
                self._layout = self._layout.removesuffix("(side)")
            film = video_stream(self._original)
            tracks = self._original.streams.audio
            paired = video_path != reader.info.path
            self._replaced = tracks[0 if paired else reader.info.track] if tracks else None
            self._copies: dict[int, _Copy] = {}
            try:
                for stream in self._original.streams:
                    if stream is self._replaced:
                        self._add_audio(codec, reader)
                    elif (
                        stream is film
                        and suffix in _ANEW
                        and not _holds(self._container.format.name, stream, codec.name)
                    ):
                        self._add_anew(stream, suffix)
                    elif stream is film and suffix not in _AUDIO_ALONE:
                        self._add_copy(stream)
                    else:
                        self._add_other(stream, suffix)
                if self._replaced is None:
                    self._add_audio(codec, reader)
                # Ogg keeps the tags of the file with the stream.
                tags = reader.tags() if suffix in _AUDIO_ALONE else {}
                self._container.metadata.update({**tags, **self._original.metadata})
                self._container.set_chapters(self._original.chapters())
                self._container.start_encoding()
            except (av.error.FFmpegError, ValueError) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                    raise
                if channels > 2 and _holds(self._container.format.name, film):
                    raise _too_many(output, channels) from error
                held = "" if film is None else f"the video of {video_path.name} ({film.codec_context.name}) and "
                raise AvseError(
                    f"{output}: a {suffix} file cannot hold {held}audio as {codec.name}. "
                    f"Write {output.with_suffix('.mkv').name} instead."
                ) from error
            self._position = round(reader.start * self.rate)
            self._packets = self._timed()
            self._pending = next(self._packets, None)
            self._stack = stack.pop_all()

    def _add_audio(self, codec: Any, reader: ClipReader) -> None:
        self._audio: Any = self._container.add_stream(
            codec.name, rate=self.rate, layout=self._layout, options=_OPTIONS.get(codec.name)
        )
        self._audio.time_base = Fraction(1, self.rate)
        if codec.name == "flac" and reader.info.sample_format != "PCM_16":
            self._audio.codec_context.format = "s32"
        elif codec.name not in ("flac", "pcm_s16le"):
            self._audio.bit_rate = _BIT_RATE * self._channels
        if self._replaced is not None:
            from av.stream import Disposition

            self._audio.metadata.update(self._replaced.metadata)
            self._audio.disposition = self._replaced.disposition | Disposition.default

    def _add_copy(self, stream: Any) -> None:
        from av.stream import Disposition

        copy = self._container.add_stream_from_template(stream)
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        if stream.type == "audio":  # players take the track that was enhanced
            copy.disposition &= ~Disposition.default
        self._copies[stream.index] = _Copy(stream, copy)
        if self._container.format.name == "avi" and stream.type == "video":
            from av.bitstream import BitStreamFilterContext

            if stream.average_rate:
                copy.time_base = 1 / stream.average_rate  # which is its frame rate
            # AVI holds the form of transport streams, whose headers do not begin with 1 as those of MP4 do.
            name, head = stream.codec_context.name, stream.codec_context.extradata or b""
            if name in _ANNEX_B and head[:1] == b"\1":
                self._copies[stream.index].filter = BitStreamFilterContext(_ANNEX_B[name], stream)

    def _add_anew(self, stream: Any, suffix: str) -> None:
        """Encode the film anew, where the file cannot hold a copy of it."""
        with open_container(self._film) as again:
            first = next(again.decode(again.streams[stream.index]), None)
        video = self._container.add_stream(_ANEW[suffix], rate=stream.average_rate or VIDEO_RATE)
        self._copies[stream.index] = _Anew(stream, video, 0 if first is None else first.rotation)
        self.lost.append(
            f"the video was encoded anew as VP8: a {suffix} file cannot hold "
            f"{stream.codec_context.name}. Write .mkv to keep it as it is"
        )

    def _add_other(self, stream: Any, suffix: str) -> None:
        """Copy a stream that is neither the film nor the speech, or say that it is lost."""
        from av.stream import Disposition

        cover = stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)
        if suffix in _AUDIO_ALONE and not cover:
            return
        if stream.type == "data" and stream.codec_context is None and stream.frames == len(self._original.chapters()):
            return  # the track in which an mp4 keeps its chapters
        name = stream.codec_context.name if stream.codec_context is not None else ""
        if stream.type == "attachment" and self._container.format.name == "matroska":
            self._container.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
        elif cover and self._container.format.name == "matroska":
            with open_container(self._film) as again:
                data = next(bytes(packet) for packet in again.demux(again.streams[stream.index]) if packet.size)
            kind = {"mjpeg": "jpeg"}.get(name, name)
            self._container.add_attachment(f"cover.{kind[:3].replace('jpe', 'jpg')}", f"image/{kind}", data)
        elif _holds(self._container.format.name, stream):
            self._add_copy(stream)
        else:
            what = {"video": "cover" if cover else "second video"}.get(stream.type, stream.type)
            language = stream.metadata.get("language", "")
            told = ", ".join(part for part in (name, language) if part)
            self.lost.append(f"the {what}{f' ({told})' if told else ''} cannot be copied into a {suffix} file")

    def write(self, samples: np.ndarray) -> None:
        import av

        for begin in range(0, samples.shape[1], self.rate):
            block = samples[:, begin : begin + self.rate]
            # Interleaved, since PyAV miscounts the planes of eight channels.
            frame = av.AudioFrame.from_ndarray(block.T.reshape(1, -1).copy(), format="flt", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self._position, Fraction(1, self.rate)
            self._position += block.shape[1]
            self._container.mux(self._audio.encode(frame))
            self._copy(self._position / self.rate)

    def _copy(self, until: float) -> None:
        while self._pending is not None:
            packet = self._pending
            if packet.dts is not None and packet.dts * packet.time_base > until:
                return
            self._container.mux(self._copies[packet.stream.index].made(packet))
            self._pending = next(self._packets, None)

    def _timed(self) -> Iterator[Any]:
        if self._copies:
            for packet in demuxed(self._original, *(copy.source for copy in self._copies.values())):
                if packet.size:  # the packet at the end of a stream is empty
                    yield from self._copies[packet.stream.index].timed(packet)
            for copy in self._copies.values():
                yield from copy.waiting

    def finish(self) -> None:
        """Write what is left, and find what was lost."""
        self._container.mux(self._audio.encode(None))
        self._copy(float("inf"))
        for copy in self._copies.values():
            self._container.mux(copy.rest())
        self._shut()
        with open_container(self._path) as written:
            there = {key.lower() for key in written.metadata}
            there |= {key.lower() for stream in written.streams for key in stream.metadata}
            tags = {key.lower() for key in self._original.metadata} - _OWN_TAGS
            gone = sorted(key for key in tags if key.partition("-")[0] not in there)
            if gone:
                self.lost.append(f"tags that a {self._path.suffix} file does not keep: {', '.join(gone)}")
            if len(written.chapters()) < len(self._original.chapters()):
                self.lost.append(f"the chapters cannot be copied into a {self._path.suffix} file")

    def _shut(self) -> None:
        if self._open:
            self._open = False
            self._container.close()

    def close(self, *error: Any) -> None:
        self._stack.close()


class _Copy:
    """A stream that is copied; its packets get decoding times, which Matroska omits on the first reordered ones."""

    def __init__(self, source: Any, target: Any) -> None:
        self.source, self.target = source, target
        self.waiting: list[Any] = []
        self._last: int | None = None
        rate = source.average_rate if source.type == "video" else None
        self._step = max(1, round(1 / (rate * source.time_base))) if rate else 0
        self.filter: Any = None

    def made(self, packet: Any) -> list[Any]:
        """Packets to write, of one that was read."""
        packets = [packet] if self.filter is None else self.filter.filter(packet)
        for ready in packets:
            ready.stream = self.target
        return packets

    def rest(self) -> list[Any]:
        """Packets to write at the end."""
        return []

    def timed(self, packet: Any) -> Sequence[Any]:
        """The packets that are ready, given one more."""
        if packet.dts is None and self._last is not None:
            packet.dts = self._last + (packet.duration or self._step)
        self.waiting.append(packet)
        if packet.dts is None and len(self.waiting) < _REORDERED:
            return ()
        self._last = packet.dts if packet.dts is not None else packet.pts
        for place, early in enumerate(self.waiting):
            if early.dts is None and self._last is not None:
                early.dts = self._last - (len(self.waiting) - 1 - place) * (packet.duration or self._step)
        ready, self.waiting = self.waiting, []
        return ready


class _Anew(_Copy):
    """A film that is encoded anew: upright, and at its average frame rate, since Ogg keeps no other times."""

    def __init__(self, source: Any, target: Any, rotation: int) -> None:
        super().__init__(source, target)
        self._rate, self._quarters, self._next = target.codec_context.rate, round(rotation / 90) % 4, 0
        given = source.codec_context
        ratio = source.sample_aspect_ratio or Fraction(1)
        swapped = self._quarters % 2
        target.width, target.height = (given.height, given.width) if swapped else (given.width, given.height)
        target.codec_context.sample_aspect_ratio = 1 / ratio if swapped else ratio
        target.pix_fmt = "yuv420p"
        target.bit_rate = round(_BITS_PER_PIXEL * given.width * given.height * self._rate)
        target.options = _GOOD

    def timed(self, packet: Any) -> Sequence[Any]:
        return [packet]

    def made(self, packet: Any) -> list[Any]:
        return [ready for frame in packet.decode() for ready in self._encoded(frame)]

    def rest(self) -> list[Any]:
        return [
            *(ready for frame in self.source.decode(None) for ready in self._encoded(frame)),
            *self.target.encode(None),
        ]

    def _encoded(self, frame: Any) -> list[Any]:
        import av

        place = self._next if frame.pts is None else round(frame.pts * self.source.time_base * self._rate)
        if place < self._next:  # a second frame in the time of one
            return []
        self._next = place + 1
        if self._quarters:
            upright = np.rot90(frame.to_ndarray(format="rgb24"), self._quarters)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(upright), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base, frame.pict_type = place, 1 / self._rate, 0
        packets: list[Any] = self.target.encode(frame)
        return packets


def _holds(container: str, stream: Any, codec: str = "") -> bool:
    """Whether a container holds a copy of a stream; found by trying."""
    import av

    if stream is None:
        return True
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream(codec or trial.default_audio_codec, rate=48_000)  # some hold a cover beside audio alone
            copy = trial.add_stream_from_template(stream)
            copy.disposition = stream.disposition
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _too_many(output: Path, channels: int) -> AvseError:
    kind = f"a {output.suffix} file does not hold {channels} channels"
    return AvseError(f"{output}: {kind}. Write .mkv or .flac, or use --mono.")


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

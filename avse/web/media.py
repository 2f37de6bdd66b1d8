"""Files that every browser plays, from any container: H.264 and AAC in MP4."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avse.contracts.types import MOUTH_SIZE, SAMPLES_PER_FRAME, VIDEO_RATE, video_frames
from avse.files import atomic_path
from avse.media import open_clip
from avse.media.decode import VideoSource

if TYPE_CHECKING:
    from avse.media.reader import Chunk

_SIDE = 640  # longer side of the video, at most
_RATE = 48_000
_OPTIONS = {"movflags": "+faststart"}


def write_player(
    path: Path, source: Path, *, track: int = 0, video: Path | None = None, film: Path | None = None
) -> None:
    """Write the audio of a file, with a video that begins together with it, for a browser.

    Arguments
    ---------
    path : path
        The file to write, ending in `.mp4`.
    source : path
        A media file.
    track : int
        Which of its audio tracks.
    video : path, optional
        A media file whose video is shown, 25 frames per second.
    film : path, optional
        A file that this function wrote, whose video is copied.

    Raises
    ------
    AvseError
        If a file cannot be read or written.
    """
    import av

    with (
        atomic_path(path) as temporary,
        open_clip(source, use_video=False, track=track) as reader,
        av.open(str(temporary), "w", options=_OPTIONS) as container,
    ):
        packets: Iterator[Any] = iter(())
        if video is not None:
            packets = _encoded(container, video, reader.start)
        elif film is not None:
            packets = _copied(container, film)
        first = next(packets, None)  # streams are added before anything is written
        packets = packets if first is None else chain([first], packets)
        layout, rate = "stereo" if reader.info.channels == 2 else "mono", reader.info.sample_rate
        audio: Any = container.add_stream("aac", rate=_RATE, layout=layout)
        resampler = av.AudioResampler("fltp", layout, _RATE)
        reader.keep(mono=layout == "mono")
        written = 0
        for chunk in reader.chunks(1.0):
            for packet in islice(packets, video_frames(len(chunk.clip.audio))):
                container.mux(packet)
            if not (block := np.ascontiguousarray(reader.kept())).size:
                continue  # all was read with the chunk before
            frame = av.AudioFrame.from_ndarray(block, "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, written, Fraction(1, rate)
            written += block.shape[1]
            for piece in resampler.resample(frame):
                container.mux(audio.encode(piece))
        for piece in resampler.resample(None):
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
        for stream in container.streams.video if video is not None else ():
            container.mux(stream.encode(None))


class MouthWriter:
    """Writes the mouths of a clip as the model sees them, as a video; a context manager.

    Arguments
    ---------
    path : path
        The file to write, ending in `.mp4`.
    """

    def __init__(self, path: Path) -> None:
        import av

        self._container = av.open(str(path), "w", options=_OPTIONS)
        self._stream = _add_video(self._container, MOUTH_SIZE, MOUTH_SIZE)
        self.seen = False  # whether there is any
        self._begun = False

    def __enter__(self) -> MouthWriter:
        return self

    def write(self, chunk: Chunk) -> None:
        """Append the mouths of the next part of a file."""
        begin = chunk.overlap // SAMPLES_PER_FRAME
        for crop, valid in zip(chunk.clip.mouth[begin:], chunk.clip.valid[begin:]):
            self._begun, self.seen = True, self.seen or bool(valid)
            grey = crop if valid else np.zeros_like(crop)
            self._container.mux(self._stream.encode(_picture(np.repeat(grey[..., None], 3, axis=2))))

    def __exit__(self, *_: object) -> None:
        if self._begun:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def _encoded(container: Any, video: Path, start: float) -> Iterator[Any]:
    """Packets of each video frame, without end; where one is missing, the one before it is shown again."""
    source = VideoSource(video)
    with closing(source.container):
        frames = source.frames(start)
        head = list(islice(frames, VIDEO_RATE))
        before = next((frame for frame in head if frame is not None), None)
        pixels = np.zeros((2, 2, 3), np.uint8) if before is None else _even(before.rgb(_SIDE))
        stream = _add_video(container, pixels.shape[1], pixels.shape[0])
        for frame in chain(head, frames):
            if frame is not None and frame is not before:
                before, pixels = frame, _even(frame.rgb(_SIDE))
            yield stream.encode(_picture(pixels))


def _copied(container: Any, film: Path) -> Iterator[Any]:
    import av

    with av.open(str(film)) as original:
        stream = container.add_stream_from_template(original.streams.video[0])
        for packet in original.demux(original.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                yield packet


def _add_video(container: Any, width: int, height: int) -> Any:
    stream = container.add_stream("libx264", rate=VIDEO_RATE, options={"preset": "veryfast", "crf": "24"})
    stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuv420p", 1
    return stream


def _picture(pixels: np.ndarray) -> Any:
    import av

    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def _even(pixels: np.ndarray) -> np.ndarray:
    """Without the last row or column where their number is odd, which the codec cannot hold."""
    return pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]

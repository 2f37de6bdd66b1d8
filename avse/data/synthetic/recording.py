"""Video frames and audio into a video file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avse import compatibility
from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.files import atomic_path

_CODECS = {".mp4": ("libx264", "aac"), ".mov": ("libx264", "aac"), ".mpg": ("mpeg1video", "mp2")}


def write_video(
    path: str | Path, frames: np.ndarray, audio: np.ndarray | None = None, rate: Fraction = Fraction(VIDEO_RATE)
) -> None:
    """Write a video file: H.264 and AAC in `.mp4` and `.mov`, MPEG-1 and MP2 in `.mpg`.

    Arguments
    ---------
    path : path ending in `.mp4`, `.mov` or `.mpg`
    frames : array, shape (video_frames, height, width, 3), uint8
        Red, green, blue; height and width are even.
    audio : array, shape (samples,), optional
        At 16 kHz.
    rate : Fraction
        Frames per second.
    """
    import av

    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        video_codec, audio_codec = _CODECS[Path(path).suffix]
        options = {"crf": "20", "preset": "veryfast"} if video_codec == "libx264" else {}
        video: Any = container.add_stream(video_codec, rate=rate, options=options)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        if video_codec == "mpeg1video":
            video.bit_rate = 1_000_000
        stream: Any = None
        if audio is not None:
            stream = container.add_stream(audio_codec, rate=SAMPLE_RATE, layout="mono")
            stream.bit_rate = 96_000
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if stream is not None:
            _write_audio(container, stream, np.asarray(audio, dtype=np.float32))


def _write_audio(container: Any, stream: Any, audio: np.ndarray) -> None:
    import av

    for start in range(0, len(audio), SAMPLE_RATE):
        block = av.AudioFrame.from_ndarray(audio[None, start : start + SAMPLE_RATE], format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(block))
    container.mux(stream.encode(None))


__getattr__ = compatibility.old_names(__name__)

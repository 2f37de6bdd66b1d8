"""Pictures and sound into a film file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, VIDEO_RATE
from avse.files import atomic_path

_CODECS = {".mp4": ("libx264", "aac"), ".mpg": ("mpeg1video", "mp2")}


def write_film(path: str | Path, frames: np.ndarray, audio: np.ndarray | None = None) -> None:
    """Write a film: H.264 and AAC in `.mp4`, MPEG-1 and MP2 in `.mpg`.

    Arguments
    ---------
    path : path ending in `.mp4` or `.mpg`
    frames : array, shape (video_frames, height, width, 3), uint8
        Red, green, blue at 25 frames per second; height and width are even.
    audio : array, shape (samples,), optional
        At 16 kHz.
    """
    import av

    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        video_codec, audio_codec = _CODECS[Path(path).suffix]
        options = {"crf": "20", "preset": "veryfast"} if video_codec == "libx264" else {}
        video: Any = container.add_stream(video_codec, rate=VIDEO_RATE, options=options)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        if video_codec == "mpeg1video":
            video.bit_rate = 1_000_000
        sound: Any = None
        if audio is not None:
            sound = container.add_stream(audio_codec, rate=SAMPLE_RATE, layout="mono")
            sound.bit_rate = 96_000
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, VIDEO_RATE)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if sound is not None:
            _write_sound(container, sound, np.asarray(audio, dtype=np.float32))


def _write_sound(container: Any, sound: Any, audio: np.ndarray) -> None:
    import av

    resampler = av.AudioResampler(format=sound.format, layout="mono", rate=sound.rate)
    for start in range(0, len(audio), SAMPLE_RATE):
        block = av.AudioFrame.from_ndarray(audio[None, start : start + SAMPLE_RATE], format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        for frame in resampler.resample(block):
            container.mux(sound.encode(frame))
    container.mux(sound.encode(None))

"""Small media files made on the spot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avse.contracts.mouth_tracker import Face, MouthTracker

# For `turned_heads` beside this file, and `posed_faces`.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "signal")]


@pytest.fixture
def make_media(tmp_path: Path) -> Callable[..., Path]:
    """Writes a media file: sound of shape (channels, samples), pictures with times in seconds."""

    def make(
        name: str,
        sound: np.ndarray | None = None,
        rate: int = 16_000,
        frames: Sequence[np.ndarray] = (),
        times: Sequence[float] | None = None,
        fps: float = 25,
        audio_codec: str = "pcm_s16le",
        video_codec: str = "mpeg4",
        layout: str = "mono",
        audio_start: float = 0.0,
        faststart: bool = False,
    ) -> Path:
        import av

        path = tmp_path / name
        clock = Fraction(1, 600)
        with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
            if len(frames):
                video = container.add_stream(video_codec, rate=Fraction(fps).limit_denominator(1000))
                video.height, video.width = frames[0].shape[:2]
                video.pix_fmt = "yuvj420p" if video_codec == "mjpeg" else "yuv420p"
                video.bit_rate = 2_000_000
                video.codec_context.thread_count = 1
                if times is not None:
                    video.codec_context.time_base = clock
            if sound is not None:
                audio = container.add_stream(audio_codec, rate=rate, layout=layout)
                audio.time_base = Fraction(1, rate)
            for index, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                at = index * (1 / Fraction(fps).limit_denominator(1000)) if times is None else times[index]
                step = clock if times is not None else 1 / Fraction(fps).limit_denominator(1000)
                frame.pts, frame.time_base = round(at / step), step
                container.mux(video.encode(frame))
            if len(frames):
                container.mux(video.encode(None))
            if sound is not None:
                samples = np.atleast_2d(sound).astype(np.float32)
                for begin in range(0, samples.shape[1], 1000):
                    block = np.ascontiguousarray(samples[:, begin : begin + 1000])
                    frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                    frame.pts = round(audio_start * rate) + begin
                    container.mux(audio.encode(frame))
                container.mux(audio.encode(None))
        return path

    return make


class Squares(MouthTracker):
    """Sees each bright square as a face."""

    calls = 0

    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        import cv2

        self.calls += 1
        mask = (frame[..., 0] > 128).astype(np.uint8)
        count, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
        return [Face(tuple(float(value) for value in box[:4])) for box in boxes[1:count] if min(box[2:4]) >= 8]


@pytest.fixture
def squares() -> Squares:
    return Squares()

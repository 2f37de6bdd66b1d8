"""Corruption `compression`: a low bit rate."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from avse.contracts.corruption import Corruption
from avse.contracts.types import VIDEO_RATE
from avse.plugins import register

_RATE_FACTORS = (30, 36, 41, 46, 51)
_GREY = 128


@register("corruption", "compression")
class Compression(Corruption):
    """H.264 of a video call at a low bit rate: blocks, lost detail, and jerky motion.

    Arguments
    ---------
    severity : int
        Constant rate factor of 30, 36, 41, 46 or 51 (the coarsest).

    Example
    -------
    >>> mouth, valid = Compression(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    paper = "Yi et al., Benchmarking the Robustness of Spatial-Temporal Models Against Corruptions, NeurIPS 2021"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        corrupted = mouth.copy()
        # An invalid frame must not change the valid ones that are predicted from it.
        corrupted[valid] = _through_h264(mouth[valid], _RATE_FACTORS[self.severity - 1])
        return corrupted, valid.copy()


def _through_h264(crops: np.ndarray, rate_factor: int) -> np.ndarray:
    """Encode and decode grey frames."""
    import av

    if not len(crops):
        return crops
    height, width = crops.shape[1:]
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, VIDEO_RATE), 1
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(rate_factor)}
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets: list[Any] = []
    planes = np.full((height * 3 // 2, width), _GREY, dtype=np.uint8)  # luma, and below it neutral chroma
    for index, crop in enumerate(crops):
        planes[:height] = crop
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += [*encoder.encode(None), None]
    return np.stack([frame.to_ndarray()[:height] for packet in packets for frame in decoder.decode(packet)])

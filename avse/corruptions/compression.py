"""Corruption `compression`: too few bits."""

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
    """H.264 of a video call at a low bit rate: blocks, lost detail, and movements that come in steps.

    Arguments
    ---------
    severity : int
        Constant rate factor of 30, 36, 41, 46 or 51 (the coarsest there is).

    Takes and returns mouth (video_frames, 88, 88) uint8 and valid (video_frames,) bool.

    Example
    -------
    >>> mouth, valid = Compression(5)(np.full((10, 88, 88), 99, np.uint8), np.ones(10, bool), np.random.default_rng(0))
    >>> mouth.shape, valid.shape
    ((10, 88, 88), (10,))
    """

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Corruption.__call__`."""
        spoiled = mouth.copy()
        seen = np.flatnonzero(valid)  # what a frame without a mouth shows must not colour those after it
        for index, picture in zip(seen, _through_h264(mouth[seen], _RATE_FACTORS[self.severity - 1])):
            spoiled[index] = picture
        return spoiled, valid.copy()


def _through_h264(pictures: np.ndarray, rate_factor: int) -> list[np.ndarray]:
    """Grey pictures, encoded and decoded again."""
    import av

    if not len(pictures):
        return []
    height, width = pictures.shape[1:]
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, VIDEO_RATE), 1
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(rate_factor)}
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    shown: list[np.ndarray] = []
    planes = np.full((height * 3 // 2, width), _GREY, dtype=np.uint8)  # brightness, and below it no colour
    for index, picture in enumerate(pictures):
        planes[:height] = picture
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = index
        shown += [one for packet in encoder.encode(frame) for one in _decoded(decoder, packet, height)]
    shown += [one for packet in encoder.encode(None) for one in _decoded(decoder, packet, height)]
    return shown + _decoded(decoder, None, height)


def _decoded(decoder: Any, packet: Any, height: int) -> list[np.ndarray]:
    return [frame.to_ndarray()[:height] for frame in decoder.decode(packet)]

"""Corruptions of each crop by itself, as of the camera, the light and the bit rate; the validity stays."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from avse.contracts.corruption import Corruption
from avse.contracts.types import VIDEO_RATE
from avse.plugins import register

_COMMON_CORRUPTIONS = "Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions, ICLR 2019"
_GREY = 128


@register("corruption", "blur")
class Blur(Corruption):
    """Gaussian blur of every crop, as of a camera out of focus.

    Arguments
    ---------
    severity : int
        Standard deviation of 1, 2, 4, 7 or 12 pixels.
    """

    levels = (1.0, 2.0, 4.0, 7.0, 12.0)
    paper = _COMMON_CORRUPTIONS

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        blurred = [cv2.GaussianBlur(crop, (0, 0), self.severity_level) for crop in mouth]
        return np.stack(blurred) if blurred else mouth.copy(), valid.copy()


@register("corruption", "low_resolution")
class LowResolution(Corruption):
    """The crop is reduced to a few pixels and enlarged again, as of a face far from the camera.

    Arguments
    ---------
    severity : int
        To 40, 24, 15, 9 or 5 pixels on each side.
    """

    levels = (40, 24, 15, 9, 5)
    paper = _COMMON_CORRUPTIONS

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        corrupted = mouth.copy()
        for index, crop in enumerate(mouth):
            reduced = cv2.resize(crop, (self.severity_level, self.severity_level), interpolation=cv2.INTER_AREA)
            corrupted[index] = cv2.resize(reduced, crop.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return corrupted, valid.copy()


@register("corruption", "pixel_noise")
class PixelNoise(Corruption):
    """White Gaussian noise on every pixel.

    Arguments
    ---------
    severity : int
        Standard deviation of 10, 25, 50, 90 or 150 grey levels.
    """

    levels = (10.0, 25.0, 50.0, 90.0, 150.0)
    paper = _COMMON_CORRUPTIONS

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return _pixels(mouth + self.severity_level * rng.standard_normal(mouth.shape)), valid.copy()


@register("corruption", "low_light")
class LowLight(Corruption):
    """Less light, and the noise of a sensor, whose variance has a constant part and one in proportion to the light.

    Arguments
    ---------
    severity : int
        The light is divided by 1.5, 2.5, 5, 10 or 25.
    """

    levels = (1.5, 2.5, 5.0, 10.0, 25.0)
    paper = "Foi et al., Practical Poissonian-Gaussian Noise Modeling for Single-Image Raw-Data, IEEE TIP 2008"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        light = mouth / self.severity_level
        return _pixels(light + rng.standard_normal(mouth.shape) * (1.0 + 0.5 * np.sqrt(light))), valid.copy()


@register("corruption", "flicker")
class Flicker(Corruption):
    """The light varies periodically, in bands that move over the frame because of a rolling shutter.

    Arguments
    ---------
    severity : int
        The light varies by 15, 30, 50, 75 or 100 % of its mean, 2 to 10 times per second.

    Example
    -------
    >>> mouth, valid = Flicker(5)(np.full((50, 88, 88), 99, np.uint8), np.ones(50, bool), np.random.default_rng(0))
    >>> int(mouth.min()), int(mouth.max()), valid.shape
    (0, 198, (50,))
    """

    levels = (0.15, 0.3, 0.5, 0.75, 1.0)

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames, height = mouth.shape[:2]
        turns = rng.uniform(2, 10) / VIDEO_RATE * np.arange(frames)[:, None] + rng.random()
        bands = rng.uniform(-0.7, 0.7) * np.linspace(-0.5, 0.5, height)
        light = 1 + self.severity_level * np.sin(2 * np.pi * (turns + bands))
        return _pixels(mouth * light[:, :, None].astype(np.float32)), valid.copy()


@register("corruption", "null")
class Null(Corruption):
    """Every crop becomes a uniform grey or black, which a tracker still accepts.

    Arguments
    ---------
    severity : int
        1 to 4: from a light to a dark grey; 5: black.
    """

    levels = (120, 90, 60, 30, 0)

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return np.full_like(mouth, self.severity_level), valid.copy()


@register("corruption", "compression")
class Compression(Corruption):
    """H.264 of a video call at a low bit rate: blocks, lost detail, and jerky motion.

    Arguments
    ---------
    severity : int
        Constant rate factor of 30, 36, 41, 46 or 51 (the coarsest).
    """

    levels = (30, 36, 41, 46, 51)
    paper = "Yi et al., Benchmarking the Robustness of Spatial-Temporal Models Against Corruptions, NeurIPS 2021"

    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        corrupted = mouth.copy()
        # An invalid frame must not change the valid ones that are predicted from it.
        corrupted[valid] = _through_h264(mouth[valid], self.severity_level)
        return corrupted, valid.copy()


def _pixels(values: np.ndarray) -> np.ndarray:
    """Grey levels as uint8, rounded and clipped."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


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

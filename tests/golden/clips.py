"""Two clips and a mixture that are a function of numpy's generator alone."""

from __future__ import annotations

import numpy as np

from avse import Clip

RATE, FRAME = 16_000, 640


def clip(seed: int, samples: int) -> Clip:
    """A buzzing voice in coloured noise over a mouth that opens with the voice; some frames are not valid."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * (2.0 + 0.5 * seed) * time)
    voice = sum(np.sin(2 * np.pi * (110 + 40 * seed) * k * time) / k for k in range(1, 12))
    noise = np.convolve(rng.standard_normal(samples + 31), np.hanning(32), mode="valid")
    audio = 0.1 * envelope * voice + 0.02 * noise
    frames = -(-samples // FRAME)
    opening = envelope[np.minimum(np.arange(frames) * FRAME, samples - 1)]
    row, column = np.mgrid[:88, :88] - 43.5
    radius = (row[None] / (6 + 18 * opening[:, None, None])) ** 2 + (column[None] / (20 + 2 * seed)) ** 2
    mouth = np.where(radius < 1, 40, 150) + rng.integers(-20, 21, (frames, 88, 88))
    valid = np.ones(frames, dtype=bool)
    valid[3:5] = False
    return Clip(audio.astype(np.float32), mouth.astype(np.uint8), valid)


def clips() -> list[Clip]:
    """The two clips, of 1.2 s and 0.8 s."""
    return [clip(1, 19_200), clip(2, 12_801)]


def mixture() -> tuple[np.ndarray, list[Clip]]:
    """Both voices at once, and a clip of each mouth."""
    first, second = clips()
    audio = first.audio.copy()
    audio[: len(second.audio)] += second.audio
    mouth, valid = np.zeros_like(first.mouth), np.zeros_like(first.valid)
    mouth[: len(second.mouth)], valid[: len(second.valid)] = second.mouth, second.valid
    return audio, [Clip(audio, first.mouth, first.valid), Clip(audio, mouth, valid)]

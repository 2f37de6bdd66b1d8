"""Embedding `my_plugin`: a scene as one vector.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from avse.contracts.embedding import Embedding
from avse.plugins import register

FFT_SIZE = 512


@register("embedding", "my_plugin")
class MyPlugin(Embedding):
    """The average spectrum of audio, in bands, without its level.

    Arguments
    ---------
    bands : int
        Bands of equal width up to 8 kHz.

    Takes audio clips, each of shape (samples,) at 16 kHz; returns
    (batch, output_dim) with `output_dim = bands + 1`, each vector of length one.

    Example
    -------
    >>> embedding = MyPlugin(bands=8)
    >>> embedding([torch.randn(16000), torch.randn(8000)], "sound").shape
    torch.Size([2, 9])
    """

    # CHANGE: where the method comes from, such as "Doe et al., A description, 2026".
    paper = ""
    # CHANGE: which of text, image, video and sound it understands.
    modalities = ("sound",)

    def __init__(self, bands: int = 64) -> None:
        super().__init__()
        # KEEP: how many features a vector has.
        self.output_dim = bands + 1
        self.bands = bands

    # KEEP `forward` of the base class, which refuses other modalities.
    def embed(self, items: Sequence[Any], modality: str) -> torch.Tensor:
        """See `Embedding.embed`: shape (batch, output_dim)."""
        # CHANGE: from one item to one vector, here without regard to the others. Where
        # a network takes a padded batch, it must not see the padding.
        vectors = torch.stack([self._spectrum(item) for item in items])
        # KEEP the length of one. The last feature, always the same, keeps the vector
        # of silence from being zero.
        vectors = torch.nn.functional.pad(vectors, (0, 1), value=1.0)
        return torch.nn.functional.normalize(vectors, dim=1)

    def _spectrum(self, audio: Any) -> torch.Tensor:
        """Log-power by band around its mean, shape (bands,), of audio (samples,)."""
        samples = torch.as_tensor(audio, dtype=torch.float32)
        samples = torch.nn.functional.pad(samples, (0, max(0, FFT_SIZE - len(samples))))
        frames = samples.unfold(0, FFT_SIZE, FFT_SIZE // 2)
        window = torch.hann_window(FFT_SIZE, device=frames.device)
        power = torch.fft.rfft(frames * window).abs().square().mean(dim=0)
        bands = torch.nn.functional.adaptive_avg_pool1d(power[None], self.bands)[0]
        level = (bands + 1e-8).log()
        return level - level.mean()

"""Fusion `my_plugin`: says what to add to the audio, and how far to trust it.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.fusion import Fusion
from avse.plugins import register
from torch import nn


@register("fusion", "my_plugin")
class MyPlugin(Fusion):
    """Reads both streams in one hidden layer, and learns when to trust the video.

    The result is `audio + reliability * delta`, both from the hidden layer.

    Arguments
    ---------
    audio_dim, video_dim : int
        Features of either stream.
    hidden_dim : int
        Width of the hidden layer.

    Takes audio (batch, frames, audio_dim), video (batch, frames, video_dim) and valid
    (batch, frames); returns fused (batch, frames, audio_dim) and reliability
    (batch, frames).

    Example
    -------
    >>> fusion = MyPlugin(audio_dim=8, video_dim=6)
    >>> audio, video = torch.randn(2, 5, 8), torch.randn(2, 5, 6)
    >>> fused, reliability = fusion(audio, video, torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape, reliability.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 5]))
    """

    # CHANGE: where the method comes from, such as "Doe et al., A fusion, 2026".
    paper = ""
    # KEEP true only while no frame looks at later frames, as here; or take `causal` in
    # the constructor and set `self.causal`; both are checked.
    causal = True
    # CHANGE for live use, where each frame is treated by itself, as here, or looks back
    # through `avse.contracts.streaming`:
    # streams = True
    # CHANGE where each frame looks at all others (attention over the whole clip):
    # complexity = "quadratic"

    # KEEP audio_dim and video_dim: recipes set them. CHANGE what follows them.
    def __init__(self, audio_dim: int, video_dim: int, hidden_dim: int = 64) -> None:
        super().__init__(audio_dim, video_dim)
        self.norm = nn.LayerNorm(audio_dim)
        self.hidden = nn.Linear(audio_dim + video_dim, hidden_dim)
        self.to_delta = nn.Linear(hidden_dim, audio_dim)
        self.to_reliability = nn.Linear(hidden_dim, 1)

    @classmethod
    def example_arguments(cls) -> dict:
        # KEEP it small: the checks build the plugin with these.
        return {"audio_dim": 8, "video_dim": 6, "hidden_dim": 4}

    # KEEP `forward` of the base class. It blanks the video of invalid frames before
    # `delta` sees it, and lets the audio of those frames pass as it came.
    def delta(
        self,
        audio: torch.Tensor,
        video: torch.Tensor,
        valid: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Fusion.delta`: shapes (batch, frames, audio_dim) and (batch, frames)."""
        # CHANGE: a function of both streams. What looks over frames (attention, means,
        # recurrence) must leave out those where `valid` is false.
        hidden = torch.cat([self.norm(audio), video], dim=2)
        hidden = nn.functional.silu(self.hidden(hidden))
        # KEEP in [0, 1]; torch.ones_like(...) for a fusion that does not estimate it.
        reliability = torch.sigmoid(self.to_reliability(hidden)).squeeze(2)
        return self.to_delta(hidden), reliability

"""Fusion `none`: audio only."""

from __future__ import annotations

import torch

from avse.contracts.fusion import Fusion
from avse.plugins import register


@register("fusion", "none")
class NoFusion(Fusion):
    """Leaves the video out: the audio-only twin of every audio-visual system.

    Example
    -------
    >>> audio = torch.randn(1, 4, 8)
    >>> fused, reliability = NoFusion(8, 6)(audio, torch.randn(1, 4, 6), torch.ones(1, 4, dtype=torch.bool))
    >>> torch.equal(fused, audio), float(reliability.max())
    (True, 0.0)
    """

    causal = streams = True

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Zero, with reliability zero; see `Fusion.delta`."""
        return torch.zeros_like(audio), audio.new_zeros(audio.shape[:2])

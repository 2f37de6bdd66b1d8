"""Visual front-end `pixel_mlp`: the flattened mouth through a small perceptron."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register


@register("visual_frontend", "pixel_mlp")
class PixelMLP(VisualFrontend):
    """Flattened pixels, two layers, as in the audio-visual VAE papers; each frame on its own.

    Arguments
    ---------
    output_dim : int
        Features per frame.
    hidden_dim : int
        Width of the first layer.
    size : int
        Crops are reduced to `size` x `size` pixels first.

    Example
    -------
    >>> mouth = torch.zeros(1, 3, 88, 88, dtype=torch.uint8)
    >>> PixelMLP(output_dim=16)(mouth, torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 16])
    """

    paper = "Sadeghi et al., Audio-visual speech enhancement using conditional variational auto-encoders, 2020"
    causal = streams = True

    def __init__(self, output_dim: int = 128, hidden_dim: int = 512, size: int = 44) -> None:
        super().__init__()
        self.output_dim, self.size = output_dim, size
        self.layers = nn.Sequential(
            nn.Linear(size * size, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, output_dim), nn.ReLU()
        )

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"output_dim": 6, "hidden_dim": 8, "size": 11}

    def features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        small = F.adaptive_avg_pool2d(mouth, self.size)
        return self.layers(small.flatten(2))

"""Visual front-end `resnet3d`: a spatio-temporal convolution, then a residual network for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from avse.plugins import register
from avse.visual_frontends.spatiotemporal import SpatioTemporal


@register("visual_frontend", "resnet3d")
class ResNet3d(SpatioTemporal):
    """Residual network of lip reading over mouth crops, in a small size.

    The first layer is a 3-D convolution over `context` frames. Two residual blocks follow for each of the further
    `channels`, each frame on its own, then the mean over height and width, and two residual convolutions over 3 frames.
    Layers are normalised frame by frame, where the papers normalise over the batch: a clip's features do not depend on
    other clips.

    Arguments
    ---------
    channels : sequence of int
        Channels of the first layer and of the pairs of blocks, each of stride 2.
    others
        See `SpatioTemporal`.

    Example
    -------
    >>> mouth = torch.zeros(1, 3, 88, 88, dtype=torch.uint8)
    >>> ResNet3d(output_dim=16, channels=(4, 8))(mouth, torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 16])
    """

    paper = "Ma et al., Towards practical lipreading with distilled and efficient models, 2021"

    def __init__(self, output_dim: int = 128, channels: Sequence[int] = (24, 32, 64, 128), **common: Any) -> None:
        super().__init__(output_dim, **common)
        first, *others = channels
        layers: list[nn.Module] = [
            nn.Conv2d(self.context, first, 5, stride=2, padding=2),
            nn.GroupNorm(1, first),
            nn.SiLU(inplace=True),
        ]
        width = first
        for out in others:
            layers += [_Block(width, out, stride=2), _Block(out, out, stride=1)]
            width = out
        self.add_layers(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), width)

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"output_dim": 6, "channels": (4, 6), "size": 12}


class _Block(nn.Module):
    """Two convolutions of 3 x 3, and a short cut."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, out, 3, stride=stride, padding=1),
            nn.GroupNorm(1, out),
            nn.SiLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1),
            nn.GroupNorm(1, out),
        )
        self.short_cut = nn.Conv2d(width, out, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return F.silu(self.short_cut(maps) + self.layers(maps))

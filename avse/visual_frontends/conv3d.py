"""Visual front-end `conv3d`: a spatio-temporal convolution, then convolutions in space and in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from avse.plugins import register
from avse.visual_frontends.spatiotemporal import SpatioTemporal


@register("visual_frontend", "conv3d")
class Conv3d(SpatioTemporal):
    """Spatio-temporal convolutional network over mouth crops.

    The first layer is a 3-D convolution over `context` frames. Further layers halve height and width; two residual
    convolutions over 3 frames follow. `channels=(32, 64, 128, 192), output_dim=256` makes it about four times as large.

    Arguments
    ---------
    channels : sequence of int
        Channels of the layers in space, each of stride 2.
    others
        See `SpatioTemporal`.

    Example
    -------
    >>> import torch
    >>> mouth = torch.zeros(1, 3, 88, 88, dtype=torch.uint8)
    >>> Conv3d(output_dim=16, channels=(4, 8))(mouth, torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 16])
    """

    paper = "Stafylakis and Tzimiropoulos, Combining residual networks with LSTMs for lipreading, 2017"

    def __init__(self, output_dim: int = 128, channels: Sequence[int] = (16, 32, 64, 96), **common: Any) -> None:
        super().__init__(output_dim, **common)
        layers: list[nn.Module] = []
        width, side = self.context, self.size
        for index, out in enumerate(channels):
            kernel = 5 if index == 0 else 3
            layers += [
                nn.Conv2d(width, out, kernel, stride=2, padding=kernel // 2),
                nn.GroupNorm(1, out),
                nn.SiLU(inplace=True),
            ]
            width, side = out, -(-side // 2)
        self.add_layers(nn.Sequential(*layers), width * side * side)

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"output_dim": 6, "channels": (4, 6), "size": 12}

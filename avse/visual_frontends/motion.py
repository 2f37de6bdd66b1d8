"""Visual front-end `motion`: mouth opening and motion energy, with no learned weight."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from avse.contracts.streaming import with_past
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register


@register("visual_frontend", "motion")
class Motion(VisualFrontend):
    """Hand-made features: how dark and how tall the mouth is, and how its parts move.

    For each cell of a `grid` x `grid` partition of the crop: mean grey level, mean change since the frame before
    (energy), and mean normal flow (vertical and horizontal), which is `-I_t grad(I) / (|grad(I)|^2 + c)`. Two more
    features measure the opening: darkness of the centre, and vertical spread of dark pixels in the middle columns.

    Arguments
    ---------
    grid : int
        Cells per side; there are 4 grid^2 + 2 features.
    size : int
        Crops are reduced to `size` x `size` pixels first.

    Example
    -------
    >>> mouth = torch.zeros(1, 3, 88, 88, dtype=torch.uint8)
    >>> Motion(grid=2)(mouth, torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 18])
    """

    paper = "Horn and Schunck, Determining optical flow, 1981 (normal flow)"
    causal = streams = True

    def __init__(self, grid: int = 4, size: int = 44) -> None:
        super().__init__()
        self.grid, self.size = grid, size
        self.output_dim = 4 * grid * grid + 2

    def features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        small = F.adaptive_avg_pool2d(mouth, self.size)
        # A change is only known between two valid frames.
        both = valid & with_past(self, "valid", valid, 1)[:, :-1]
        change = torch.where(both[..., None, None], small - with_past(self, "crops", small, 1)[:, :-1], 0.0)
        down = F.pad(small[..., 2:, :] - small[..., :-2, :], (0, 0, 1, 1)) / 2
        right = F.pad(small[..., 2:] - small[..., :-2], (1, 1)) / 2
        strength = down.square() + right.square() + 0.05
        maps = [small, change.square().clamp(max=25.0).sqrt(), -change * down / strength, -change * right / strength]
        cells = [F.adaptive_avg_pool2d(values, self.grid).flatten(2) for values in maps]
        third = self.size // 3
        middle = small[..., third : self.size - third]
        darkness = torch.sigmoid(-2.0 * (middle - small.mean(dim=(2, 3), keepdim=True)) - 1.0).mean(dim=3)
        rows = torch.linspace(-1, 1, self.size, dtype=small.dtype, device=small.device)
        total = darkness.sum(dim=2) + 1e-4
        centre = (darkness * rows).sum(dim=2) / total
        spread = (darkness * (rows - centre[..., None]).square()).sum(dim=2) / total
        return torch.cat(
            [*cells, darkness[..., third : self.size - third].mean(dim=2, keepdim=True), spread[..., None]], 2
        )

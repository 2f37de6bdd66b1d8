"""Visual front-end `my_plugin`: what each mouth crop says.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register
from torch import nn


@register("visual_frontend", "my_plugin")
class MyPlugin(VisualFrontend):
    """Two strided convolutions over each crop by itself, and one linear layer.

    Arguments
    ---------
    output_dim : int
        Features per frame.
    width : int
        Maps after the first convolution; twice as many after the second.

    Takes mouth (batch, video_frames, 88, 88) uint8 and valid (batch, video_frames);
    returns (batch, video_frames, output_dim).

    Example
    -------
    >>> frontend = MyPlugin(output_dim=16)
    >>> mouth = torch.zeros(1, 3, 88, 88, dtype=torch.uint8)
    >>> frontend(mouth, torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 16])
    """

    # CHANGE: where the method comes from, such as "Doe et al., A front-end, 2026".
    paper = ""
    # KEEP true only while no frame looks at later frames, as here; or take `causal` in
    # the constructor and set `self.causal`; both are checked.
    causal = True
    # CHANGE for live use, where each frame is treated by itself, as here, or looks back
    # through `avse.contracts.streaming`:
    # streams = True
    # CHANGE where each frame looks at all others (attention over the whole clip):
    # complexity = "quadratic"

    # KEEP output_dim: recipes set it, and the fusion reads it. CHANGE the rest.
    def __init__(self, output_dim: int = 64, width: int = 8) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.maps = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=5, stride=4, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, kernel_size=3, stride=2, padding=1),
            nn.SiLU(),
            # A small grid keeps where in the crop something is.
            nn.AvgPool2d(kernel_size=4),
        )
        self.to_features = nn.Linear(2 * width * 2 * 2, output_dim)

    @classmethod
    def example_arguments(cls) -> dict:
        # KEEP it small: the checks build the plugin with these.
        return {"output_dim": 6, "width": 2}

    # KEEP `forward` of the base class. It scales the crops, blanks those of invalid
    # frames before `features` sees them, and blanks their features afterwards.
    def features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See `VisualFrontend.features`: shape (batch, video_frames, output_dim)."""
        # `mouth` is (batch, video_frames, 88, 88), scaled: (value / 255 - 0.421) /
        # 0.165, so from -2.55 (black) to 3.51 (white), and 0 in invalid frames.
        # CHANGE: a network over the crops. What looks over frames must see zeros
        # beyond a clip's end, and keep as many frames as it was given.
        maps = self.maps(mouth.flatten(0, 1)[:, None])
        return self.to_features(maps.flatten(1)).unflatten(0, valid.shape)

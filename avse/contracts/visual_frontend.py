"""Kind `visual_frontend`: mouth crops to one vector per video frame."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import nn

from avse.contracts.plugin import Plugin
from avse.contracts.streaming import streaming


class VisualFrontend(nn.Module, Plugin):
    """Turns mouth crops into features, one vector per video frame.

    A subclass sets `output_dim` in its constructor and implements `features`. The base class scales the crops, blanks
    what invalid frames hold before `features` sees it, and blanks the features of invalid frames after it, so that
    nothing of an invalid frame leaks into a valid one.

    Attributes
    ----------
    output_dim : int
        Features per frame.

    Example
    -------
    >>> from avse.visual_frontends.motion import Motion
    >>> frontend = Motion()
    >>> mouth = torch.zeros(2, 5, 88, 88, dtype=torch.uint8)
    >>> frontend(mouth, torch.ones(2, 5, dtype=torch.bool)).shape == (2, 5, frontend.output_dim)
    True
    """

    output_dim: int

    @abstractmethod
    def features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Features of scaled crops, shape (batch, video_frames, output_dim).

        Arguments
        ---------
        mouth : tensor, shape (batch, video_frames, 88, 88), float
            Grey levels, (value / 255 - 0.421) / 0.165; zero in invalid frames.
        valid : tensor, shape (batch, video_frames), bool
        """

    def forward(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Features of mouth crops.

        Arguments
        ---------
        mouth : tensor, shape (batch, video_frames, 88, 88), uint8
        valid : tensor, shape (batch, video_frames), bool

        Returns
        -------
        tensor, shape (batch, video_frames, output_dim)
            Zero in invalid frames.
        """
        if not streaming() and not bool(valid.any()):
            return torch.zeros(*valid.shape, self.output_dim, device=mouth.device)
        dtype = next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        scaled = (mouth.to(dtype) / 255.0 - 0.421) / 0.165
        scaled = torch.where(valid[..., None, None], scaled, scaled.new_zeros(()))
        features = self.features(scaled, valid)
        return torch.where(valid[..., None], features, features.new_zeros(()))


VisualFrontendFactory = Callable[..., VisualFrontend]
"""Builds a front-end when it is called without arguments."""

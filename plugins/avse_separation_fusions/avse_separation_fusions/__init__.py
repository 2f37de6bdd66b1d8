"""The fusions `caf` and `bilinear` for `avse`, from audio-visual speech separation and visual question answering."""

from .bilinear import Bilinear
from .caf import CAF

__all__ = ["CAF", "Bilinear"]

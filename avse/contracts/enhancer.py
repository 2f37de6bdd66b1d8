"""Kind `enhancer`: a supervised network from noisy sound and video to the voice."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from avse.contracts.plugin import Plugin
from avse.contracts.types import Batch, Estimate
from avse.errors import AvseError


class Enhancer(nn.Module, Plugin):
    """A network that maps a `Batch` to an `Estimate` in one pass.

    It must keep two promises: with no valid frame the result is bit for bit that of the same clip without video, and
    a batch gives what its clips give one by one. The scale of the input is kept, so that `speech + noise` is the
    noisy sound.
    """

    def calibrate(self, scale: float, shift: float) -> None:
        """Replace the log-odds l of the reliability by `scale` l + `shift`.

        Raises
        ------
        AvseError
            If the enhancer does not estimate its reliability.
        """
        raise AvseError(f"{type(self).__name__} does not estimate its reliability: there is nothing to calibrate.")

    @abstractmethod
    def forward(self, batch: Batch) -> Estimate:
        """Enhance.

        Arguments
        ---------
        batch : Batch

        Returns
        -------
        Estimate
            `speech` and `noise` of shape (batch, samples), zero beyond each clip's end; `reliability` of shape
            (batch, video_frames).
        """

"""What enhances: the common base of the kinds `enhancer` and `inference`."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from avse.contracts.plugin import Plugin
from avse.contracts.types import Batch, Estimate
from avse.errors import AvseError


class System(nn.Module, Plugin):
    """Maps a `Batch` to an `Estimate`, for one speaker or for several.

    It keeps two promises: with no valid frame the result is bit for bit that of the same clip without video, and a
    batch gives what its clips give one by one. The scale of the input is kept, so that all speech and the noise add up
    to the noisy audio.
    """

    @abstractmethod
    def forward(self, batch: Batch) -> Estimate:
        """Find the speech.

        Returns
        -------
        Estimate
            `speech` and `noise` of shape (batch, samples), zero beyond each clip's end; `reliability` of shape
            (batch, video_frames). A system that takes the speakers of a mixture together may give them with an axis
            `sources`; see `run`.
        """

    def calibrate(self, scale: float, shift: float) -> None:
        """Replace the log-odds l of the reliability by `scale` l + `shift`.

        Raises
        ------
        AvseError
            If the system does not estimate its reliability.
        """
        raise AvseError(f"{type(self).__name__} does not estimate its reliability: there is nothing to calibrate.")


def run(system: nn.Module, batch: Batch) -> Estimate:
    """What a system finds in a batch, with an axis `sources` where the rows of the batch belong to mixtures."""
    estimate = system(batch)
    return estimate if estimate.speech.ndim == 3 else estimate.by_source(batch)

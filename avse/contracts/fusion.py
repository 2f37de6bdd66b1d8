"""Kind `fusion`: how video enters a stream of audio features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from avse import compatibility
from avse.contracts.plugin import Plugin
from avse.contracts.streaming import streaming
from avse.errors import AvseError


class Fusion(nn.Module, Plugin):
    """Adds to audio features what the video says, weighed by how far the video can be trusted.

        fused = audio + r^e g delta(audio, video),    r: reliability, e: `reliability_exponent`, g: `feature_weight`

    The weights act after any normalisation, so that where no video is valid the audio passes bit for bit. A subclass
    implements `delta`; the base class blanks invalid video, weighs, and keeps the promise whatever `delta` returns.

    Arguments
    ---------
    audio_dim : int
        Features of the audio.
    video_dim : int
        Features of the video.

    Both streams have the frames of the audio: `avse.signal.stft.repeat_to_frames` has repeated those of the video.

    Attributes
    ----------
    reliability_exponent : float
        1 unless a fusion sets another: the reported reliability is the weight. Above 1 the weight is `weight` of it.
    tells_audio : bool
        Whether there is an `audio_reliability`.

    Example
    -------
    >>> from avse.fusion.concat import Concat
    >>> fusion = Concat(audio_dim=4, video_dim=3)
    >>> audio, video = torch.randn(2, 10, 4), torch.randn(2, 10, 3)
    >>> fused, reliability = fusion(audio, video, torch.zeros(2, 10, dtype=torch.bool))
    >>> torch.equal(fused, audio), reliability.shape
    (True, torch.Size([2, 10]))
    """

    audio_dim: int
    video_dim: int
    reliability_exponent: float = 1.0
    tells_audio: bool = False

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__()
        self.audio_dim, self.video_dim = audio_dim, video_dim

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"audio_dim": 8, "video_dim": 6}

    @abstractmethod
    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What to add to the audio, and how far to trust it.

        Arguments
        ---------
        audio : tensor, shape (batch, frames, audio_dim)
        video : tensor, shape (batch, frames, video_dim)
            Zero in invalid frames.
        valid : tensor, shape (batch, frames), bool

        Returns
        -------
        delta : tensor, shape (batch, frames, audio_dim)
        reliability : tensor, shape (batch, frames), in [0, 1]
            Ones for a fusion that does not estimate it.
        """

    def feature_weight(self, audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor | None:
        """A weight in [0, 1] of each feature of `delta`, shape (batch, frames, audio_dim); None: ones.

        A gate within `delta` would be undone by a network that normalises `delta`. Arguments as of `delta`.
        """
        return None

    def audio_reliability(self, audio: torch.Tensor) -> torch.Tensor | None:
        """How far the audio can be trusted, shape (batch, frames), in [0, 1]; None unless `tells_audio`.

        `audio` is that of `forward`. It does not depend on the video.
        """
        return None

    def precision_loss(self, audio: torch.Tensor, clean: torch.Tensor) -> torch.Tensor | None:
        """Negative log-likelihood, for training, of features without noise given those in noise; None: it has none.

        Arguments
        ---------
        audio : tensor, shape (batch, frames, audio_dim)
            Features in noise.
        clean : tensor, shape (batch, frames, audio_dim)
            The same features without noise.
        """
        return None

    def calibrate(self, scale: float, shift: float) -> None:
        """Replace the log-odds l of the reliability by `scale` l + `shift`.

        Raises
        ------
        AvseError
            If the fusion does not estimate its reliability.
        """
        raise AvseError(
            f"The fusion {type(self).__name__} does not estimate its reliability: there is nothing to calibrate."
        )

    def weight(self, reliability: torch.Tensor) -> torch.Tensor:
        """What `delta` is multiplied by, of any shape: the reliability to the power of `reliability_exponent`."""
        return reliability if self.reliability_exponent == 1 else reliability**self.reliability_exponent

    def forward(
        self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse.

        Arguments
        ---------
        audio : tensor, shape (batch, frames, audio_dim)
        video : tensor, shape (batch, frames, video_dim)
        valid : tensor, shape (batch, frames), bool

        Returns
        -------
        fused : tensor, shape (batch, frames, audio_dim)
        reliability : tensor, shape (batch, frames), in [0, 1]
            Zero where the video is not valid.
        """
        if not streaming() and not bool(valid.any()):
            return audio, audio.new_zeros(audio.shape[:2])
        video = torch.where(valid[..., None], video, video.new_zeros(()))
        delta, reliability = self.delta(audio, video, valid)
        gate = self.feature_weight(audio, video)
        delta = delta if gate is None else gate * delta
        reliability = torch.where(valid, reliability, reliability.new_zeros(()))
        fused = torch.where(valid[..., None], audio + self.weight(reliability)[..., None] * delta, audio)
        return fused, reliability


FusionFactory = Callable[..., Fusion]
"""Builds a fusion when it is called with `audio_dim` and `video_dim`: a class, or one with some arguments bound."""


__getattr__ = compatibility.old_names(__name__)

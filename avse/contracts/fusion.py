"""Kind `fusion`: how video enters a stream of audio features."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.plugin import Plugin
from avse.contracts.visual_frontend import VisualFrontend
from avse.errors import AvseError


class Fusion(nn.Module, Plugin):
    """Adds to audio features what the video says, weighed by how far it can be trusted.

    The result is `audio + reliability * delta(audio, video)`, gated after any normalisation, so that where no video
    is valid the audio passes bit for bit. A subclass implements `delta`; the base class blanks invalid video, gates,
    and keeps the promise whatever `delta` returns.

    Arguments
    ---------
    audio_dim : int
        Features per step of the audio.
    video_dim : int
        Features per step of the video.

    Both streams are on the audio clock: the video was repeated to the steps of the audio.

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

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__()
        self.audio_dim, self.video_dim = audio_dim, video_dim

    @classmethod
    def example_arguments(cls) -> dict:
        return {"audio_dim": 8, "video_dim": 6}

    @abstractmethod
    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What to add to the audio, and how far to trust it.

        Arguments
        ---------
        audio : tensor, shape (batch, frames, audio_dim)
        video : tensor, shape (batch, frames, video_dim)
            Zero in invalid steps.
        valid : tensor, shape (batch, frames), bool

        Returns
        -------
        delta : tensor, shape (batch, frames, audio_dim)
        reliability : tensor, shape (batch, frames), in [0, 1]
            Ones for a fusion that does not estimate it.
        """

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
        if not bool(valid.any()):
            return audio, audio.new_zeros(audio.shape[:2])
        video = torch.where(valid[..., None], video, video.new_zeros(()))
        delta, reliability = self.delta(audio, video, valid)
        reliability = torch.where(valid, reliability, reliability.new_zeros(()))
        fused = torch.where(valid[..., None], audio + reliability[..., None] * delta, audio)
        return fused, reliability


def reliability_loss(reliability: torch.Tensor, intact: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a reliability with the truth, so that it learns to be the probability of an intact frame.

    Arguments
    ---------
    reliability : tensor, shape (batch, frames), in [0, 1]
    intact : tensor, shape (batch, frames), bool
        Where the mouth is the speaker's and nothing spoils it.
    valid : tensor, shape (batch, frames), bool
        Steps that count.

    Returns
    -------
    scalar tensor
        In nats per step; zero if none counts.

    Example
    -------
    >>> certain, valid = torch.tensor([[1.0, 0.5]]), torch.tensor([[True, False]])
    >>> round(reliability_loss(certain, valid, valid).item(), 3), round(reliability_loss(certain, ~valid, valid).item())
    (0.001, 7)
    """
    if not bool(valid.any()):
        return reliability.new_zeros(())
    likely = reliability.float()[valid].clamp(1e-3, 1.0 - 1e-3)
    return F.binary_cross_entropy(likely, intact[valid].to(likely))


def check_fusion(visual_frontend: VisualFrontend | None, fusion: Fusion | None, audio_dim: int, what: str) -> None:
    """Refuse a fusion that does not fit between a stream of audio features and a visual front-end.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
    fusion : Fusion or None
    audio_dim : int
        Features per step of the audio.
    what : str
        Whose features, for the message: `"the prior's hidden_dim"`.

    Raises
    ------
    ValueError
        If there is one without the other, or dimensions do not fit.

    Example
    -------
    >>> check_fusion(None, None, 8, "the prior's hidden_dim")
    """
    if visual_frontend is None and fusion is None:
        return
    if visual_frontend is None or fusion is None:
        raise ValueError("give both visual_frontend and fusion, or neither (audio only).")
    if (fusion.audio_dim, fusion.video_dim) != (audio_dim, visual_frontend.output_dim):
        raise ValueError(
            f"fusion has audio_dim {fusion.audio_dim} and video_dim {fusion.video_dim}, but {what} is {audio_dim} and "
            f"the visual front-end's output_dim {visual_frontend.output_dim}. They must agree: set the fusion's "
            f"audio_dim to {audio_dim} and video_dim to {visual_frontend.output_dim}."
        )

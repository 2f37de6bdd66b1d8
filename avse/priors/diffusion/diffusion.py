"""Priors `diffusion` and `av_diffusion`: score models of speech, from the audio alone and with the mouth."""

from __future__ import annotations

from typing import Any

from avse.plugins import get, register
from avse.priors.diffusion.base import DiffusionPrior


@register("prior", "diffusion")
class Diffusion(DiffusionPrior):
    """The score of speech on its compressed complex spectrum, from the audio alone.

    Example
    -------
    >>> import torch
    >>> from avse.contracts.prior import Context
    >>> prior = Diffusion(size="tiny")
    >>> context = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> prior.score(torch.randn(1, 6, 321, dtype=torch.complex64), torch.tensor([0.5]), context).shape
    torch.Size([1, 6, 321])
    """

    paper = "Nortier, Sadeghi and Serizel, Unsupervised speech enhancement with diffusion-based generative models, 2024"
    not_inherited = ("visual_frontend", "fusion", "video_dropout", "guidance")

    def __init__(self, **common: Any) -> None:
        super().__init__(None, None, **common)

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"size": "tiny"}


@register("prior", "av_diffusion")
class AVDiffusion(DiffusionPrior):
    """The score of speech given the speaker's mouth: one model with and without video.

    Example
    -------
    >>> import torch
    >>> from avse.contracts.prior import Context
    >>> valid = torch.ones(1, 6).bool()
    >>> context = Context(valid, valid, torch.randn(1, 6, 6))
    >>> AVDiffusion.example().score(torch.randn(1, 6, 321, dtype=torch.complex64), torch.tensor([0.5]), context).shape
    torch.Size([1, 6, 321])
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        frontend = get("visual_frontend", "pixel_mlp").example()
        return {"visual_frontend": frontend, "fusion": get("fusion", "film"), "size": "tiny"}

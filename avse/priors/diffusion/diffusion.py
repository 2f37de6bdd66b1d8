"""Priors `diffusion` and `av_diffusion`: score models of speech, from the sound alone and with the mouth."""

from __future__ import annotations

from avse.contracts.fusion import Fusion
from avse.contracts.sde import Sde
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import get, register
from avse.priors.diffusion.base import DiffusionPrior


@register("prior", "diffusion")
class Diffusion(DiffusionPrior):
    """The score of speech on its compressed complex spectrum, from the sound alone.

    Arguments
    ---------
    sde : Sde or None
        How speech turns into noise; None: `ornstein_uhlenbeck` as published.
    size : str
        Of the network: `small`, `medium` or `large`, about 1, 5 and 28 million parameters.
    data_std : float
        Deviation of speech in the compressed domain.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).

    Shapes as in `ScorePrior`: states and scores are complex (batch, frames, bins), times (batch,).

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

    def __init__(
        self,
        sde: Sde | None = None,
        size: str = "small",
        data_std: float = 0.1,
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__(_or_published(sde), size, data_std=data_std, fft_size=fft_size, hop=hop)

    @classmethod
    def example_arguments(cls) -> dict:
        return {"size": "tiny"}


@register("prior", "av_diffusion")
class AVDiffusion(DiffusionPrior):
    """The score of speech given the mouth that says it: one model with and without video.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters, at several depths of the network; its `audio_dim` must be the network's width (192 of a
        small one, 448, 960), its `video_dim` the front-end's `output_dim`.
    sde : Sde or None
        How speech turns into noise; None: `ornstein_uhlenbeck` as published.
    size : str
        Of the network: `small`, `medium` or `large`, about 1, 5 and 28 million parameters.
    video_dropout : float
        Share of training clips whose video is dropped, beside what the training data drops.
    guidance : float
        w of classifier-free guidance; 0: plain.
    data_std : float
        Deviation of speech in the compressed domain.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).

    Shapes as in `ScorePrior`: states and scores are complex (batch, frames, bins), times (batch,).

    Example
    -------
    >>> import torch
    >>> from avse.contracts.prior import Context
    >>> from avse.fusion.film import FiLM
    >>> from avse.visual_frontends.pixel_mlp import PixelMLP
    >>> prior = AVDiffusion(PixelMLP(output_dim=6), FiLM(32, 6), size="tiny")
    >>> seen = torch.ones(1, 6).bool()
    >>> context = Context(seen, seen, torch.randn(1, 6, 6))
    >>> prior.score(torch.randn(1, 6, 321, dtype=torch.complex64), torch.tensor([0.5]), context).shape
    torch.Size([1, 6, 321])
    """

    paper = "Ayilo et al., Diffusion-based unsupervised audio-visual speech enhancement, 2025"

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        sde: Sde | None = None,
        size: str = "small",
        video_dropout: float = 0.1,
        guidance: float = 0.0,
        data_std: float = 0.1,
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__(
            _or_published(sde), size, visual_frontend, fusion, video_dropout, guidance, data_std, fft_size, hop
        )

    @classmethod
    def example_arguments(cls) -> dict:
        frontend = get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = get("fusion", "film")(audio_dim=32, video_dim=6)
        return {"visual_frontend": frontend, "fusion": fusion, "size": "tiny"}


def _or_published(sde: Sde | None) -> Sde:
    return get("sde", "ornstein_uhlenbeck")() if sde is None else sde

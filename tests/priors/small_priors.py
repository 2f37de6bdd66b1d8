"""Small priors of every family, with and without video."""

from __future__ import annotations

import torch

from avse import plugins
from avse.conformance import seeded
from avse.contracts.types import Batch
from avse.priors.vae.base import VariationalPrior

AUDIO_VISUAL = ("av_vae", "recurrent_vae", "transformer_vae")


def small(name: str, fusion: str = "concat", video: bool = True, **arguments: object) -> VariationalPrior:
    """A seeded prior of 8 hidden features in evaluation mode."""
    cls = plugins.get("prior", name)
    arguments = {**cls.example_arguments(), **arguments}
    with seeded(1):
        if name != "vae":
            frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
            fuse = plugins.get("fusion", fusion)(audio_dim=8, video_dim=6)
            arguments |= {"visual_frontend": frontend, "fusion": fuse} if video else {}
            arguments |= {} if video else {"visual_frontend": None, "fusion": None}
        return cls(**arguments).eval()


def to_double(batch: Batch) -> Batch:
    """The same batch in float64, its sound as clean speech."""
    batch.noisy = batch.clean = batch.noisy.double()
    return batch


def randomise(prior: torch.nn.Module) -> None:
    """Move all weights, so that layers that begin at zero take part."""
    with torch.no_grad(), seeded(2):
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))

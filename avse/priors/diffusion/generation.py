"""What a diffusion prior does by itself: speech drawn from video alone, and features of each video frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from avse.contracts.types import SAMPLES_PER_FRAME, Batch
from avse.errors import AvseError
from avse.priors.diffusion.base import DiffusionPrior
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import overlap_gain, pool_to_video_frames

if TYPE_CHECKING:
    from avse.contracts.sampler import Sampler


def diffusion_prior(system: nn.Module, name: str = "the model", *, sees: bool = False) -> DiffusionPrior:
    """The diffusion prior of a system; with `sees`, one with a visual front-end.

    Raises
    ------
    AvseError
        If the system has none. The message calls it `name`.
    """
    prior = getattr(system, "prior", system)
    if not isinstance(prior, DiffusionPrior):
        raise AvseError(
            f"{name} has no diffusion prior, and cannot draw speech by itself. Models that can are trained with "
            "recipes/Manifest/diffusion/hparams/av_diffusion.yaml."
        )
    if sees and not prior.video_input.sees:
        raise AvseError(f"{name} takes no video. Give a model of an av_diffusion recipe.")
    return prior


def draw_speech(prior: DiffusionPrior, batch: Batch, sampler: Sampler, seed: int = 0) -> torch.Tensor:
    """Draw speech for each clip of a batch, from its video where that is valid; the audio is ignored.

    Arguments
    ---------
    prior : DiffusionPrior
    batch : Batch
    sampler : Sampler
    seed : int
        The draw of a clip depends on the seed and on the clip's length, not on the other clips.

    Returns
    -------
    tensor, shape (batch, samples)
        Zero beyond each clip's end.

    Example
    -------
    >>> import numpy as np
    >>> from avse import Clip, plugins
    >>> prior = plugins.get("prior", "diffusion")(size="tiny").eval()
    >>> batch = Batch.from_clips([Clip(np.zeros(1600, np.float32))])
    >>> draw_speech(prior, batch, plugins.get("sampler", "euler")(steps=2)).shape
    torch.Size([1, 1600])
    """
    with torch.no_grad():
        context = prior.context(batch)
        like = prior.analyse(torch.zeros_like(batch.noisy))
        generators = clip_generators(context.mask, seed)
        speech = sampler.sample(
            lambda state, time: prior.speech_given(state, time, context)[0],
            prior.sde,
            lambda: complex_noise(like, context.mask, generators),
        )
        samples = batch.noisy.shape[1]
        drawn = prior.synthesise(speech * context.mask[..., None], samples)
        return drawn * overlap_gain(batch.lengths, prior.fft_size, prior.hop, samples).to(drawn)


def frame_features(prior: DiffusionPrior, batch: Batch, time: float = 0.1) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Features of each video frame from the network of a diffusion prior.

    Arguments
    ---------
    prior : DiffusionPrior
    batch : Batch
        Of one clip.
    time : float
        Diffusion time that the network is given, between 0 and 1. No noise is added to the audio.

    Returns
    -------
    features : tensor, shape (video_frames, dim)
        Of audio and video, from the last block.
    visual : tensor, shape (video_frames, dim), or None
        Of the mouth alone, from the front-end; None where no frame is valid.
    """
    frames = batch.valid.shape[1]
    with torch.no_grad():
        context = prior.context(batch)
        state = prior.analyse(batch.noisy * level_scale(batch.noisy, batch.lengths))
        now = state.real.new_full((1,), max(time, prior.sde.first_time))
        state = prior.marginal(now)[0][:, None, None] * state
        ratio = SAMPLES_PER_FRAME // prior.hop
        features = pool_to_video_frames(prior.features(state, now, context)[0].T, frames, ratio).T
        visual = prior.visual_features(batch) if bool(batch.valid.any()) else None
    return features, None if visual is None else visual[0]

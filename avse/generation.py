"""`avse generate` and `avse embed`: speech drawn from a diffusion prior, and what its network says of a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Clip
from avse.errors import AvseError
from avse.files import atomic_path
from avse.model import Model, as_clip, load
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import length_mask

if TYPE_CHECKING:
    from avse.contracts.sampler import Sampler
    from avse.priors.diffusion.base import DiffusionPrior

STEPS = 30


def generate(
    model: Model | str,
    source: str | Path | Clip | None = None,
    *,
    seconds: float | None = None,
    use_video: bool = True,
    seed: int = 0,
    guidance: float | None = None,
    sampler: Sampler | str = "ancestral",
    steps: int = STEPS,
    **reading: Any,
) -> np.ndarray:
    """Draw speech from lips, or from nothing.

    The sound of the source is not looked at, only its length; a film without sound will do.

    Arguments
    ---------
    model : Model or str
        With a diffusion prior; or its name or folder.
    source : path, Clip, or None
        Who is to be seen speaking. None: nobody.
    seconds : float, optional
        Length; needed without a source, and else at most that of the source.
    use_video : bool
        False: as if nobody were seen.
    seed : int
        Another one draws another voice, or the same words otherwise.
    guidance : float, optional
        How far beyond its plain influence the video is followed; see `DiffusionPrior`. Default: the model's own.
    sampler : Sampler or str
    steps : int
        Of a sampler given by name.
    reading :
        `video`, `roi`, `face` and `tracker` of `avse.media.read_clip`.

    Returns
    -------
    array, shape (samples,), float32
        At 16 kHz.

    Raises
    ------
    AvseError
        If the model has no diffusion prior, or there is neither a source nor a length.
    """
    from avse import plugins

    if isinstance(model, str):
        model = load(model)
    prior = diffusion_prior(model)
    if source is None:
        if seconds is None or seconds <= 0:
            raise AvseError("Give a video to draw speech from (--video talk.mp4), or a length (--seconds 3).")
        clip = Clip(np.zeros(max(1, round(seconds * SAMPLE_RATE)), dtype=np.float32))
    else:
        clip = as_clip(source, use_video=use_video, silent=True, **reading)
        if seconds is not None:
            clip = _cut(clip, seconds)
    if isinstance(sampler, str):
        sampler = plugins.get("sampler", sampler)(steps=steps)
    batch = Batch.from_clips([clip]).to(model.device)
    own = prior.guidance
    try:
        prior.guidance = own if guidance is None else guidance
        return draw_speech(prior, batch, sampler, seed)[0].float().cpu().numpy()
    finally:
        prior.guidance = own


def draw_speech(prior: DiffusionPrior, batch: Batch, sampler: Sampler, seed: int = 0) -> torch.Tensor:
    """Draw speech for each clip of a batch, from its lips where they are seen; its sound is not looked at.

    Arguments
    ---------
    prior : DiffusionPrior
    batch : Batch
    sampler : Sampler
    seed : int
        With a clip's length all that its draw depends on.

    Returns
    -------
    tensor, shape (batch, samples)
        Zero beyond each clip's end.

    Example
    -------
    >>> from avse import plugins
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
        return prior.synthesise(speech, samples) * length_mask(batch.lengths, samples)


def embed(
    model: Model, source: str | Path | Clip, *, time: float = 0.1, use_video: bool = True, **reading: Any
) -> dict[str, np.ndarray]:
    """What a diffusion prior's network says of each video frame of a clip.

    Arguments
    ---------
    model : Model
        With a diffusion prior.
    source : path or Clip
    time : float
        How noisy the network is told that the sound is, between 0 and 1; no noise is added.
    use_video : bool
        False: the sound alone.
    reading :
        See `generate`.

    Returns
    -------
    dict of str to array
        `features`, shape (video_frames, dim): of sound and video, from the network's last block; `visual`, of the
        same shape: of the mouth alone, from the front-end, or empty; `valid`, shape (video_frames,): where a mouth was
        seen.

    Raises
    ------
    AvseError
        If the model has no diffusion prior.
    """
    prior = diffusion_prior(model)
    clip = as_clip(source, use_video=use_video, silent=True, **reading)
    batch = Batch.from_clips([clip]).to(model.device)
    frames = len(clip.valid)
    with torch.no_grad():
        context = prior.context(batch)
        state = prior.analyse(batch.noisy * level_scale(batch.noisy, batch.lengths))
        now = state.real.new_full((1,), max(time, prior.sde.first_time))
        state = prior.marginal(now)[0][:, None, None] * state
        ratio = SAMPLES_PER_FRAME // prior.hop
        features = prior.features(state, now, context)[0, : frames * ratio].unflatten(0, (-1, ratio)).mean(dim=1)
        visual = prior.visual_features(batch) if bool(batch.valid.any()) else None
    empty = np.zeros((frames, 0), dtype=np.float32)
    return {
        "features": features.float().cpu().numpy(),
        "visual": empty if visual is None else visual[0].float().cpu().numpy(),
        "valid": np.asarray(clip.valid),
    }


def write_features(features: dict[str, np.ndarray], path: str | Path) -> None:
    """Write what `embed` gives: all of it to `.npz`, the array `features` alone to `.npy`."""
    suffix = Path(path).suffix
    if suffix not in (".npz", ".npy"):
        raise AvseError(f"{path}: features are written to .npz (all arrays) or .npy (features alone).")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if suffix == ".npz":
            np.savez_compressed(file, **features)  # type: ignore[arg-type]
        else:
            np.save(file, features["features"])


def diffusion_prior(model: Model, *, sees: bool = False) -> DiffusionPrior:
    """The diffusion prior of a model; with `sees`, one that looks at the video.

    Raises
    ------
    AvseError
        If it has none.
    """
    from avse.priors.diffusion.base import DiffusionPrior

    prior = getattr(model.system, "prior", model.system)
    if not isinstance(prior, DiffusionPrior):
        raise AvseError(
            f"{model.name} has no diffusion prior, and cannot draw speech by itself. Models that can are trained with "
            "recipes/Manifest/diffusion/hparams/av_diffusion.yaml."
        )
    if sees and not prior.video_input.sees:
        raise AvseError(f"{model.name} does not look at the video. Give a model of an av_diffusion recipe.")
    return prior


def _cut(clip: Clip, seconds: float) -> Clip:
    samples = min(len(clip.audio), max(1, round(seconds * SAMPLE_RATE)))
    return replace(clip, audio=clip.audio[:samples])

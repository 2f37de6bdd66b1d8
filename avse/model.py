"""A trained system: load it, save it, and use it."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from torch import nn

from avse import hub, model_folder
from avse.contracts.plugin import Plugin
from avse.contracts.system import run
from avse.contracts.types import SAMPLE_RATE, Batch, Clip, Estimate
from avse.devices import AUTO, find_device
from avse.errors import AvseError
from avse.overlap import CHUNK_SECONDS, ClipPart, concatenate, cut, overlap_add
from avse.signal.scenes import SOUND, fitted
from avse.sources import Reading, Source, as_clip, check_range, is_media, lips_of
from avse.tracks import audio_tracks, parse_track, speech_track

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from avse.contracts.mouth_tracker import MouthTracker
    from avse.contracts.sampler import Sampler
    from avse.scene import DescribedScene, Description


class Noise(TypedDict, total=False):
    """What the noise is, and what it is not: see `avse.scene.describe`."""

    noise: Description | Sequence[Description]
    not_noise: Description | Sequence[Description]


class Asked(Reading, Noise, total=False):
    """How a source is read, and what its noise is."""


@dataclass(repr=False)
class Model:
    """A system (an enhancer or an inference) that is ready to use. `print` tells what it is.

    Arguments
    ---------
    system : torch.nn.Module
        Maps a `Batch` to an `Estimate`.
    recipe : str
        YAML text from which the system is built.
    name : str
    description : dict
        What `model.json` says: versions, plugins, training, scores.

    Example
    -------
    >>> import avse
    >>> model = avse.load("avse-small")
    >>> model.enhance(np.zeros(16000, dtype=np.float32)).speech.shape
    torch.Size([16000])
    """

    system: nn.Module
    recipe: str
    name: str = "model"
    description: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {type(self.system).__name__}, {self.device})"

    def __str__(self) -> str:
        description = self.description or {}
        summary = (type(self.system).__doc__ or type(self.system).__name__).strip().partition("\n")[0]
        parameters = sum(parameter.numel() for parameter in self.system.parameters())
        lines = [
            self.name,
            f"task        {description.get('description') or summary}",
            f"plugins     {', '.join(_plugins_of(self.system))}",
            f"parameters  {parameters:,} on {self.device}",
        ]
        return "\n".join([*lines, f"licence     {self.licence}"])

    @property
    def licence(self) -> str:
        """On what terms the weights may be used, as `model.json` says."""
        return model_folder.licence_of(self.description or {})

    @property
    def device(self) -> torch.device:
        """Where the system's weights are."""
        return next((p.device for p in self.system.parameters()), torch.device("cpu"))

    def to(self, device: str | torch.device) -> Model:
        """Move the system to a device (`auto`, `cpu`, `cuda`, ...); gives the model itself.

        Raises
        ------
        AvseError
            If there is no such device.
        """
        self.system.to(find_device(device))
        return self

    def enhance(
        self,
        source: Source,
        *,
        sample_rate: int = SAMPLE_RATE,
        chunk_seconds: float = CHUNK_SECONDS,
        mix: float = 1.0,
        max_attenuation: float | None = None,
        noise: Description | Sequence[Description] = (),
        not_noise: Description | Sequence[Description] = (),
        **reading: Unpack[Reading],
    ) -> Estimate:
        """Enhance one clip.

        Arguments
        ---------
        source : path, bytes, file, Clip, or array, tensor or list of shape (samples,)
            A media file: its path, what it holds, or the file open for reading; a decoded clip; or audio of any
            type of number. Integers have the full scale of their type. `enhance_batch` takes several.
        sample_rate : int
            Of an array or tensor, in Hz.
        chunk_seconds : float
            Longer clips are enhanced in chunks of this length with overlap-add, in bounded memory. A clip that is
            not longer gives what the whole clip gives.
        mix, max_attenuation : float
            How much of the enhancement is used: see `avse.model.mix_of`.
        noise, not_noise : description or several
            What the noise is, and what it is not, for a model whose noise model takes that: words, a file or an array
            with a picture, a video or a sound, or "auto"; see `avse.scene.describe`.
        track : int or "auto"
            Which audio track of a file, from 0; "auto": the one with speech, by the model's estimate of it.
        video, use_video, roi, face, tracker, offset :
            A separate video file of the speaker; False for audio only; how the mouth is found: see
            `avse.media.read_clip`. By how many seconds the audio is late relative to the video, or "auto": see
            `avse.synchrony.offset_of`.

        Returns
        -------
        Estimate
            `speech` and `noise` of shape (samples,) at 16 kHz, `reliability` of shape (video_frames,).

        Raises
        ------
        AvseError
            If the source cannot be read, an argument is out of its range, or the noise is described and the model does
            not take that, or the description cannot be read.
        """
        share = mix_of(mix, max_attenuation)
        if is_media(source) and not isinstance(source, (str, Path)):
            from avse.media.reader import stored

            with stored(source) as path:
                said: Noise = {"noise": noise, "not_noise": not_noise}
                again = partial(self.enhance, path, chunk_seconds=chunk_seconds, mix=mix)
                return again(max_attenuation=max_attenuation, **said, **reading)
        began = time.perf_counter()
        if isinstance(source, (str, Path)) and parse_track(reading.get("track", AUTO)) is None:
            reading["track"] = speech_track(audio_tracks(self.enhance_batch, source))
        clip = as_clip(source, sample_rate=sample_rate, **reading)
        decoded = time.perf_counter()
        video = reading.get("video") or (source if isinstance(source, (str, Path)) else None)
        shown = video if reading.get("use_video", True) and clip.valid.any() else None
        scene = self.scene_of(noise, not_noise, lambda: (clip.audio, shown))
        estimate = concatenate(list(self.stream(cut(clip, chunk_seconds), None if scene is None else scene.vector)))
        if share < 1:
            noisy = torch.tensor(clip.audio)
            speech = noisy.lerp(estimate.speech, share)
            estimate = replace(estimate, speech=speech, noise=noisy - speech)
        return replace(estimate, timings={"decode": decoded - began, "enhance": time.perf_counter() - decoded})

    def separate(
        self,
        source: Source,
        videos: Sequence[str | Path | Clip] = (),
        *,
        others: int = 0,
        speakers: Sequence[str | None] = (),
        sample_rate: int = SAMPLE_RATE,
        roi: str = "auto",
        tracker: str | MouthTracker | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Estimate:
        """Find the speech of each of several speakers.

        Arguments
        ---------
        source : path, Clip, or array or tensor of shape (samples,)
            The mixture.
        videos : sequence of path or Clip
            One of each speaker, or one that shows several faces; of a Clip the mouth is taken. With a source that is no
            file, they are clips. Empty: the video of the source itself.
        others : int
            The number of further speakers, whom no video shows. Without any video the order of speakers is arbitrary.
        speakers : sequence of (str or None)
            Names of the speakers for a prior that knows speakers (`speaker_vae`), in the order of the sources.
        sample_rate : int
            Of an array or tensor, in Hz.
        roi, tracker :
            How mouths are found: see `avse.media.read_clip`.
        chunk_seconds : float
            Longer clips are separated in chunks of this length with overlap-add, unless no video shows two or more
            speakers: their order may then change from chunk to chunk.

        Returns
        -------
        Estimate
            `speech` of shape (sources, samples) and `noise` of shape (samples,) at 16 kHz, which add up to the mixture;
            `reliability` of shape (sources, video_frames).

        Raises
        ------
        AvseError
            If a file cannot be read, there is no speaker, or the model knows no speakers of these names.

        Example
        -------
        >>> import avse
        >>> mixture = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
        >>> speaker = Clip(mixture, np.zeros((13, 88, 88), np.uint8))
        >>> avse.load("avse-small").separate(mixture, [speaker], others=1).speech.shape
        torch.Size([2, 8000])
        """
        began = time.perf_counter()
        if is_media(source):
            from avse.media import find_speakers
            from avse.media.reader import stored

            files = [video for video in videos if not isinstance(video, Clip)]
            if len(files) < len(videos):
                raise AvseError("With a file as source, videos are files as well.")
            with stored(source) as path:
                found = find_speakers(path, files, others=others, roi=roi, tracker=tracker)
            clips = [speaker.clip for speaker in found]
        else:
            mixture = as_clip(source, sample_rate=sample_rate)
            visible = [video for video in videos if isinstance(video, Clip)]
            if others < 0 or len(visible) < len(videos):
                raise AvseError("With audio as source, videos are clips, and others is not negative.")
            clips = [Clip(mixture.audio, clip.mouth, clip.valid) for clip in visible]
            clips += [mixture.without_video()] * others
            clips = clips or ([mixture] if mixture.valid.any() else [])
        decoded = time.perf_counter()
        estimate = self.separate_clips(clips, speakers, chunk_seconds=chunk_seconds)
        return replace(estimate, timings={"decode": decoded - began, "separate": time.perf_counter() - decoded})

    def separate_clips(
        self, clips: Sequence[Clip], speakers: Sequence[str | None] = (), *, chunk_seconds: float = CHUNK_SECONDS
    ) -> Estimate:
        """Separate speakers whose clips have the same audio and the mouth of each; see `separate`."""
        if not clips:
            raise AvseError("There is nobody to separate: give a video of each speaker, or the number of others.")
        if speakers and len(speakers) != len(clips):
            raise AvseError(f"{len(speakers)} of {len(clips)} speakers are named. Name each, in the order of sources.")
        if any(speakers) and not hasattr(getattr(self.system, "prior", None), "of"):
            name = type(self.system).__name__
            raise AvseError(f"{name} knows no speakers by name; that takes the prior speaker_vae.")
        named = [replace(clip, speaker=name or "") for clip, name in zip(clips, speakers or [""] * len(clips))]
        invisible = sum(not clip.valid.any() for clip in clips)
        seconds = chunk_seconds if invisible < 2 else np.inf

        def estimates() -> Iterator[tuple[int, Estimate]]:
            for chunks in zip(*(cut(clip, seconds) for clip in named)):
                batch = Batch.from_clips([chunk.clip for chunk in chunks], sources=len(chunks)).to(self.device)
                with _inference(self.system):
                    [estimate] = run(self.system, batch).unbind()
                yield chunks[0].start, estimate.to("cpu")

        return concatenate(list(overlap_add(estimates())))

    def generate(
        self,
        source: Source | None = None,
        *,
        seconds: float | None = None,
        seed: int = 0,
        guidance: float | None = None,
        sampler: Sampler | str = "ancestral",
        steps: int = 30,
        **reading: Unpack[Reading],
    ) -> np.ndarray:
        """Draw speech from the video of a mouth, or from nothing, with a model that has a diffusion prior.

        The audio of the source is ignored but for its length. A video without audio will do.

        Arguments
        ---------
        source : as of `enhance`, or None
            A video of the speaker. None: draw any speech.
        seconds : float, optional
            Length. It must be given without a source, and else shortens the clip.
        seed : int
            Each seed gives another draw.
        guidance : float, optional
            How much more the video is followed than without guidance; see `DiffusionPrior`. Default: the model's own.
        sampler : Sampler or str
        steps : int
            Of a sampler that is given by name.
        video, use_video, roi, face, tracker, offset :
            See `avse.media.read_clip`.

        Returns
        -------
        array, shape (samples,), float32
            At 16 kHz.

        Raises
        ------
        AvseError
            If the model has no diffusion prior, there is neither a source nor a length, or a number is out of its
            range.
        """
        from avse import plugins
        from avse.priors.diffusion.generation import diffusion_prior, draw_speech

        prior = diffusion_prior(self.system, self.name)
        check_range("seconds", seconds, 1 / SAMPLE_RATE, 3600)
        check_range("guidance", guidance, -1, 100)
        check_range("steps", steps, 1, 10_000)
        if source is not None:
            clip = lips_of(source, **reading)
        elif seconds is not None:
            clip = Clip(np.zeros(max(1, round(seconds * SAMPLE_RATE)), dtype=np.float32))
        else:
            raise AvseError("Give a video to draw speech from (talk.mp4), or a length (--seconds 3).")
        if seconds is not None:
            clip = replace(clip, audio=clip.audio[: max(1, round(seconds * SAMPLE_RATE))])
        used = plugins.get("sampler", sampler)(steps=steps) if isinstance(sampler, str) else sampler
        before = prior.guidance
        try:
            prior.guidance = before if guidance is None else guidance
            drawn = draw_speech(prior, Batch.from_clips([clip]).to(self.device), used, seed)
            return drawn[0].float().cpu().numpy()
        finally:
            prior.guidance = before

    def embed(self, source: Source, *, time: float = 0.1, **reading: Unpack[Reading]) -> dict[str, np.ndarray]:
        """Features of each video frame of a clip, from the network of a model that has a diffusion prior.

        Arguments
        ---------
        source : as of `enhance`
        time : float
            Noise level that the network is told, between 0 and 1. No noise is added.
        video, use_video, roi, face, tracker, offset :
            See `avse.media.read_clip`.

        Returns
        -------
        dict of str to array
            `features`, shape (video_frames, dim): of audio and video, from the network's last block; `visual`, of the
            same shape: of the mouth alone, from the front-end, or empty; `valid`, shape (video_frames,): where a mouth
            is visible.

        Raises
        ------
        AvseError
            If the model has no diffusion prior, or the source cannot be read.
        """
        from avse.priors.diffusion.generation import diffusion_prior, frame_features

        prior = diffusion_prior(self.system, self.name)
        check_range("time", time, 0, 1)
        clip = as_clip(source, silent=True, **reading)
        features, visual = frame_features(prior, Batch.from_clips([clip]).to(self.device), time)
        empty = np.zeros((len(clip.valid), 0), dtype=np.float32)
        return {
            "features": features.float().cpu().numpy(),
            "visual": empty if visual is None else visual.float().cpu().numpy(),
            "valid": np.asarray(clip.valid),
        }

    def scene_of(
        self,
        noise: Description | Sequence[Description] = (),
        not_noise: Description | Sequence[Description] = (),
        clip: Callable[[], tuple[np.ndarray, str | Path | None]] | None = None,
    ) -> DescribedScene | None:
        """What descriptions of the noise say, for `stream` and `enhance_batch`; None where there is none.

        Arguments
        ---------
        noise, not_noise, clip :
            See `avse.scene.describe`.

        Raises
        ------
        AvseError
            If the model takes no description, or one cannot be read.
        """
        if not is_described({"noise": noise, "not_noise": not_noise}):
            return None
        check_told(self)
        from avse.scene import describe

        scene = describe(noise, not_noise, clip=clip)
        vector = fitted(scene.vector, wanted := scene_dim(self.system))
        if len(vector) != wanted:
            raise AvseError(
                f"{self.name} is told of the noise by {wanted} features, the embedding gives "
                f"{len(scene.vector) - SOUND} and {SOUND} of how a sound sounds."
            )
        return replace(scene, vector=vector)

    def enhance_batch(
        self,
        clips: Iterable[Source],
        *,
        scenes: Sequence[torch.Tensor | None] | None = None,
        sample_rate: int = SAMPLE_RATE,
        **reading: Unpack[Reading],
    ) -> list[Estimate]:
        """Enhance several clips at once, each as a whole; arguments and errors as for `enhance`.

        Arguments
        ---------
        clips : iterable
            Each is what `enhance` takes.
        scenes : sequence of (tensor of shape (dim,), or None), optional
            What is known of the noise of each: `DescribedScene.vector` of `scene_of`.

        Returns
        -------
        list of Estimate
            One for each clip: what `enhance` gives for it alone.
        """
        if is_media(clips) or isinstance(clips, Clip) or not isinstance(clips, Iterable):
            raise AvseError("enhance_batch takes several clips, as a list. One clip goes to enhance.")
        decoded = [as_clip(clip, sample_rate=sample_rate, **reading) for clip in clips]
        if not decoded:
            return []
        batch = Batch.from_clips(decoded)
        if scenes is not None and any(scene is not None for scene in scenes):
            nothing = torch.zeros(wanted := scene_dim(self.system))
            told = [nothing if scene is None else fitted(scene, wanted) for scene in scenes]
            batch = replace(batch, scene=torch.stack(told))
        with _inference(self.system):
            estimate = self.system(batch.to(self.device))
        return [clip_estimate.to("cpu") for clip_estimate in estimate.unbind()]

    def stream(self, chunks: Iterable[ClipPart], scene: torch.Tensor | None = None) -> Iterator[Estimate]:
        """Enhance chunks that overlap and cross-fade them.

        Arguments
        ---------
        chunks : iterable
            Objects with `clip` (Clip) and `start` (first sample of the chunk, a multiple of 640), in order; each
            begins at or before the end of the one before it.
        scene : tensor, shape (dim,), optional
            What is known of the noise: `DescribedScene.vector` of `scene_of`.

        Yields
        ------
        Estimate
            Consecutive pieces that together are as long as the audio.

        Raises
        ------
        AvseError
            If something else than chunks comes.
        """

        def estimates() -> Iterator[tuple[int, Estimate]]:
            for chunk in chunks:
                if not isinstance(getattr(chunk, "clip", None), Clip):
                    raise AvseError("stream takes chunks, as avse.overlap.cut makes of a Clip. A clip goes to enhance.")
                yield chunk.start, self.enhance_batch([chunk.clip], scenes=[scene])[0]

        return overlap_add(estimates())

    def save(
        self,
        folder: str | Path,
        *,
        description: dict[str, Any] | None = None,
        card: str | None = None,
        bits: int = 32,
    ) -> Path:
        """Write a model folder: weights, recipe, description with hashes, and a card.

        Arguments
        ---------
        folder : path
        description : dict, optional
            Added to `model.json` (training data, seed, command, scores).
        card : str, optional
            Text of `README.md`.
        bits : int
            Keep the weights in 32, 16 or 8 bits; they are loaded as 32 bits.

        Returns
        -------
        Path
            The folder.
        """
        content = model_folder.Content(self.system, self.recipe, self.name, description or {})
        model_folder.write(Path(folder), content, card, bits)
        return Path(folder)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device = AUTO,
        overrides: Mapping[str, Any] | None = None,
    ) -> Model:
        """Load a model as `avse.load` does; `ORGANISATION/NAME` that is no folder is one of the hub.

        Arguments
        ---------
        revision : str, optional
            Of a model of the hub: a branch, a tag or a commit.
        """
        name = str(name_or_folder)
        if name not in model_folder.embedded() and not Path(name).is_dir():
            name = name if hub.is_address(name) else f"hf://{name}"
            name += f"@{revision}" if revision else ""
        return load(name, device, overrides)

    def push_to_hub(
        self,
        name: str,
        *,
        card: str | None = None,
        private: bool = False,
        revision: str | None = None,
        message: str = "Model of avse",
        bits: int = 32,
    ) -> str:
        """Share the model on the Hugging Face hub.

        Arguments
        ---------
        name : str
            `ORGANISATION/NAME`.
        card : str, optional
            Text of `README.md`: data, licence, scores.
        revision : str, optional
            A branch, which is made if it is not there.
        bits : int
            As of `save`.

        Returns
        -------
        str
            What loads it: `hf://ORGANISATION/NAME@COMMIT`.
        """
        known = ("format", "name", "avse", "torch", "parameters", "sha256")
        told = {key: value for key, value in (self.description or {}).items() if key not in known}
        with tempfile.TemporaryDirectory(prefix="avse-hub-") as folder:
            self.save(folder, description=told, card=card, bits=bits)
            return hub.push(Path(folder), name, private=private, revision=revision, message=message)


def load(
    name_or_folder: str | Path = "avse-small",
    device: str | torch.device = AUTO,
    overrides: Mapping[str, Any] | None = None,
) -> Model:
    """Load a model; each call reads it anew, so that the model is yours to change.

    The system is what the recipe calls `inference`, where it has this key (a trained prior with a noise model), else
    `model`.

    Arguments
    ---------
    name_or_folder : str or path
        A name that `avse` carries (`avse-small`), a model folder, such as `<run folder>/model`, or a model of the
        Hugging Face hub: `hf://ORGANISATION/NAME` or, pinned, `hf://ORGANISATION/NAME@REVISION`.
    device : str or torch.device
        `auto` (a GPU if there is one), `cpu`, `cuda`, ...
    overrides : mapping, optional
        Changes of the model's recipe, as for training: `{"inference": "vem", "inference.iterations": 20}`. What stays
        keeps its weights.

    Returns
    -------
    Model
        The first of its name whose weights are for research only says so, in one line of the log `avse.model` (on
        stderr, where logging is not set up; `logging.getLogger("avse").setLevel("ERROR")` silences it).

    Raises
    ------
    AvseError
        If there is no such model or device, a file is missing or altered, the recipe names anything but registered
        plugins, the weights do not fit the recipe, or an override fits nowhere or brings in a part that would have to
        be trained.

    Example
    -------
    >>> load("avse-small").name
    'avse-small'
    """
    place = find_device(device)
    if not isinstance(name_or_folder, (str, os.PathLike)):
        raise AvseError(
            f"A {type(name_or_folder).__name__} names no model. Give a name (avse-small) or a model folder."
        )
    content = model_folder.read(model_folder.find(name_or_folder), overrides)
    model = Model(content.system.to(place).eval(), content.recipe, content.name, content.description)
    if "research" in model.licence and multiprocessing.parent_process() is None:  # workers say nothing again
        _say_licence(model.name, model.licence)
    return model


@functools.cache
def _say_licence(name: str, licence: str) -> None:
    logging.getLogger(__name__).warning("%s: %s", name, licence)


def scene_dim(system: nn.Module) -> int:
    """Features of the description of the noise that a system takes; 0: it takes none."""
    told = getattr(system, "noise_model", system)
    return int(getattr(told, "scene_dim", 0) + getattr(told, "scene_sound", 0))


def is_described(asked: Mapping[str, Any]) -> bool:
    """Whether `noise` or `not_noise` of the arguments describes anything; an empty list describes nothing."""
    return any(
        not (isinstance(asked.get(key, ()), (list, tuple)) and not asked.get(key)) for key in Noise.__annotations__
    )


def check_told(model: Model) -> None:
    """Refuse a model that cannot be told what the noise is, with an `AvseError` that says what can."""
    if scene_dim(model.system):
        return
    noise_model = getattr(model.system, "noise_model", None)
    if noise_model is None:
        raise AvseError(
            f"{model.name} has no noise model that could be told what the noise is, and its enhancer takes no scene. "
            "Take one that has, such as --model av-vae (model='av-vae')."
        )
    raise AvseError(
        f"The noise model of {model.name}, {noise_model.plugin_name}, cannot be told what the noise is. Take "
        "--noise_model conditioned_nmf (overrides={'noise_model': 'conditioned_nmf'})."
    )


def told_overrides(name_or_folder: str | Path, overrides: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Overrides of a model that is told what the noise is: with the noise model `conditioned_nmf` where it fits.

    An override of the noise model stays.
    """
    changes = dict(overrides or {})
    keys = model_folder.recipe_keys(model_folder.find(name_or_folder))
    place = "noise_model" if "noise_model" in keys else f"{model_folder.SYSTEM}.noise_model"
    if model_folder.SYSTEM not in keys or any("noise_model" in key.split(".") for key in changes):
        return changes
    return changes | {place: "conditioned_nmf"}


def mix_of(mix: float = 1.0, max_attenuation: float | None = None) -> float:
    """The share w of the enhancement in w * enhanced + (1 - w) * noisy.

    Arguments
    ---------
    mix : float
        This share, in [0, 1].
    max_attenuation : float, optional
        In dB, instead: noise is not attenuated further, since 1 - w = 10^(-dB / 20) of the noisy audio is mixed back.

    Raises
    ------
    AvseError
        If a value is out of its range, or both are given.

    Example
    -------
    >>> mix_of(0.8), round(mix_of(max_attenuation=12), 3)
    (0.8, 0.749)
    """
    if not 0 <= mix <= 1:
        raise AvseError(f"mix {mix}: must be from 0 (the noisy audio) to 1 (the enhanced audio).")
    if max_attenuation is None:
        return mix
    if mix < 1:
        raise AvseError("mix and max_attenuation both say how much noise stays. Give one of them.")
    if not max_attenuation >= 0:
        raise AvseError(f"max_attenuation {max_attenuation}: must be 0 dB (nothing is taken away) or more.")
    return float(1 - 10 ** (-max_attenuation / 20))


@contextlib.contextmanager
def _inference(system: nn.Module) -> Iterator[None]:
    training = system.training
    system.eval()
    try:
        # Not `inference_mode`, whose tensors could take no part in an inference that follows gradients.
        with torch.no_grad():
            yield
    finally:
        system.train(training)


def _plugins_of(system: nn.Module) -> list[str]:
    """`kind/name` of a system and of the plugins inside it."""
    plugins: list[Plugin] = [part for part in system.modules() if isinstance(part, Plugin)]
    plugins += [value for part in plugins for value in part.config.values() if isinstance(value, Plugin)]
    return list(dict.fromkeys(f"{part.plugin_kind}/{part.plugin_name}" for part in plugins if part.plugin_kind))

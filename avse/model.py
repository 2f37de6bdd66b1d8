"""A trained system: load it, save it, and enhance with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from avse.compatibility import weight_name
from avse.contracts.mouth_tracker import MouthTracker
from avse.contracts.system import run
from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Clip, Estimate
from avse.errors import AvseError
from avse.files import atomic_path
from avse.inference.em.speakers import join

if TYPE_CHECKING:
    from avse.recipe import Recipe

PRETRAINED = Path(__file__).parent / "pretrained"
CHUNK_SECONDS = 20.0
OVERLAP_SECONDS = 2.0
_PARTS = ("prior", "noise_model", "inference")
SYSTEM = "inference"  # the recipe's key of a system that wraps what was trained, its key `model`
_FORMAT = 2
_WEIGHTS, _RECIPE, _DESCRIPTION = "model.safetensors", "recipe.yaml", "model.json"


@dataclass
class Model:
    """A system (an enhancer or an inference) that is ready to enhance.

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

    @property
    def device(self) -> torch.device:
        """Where the system's weights are."""
        return next((p.device for p in self.system.parameters()), torch.device("cpu"))

    def enhance(
        self,
        source: str | Path | Clip | np.ndarray | torch.Tensor,
        *,
        sample_rate: int = SAMPLE_RATE,
        video: str | Path | None = None,
        use_video: bool = True,
        roi: str = "auto",
        face: str | int = "largest",
        tracker: str | MouthTracker | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Estimate:
        """Enhance one clip.

        Arguments
        ---------
        source : path, Clip, or array or tensor of shape (samples,)
            A media file, a decoded clip, or sound.
        sample_rate : int
            Of an array or tensor, in Hz.
        video : path, optional
            A separate video file of the talking face.
        use_video : bool
            False: audio only.
        roi, face, tracker :
            How the mouth is found: see `avse.media.read_clip`.
        chunk_seconds : float
            Longer clips are enhanced in chunks of this length with overlap-add, in bounded memory. A clip that is
            not longer gives what the whole clip gives.

        Returns
        -------
        Estimate
            `speech` and `noise` of shape (samples,) at 16 kHz, `reliability` of shape (video_frames,).

        Raises
        ------
        AvseError
            If the source cannot be read.
        """
        began = time.perf_counter()
        clip = as_clip(
            source,
            sample_rate=sample_rate,
            video=video,
            use_video=use_video,
            roi=roi,
            face=face,
            tracker=tracker,
        )
        decoded = time.perf_counter()
        parts = list(self.stream(_clip_chunks(clip, chunk_seconds)))
        estimate = Estimate(
            speech=torch.cat([part.speech for part in parts]),
            noise=torch.cat([part.noise for part in parts]),
            reliability=torch.cat([part.reliability for part in parts]),
        )
        estimate.timings = {"decode": decoded - began, "enhance": time.perf_counter() - decoded}
        return estimate

    def separate(
        self,
        source: str | Path | Clip | np.ndarray | torch.Tensor,
        videos: Sequence[str | Path | Clip] = (),
        *,
        others: int = 0,
        speakers: Sequence[str | None] = (),
        sample_rate: int = SAMPLE_RATE,
        roi: str = "auto",
        tracker: str | MouthTracker | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Estimate:
        """Find the voices of several who talk at once.

        Arguments
        ---------
        source : path, Clip, or array or tensor of shape (samples,)
            The mixture.
        videos : sequence of path or Clip
            One of each talker, or one that shows several faces; of a Clip the mouth is taken. With a source that is no
            file, they are clips. None: the pictures of the source itself.
        others : int
            How many more talk whom no video shows. Without any video nobody can say which voice is whose.
        speakers : sequence of (str or None)
            Names of the talkers for a prior that knows speakers (`speaker_vae`), in the order of the voices.
        sample_rate : int
            Of an array or tensor, in Hz.
        roi, tracker :
            How mouths are found: see `avse.media.read_clip`.
        chunk_seconds : float
            Longer clips are separated in chunks of this length with overlap-add, unless more than one talker is not
            seen: nobody could say who of them is who in the next chunk.

        Returns
        -------
        Estimate
            `speech` of shape (sources, samples) and `noise` of shape (samples,) at 16 kHz, which add up to the mixture;
            `reliability` of shape (sources, video_frames).

        Raises
        ------
        AvseError
            If a file cannot be read, there is nobody to separate, or the model knows no such speakers.

        Example
        -------
        >>> import avse
        >>> mixture = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
        >>> seen = Clip(mixture, np.zeros((13, 88, 88), np.uint8))
        >>> avse.load("avse-small").separate(mixture, [seen], others=1).speech.shape
        torch.Size([2, 8000])
        """
        began = time.perf_counter()
        if isinstance(source, (str, Path)):
            from avse.media import find_talkers

            files = [video for video in videos if not isinstance(video, Clip)]
            if len(files) < len(videos):
                raise AvseError("With a file as source, videos are files as well.")
            clips = [one.clip for one in find_talkers(source, files, others=others, roi=roi, tracker=tracker)]
        else:
            heard = as_clip(source, sample_rate=sample_rate)
            seen = [video for video in videos if isinstance(video, Clip)]
            if others < 0 or len(seen) < len(videos):
                raise AvseError("With a sound as source, videos are clips, and others is not negative.")
            clips = [Clip(heard.audio, one.mouth, one.valid) for one in seen] + [heard.without_video()] * others
            clips = clips or ([heard] if heard.valid.any() else [])
        decoded = time.perf_counter()
        found = self.separate_clips(clips, speakers, chunk_seconds=chunk_seconds)
        found.timings = {"decode": decoded - began, "separate": time.perf_counter() - decoded}
        return found

    def separate_clips(
        self, talkers: Sequence[Clip], speakers: Sequence[str | None] = (), *, chunk_seconds: float = CHUNK_SECONDS
    ) -> Estimate:
        """Separate talkers whose clips have the same sound and the mouth of each; see `separate`."""
        if not talkers:
            raise AvseError("There is nobody to separate: give a video of each talker, or the number of others.")
        unseen = sum(not bool(clip.valid.any()) for clip in talkers)
        if speakers and len(speakers) != len(talkers):
            raise AvseError(f"{len(speakers)} voices are named, but there are {len(talkers)} talkers.")
        if any(speakers) and not hasattr(getattr(self.system, "prior", None), "of"):
            raise AvseError(
                f"{type(self.system).__name__} knows no speakers by name; that takes a model with the prior speaker_vae."
            )
        named = [replace(clip, speaker=name or "") for clip, name in zip(talkers, speakers or [""] * len(talkers))]
        chunks = [_clip_chunks(clip, chunk_seconds if unseen < 2 else np.inf) for clip in named]
        parts: list[Estimate] = []
        starts: list[int] = []
        for pieces in zip(*chunks):
            batch = Batch.from_clips([one.clip for one in pieces], sources=len(pieces)).to(self.device)
            with _inference(self.system):
                [part] = run(self.system, batch).unbind()
            parts.append(part.to("cpu"))
            starts.append(pieces[0].start)
        return join(torch.from_numpy(talkers[0].audio), parts, starts)

    def enhance_batch(self, clips: Sequence[Clip]) -> list[Estimate]:
        """Enhance several decoded clips at once, unchunked."""
        with _inference(self.system):
            estimate = self.system(Batch.from_clips(clips).to(self.device))
        return [_to_cpu(one) for one in estimate.unbind()]

    def stream(self, chunks: Iterable[Any]) -> Iterator[Estimate]:
        """Enhance chunks that overlap and cross-fade them.

        Arguments
        ---------
        chunks : iterable
            Objects with `clip` (Clip) and `start` (first sample of the chunk, a multiple of 640), in order; each
            begins at or before the end of the one before it.

        Yields
        ------
        Estimate
            Consecutive pieces that together are as long as the sound.
        """
        tail: Estimate | None = None
        tail_start = 0
        for chunk in chunks:
            [estimate] = self.enhance_batch([chunk.clip])
            if tail is not None:
                overlap = tail_start + len(tail.speech) - chunk.start
                ready, faded = _cross_fade(tail, estimate, overlap)
                yield ready
                estimate = faded
            tail, tail_start = estimate, chunk.start
        if tail is not None:
            yield tail

    def save(
        self,
        folder: str | Path,
        *,
        description: dict[str, Any] | None = None,
        card: str | None = None,
        half: bool = False,
    ) -> Path:
        """Write a model folder: weights, recipe, description with hashes, and a card.

        Arguments
        ---------
        folder : path
        description : dict, optional
            Added to `model.json` (training data, seed, command, scores).
        card : str, optional
            Text of `README.md`.
        half : bool
            Keep the weights in 16 bits, half the size; they are loaded as 32 bits.

        Returns
        -------
        Path
            The folder.
        """
        import safetensors.torch

        from avse import __version__

        folder = Path(folder)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.system.state_dict().items()}
        if half:
            weights = {
                name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in weights.items()
            }
        with atomic_path(folder / _WEIGHTS) as path:
            safetensors.torch.save_file(weights, path)
        with atomic_path(folder / _RECIPE) as path:
            path.write_text(self.recipe, encoding="utf-8")
        facts = {
            "format": _FORMAT,
            "name": self.name,
            "avse": __version__,
            "torch": torch.__version__,
            "parameters": sum(tensor.numel() for tensor in self.system.parameters()),
            "sha256": {name: _sha256(folder / name) for name in (_WEIGHTS, _RECIPE)},
            **(description or {}),
        }
        with atomic_path(folder / _DESCRIPTION) as path:
            path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        if card is not None:
            with atomic_path(folder / "README.md") as path:
                path.write_text(card, encoding="utf-8")
        return folder


def load(
    name_or_folder: str | Path = "avse-small",
    device: str | torch.device = "cpu",
    overrides: Mapping[str, Any] | None = None,
) -> Model:
    """Load a model.

    The system is what the recipe calls `inference`, where it has this key (a trained prior with a noise model), else
    `model`.

    Arguments
    ---------
    name_or_folder : str or path
        A name that `avse` carries (`avse-small`), or a model folder, such as `<run folder>/model`.
    device : str or torch.device
    overrides : mapping, optional
        Changes of the model's recipe, as for training: `{"inference": "vem", "inference.iterations": 20}`. What stays
        keeps its weights.

    Returns
    -------
    Model

    Raises
    ------
    AvseError
        If there is no such model, a file is missing or altered, the recipe names anything but registered plugins, the
        weights do not fit the recipe, or an override fits nowhere or brings in a part that would have to be trained.

    Example
    -------
    >>> load("avse-small").name
    'avse-small'
    """
    import safetensors.torch

    from avse.recipe import load_trusted

    folder = _find(name_or_folder)
    description = _read_description(folder)
    old = description["format"] < _FORMAT
    if {name.partition(".")[0] for name in overrides or ()} & set(_PARTS):
        _check_parts(load_trusted(folder / _RECIPE, old=old), description.get("name", folder.name), overrides)
    recipe = load_trusted(folder / _RECIPE, overrides, old=old)
    key = SYSTEM if SYSTEM in recipe.keys else "model"
    system = recipe.build(key)[key]
    try:
        weights = safetensors.torch.load_file(folder / _WEIGHTS)
    except (safetensors.SafetensorError, OSError) as error:
        raise AvseError(f"{folder / _WEIGHTS}: holds no weights ({error}). Fetch the model again.") from error
    weights = {weight_name(name, description["format"]): weight for name, weight in weights.items()}
    expected = system.state_dict()
    if overrides:
        # A part that was put in brings buffers of its own, and leaves weights of what it replaced behind.
        learned = {name for name, _ in system.named_parameters()}
        weights = {
            name: weights.get(name, value) for name, value in expected.items() if name in weights or name not in learned
        }
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape]
    if wrong:
        listed = f"{len(wrong)} differ: {', '.join(wrong[:8])}{' ...' if len(wrong) > 8 else ''}"
        if overrides:
            raise AvseError(
                f"{folder}: the weights do not fit the recipe with {', '.join(f'--{name}' for name in overrides)}; "
                f"{listed}. Only parts that need no training can be replaced in a trained model."
            )
        raise AvseError(
            f"{folder}: the weights do not fit the recipe; {listed}. Were they made with another version of a plugin? "
            f"The folder was written by avse {description.get('avse')}."
        )
    system.load_state_dict(weights)
    return Model(system.to(device).eval(), recipe.text, description.get("name", folder.name), description)


def as_clip(
    source: str | Path | Clip | np.ndarray | torch.Tensor,
    *,
    sample_rate: int = SAMPLE_RATE,
    video: str | Path | None = None,
    use_video: bool = True,
    roi: str = "auto",
    face: str | int = "largest",
    tracker: str | MouthTracker | None = None,
    silent: bool = False,
) -> Clip:
    """A `Clip` of anything that `Model.enhance` takes.

    >>> as_clip(np.zeros(8000), sample_rate=8000).audio.shape
    (16000,)
    """
    if isinstance(source, (str, Path)):
        from avse.media import read_clip

        return read_clip(source, video=video, use_video=use_video, roi=roi, face=face, tracker=tracker, silent=silent)
    if isinstance(source, Clip):
        clip = source
    else:
        audio = np.asarray(source.detach().cpu() if isinstance(source, torch.Tensor) else source, dtype=np.float32)
        if audio.ndim != 1 or audio.size == 0:
            raise AvseError(
                f"Sound must be one channel of shape (samples,) with at least one sample, got {audio.shape}."
            )
        if not np.isfinite(audio).all():
            raise AvseError("The sound holds NaN or infinite samples. Replace them (numpy.nan_to_num) first.")
        if sample_rate != SAMPLE_RATE:
            import soxr

            audio = soxr.resample(audio, sample_rate, SAMPLE_RATE)
        clip = Clip(audio)
        if video is not None:
            raise AvseError("video= goes with a sound file. For an array, build avse.Clip(audio, mouth, valid).")
    return clip if use_video else clip.without_video()


@dataclass
class _Chunk:
    clip: Clip
    start: int


def _clip_chunks(clip: Clip, seconds: float) -> Iterator[_Chunk]:
    seconds = min(seconds, len(clip.audio) / SAMPLE_RATE + 1)
    size = max(1, round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)) * SAMPLES_PER_FRAME
    overlap = min(round(OVERLAP_SECONDS * SAMPLE_RATE / SAMPLES_PER_FRAME), size // SAMPLES_PER_FRAME // 2)
    hop = size - overlap * SAMPLES_PER_FRAME
    start = 0
    while True:
        stop = min(len(clip.audio), start + size)
        first = start // SAMPLES_PER_FRAME
        piece = clip.audio[start:stop], clip.mouth[first:], clip.valid[first:]
        yield _Chunk(Clip(*piece, clip.clip_id, clip.speaker), start)
        if stop == len(clip.audio):
            return
        start += hop


def _cross_fade(tail: Estimate, head: Estimate, overlap: int) -> tuple[Estimate, Estimate]:
    """What of `tail` is finished, and `head` with its first `overlap` samples faded in over the end of `tail`."""
    frames = overlap // SAMPLES_PER_FRAME
    keep, keep_frames = len(tail.speech) - overlap, len(tail.reliability) - frames

    def fade(old: torch.Tensor, new: torch.Tensor, count: int) -> torch.Tensor:
        rise = torch.linspace(0, 1, count + 2, dtype=new.dtype)[1:-1]
        return torch.cat([old[len(old) - count :] * (1 - rise) + new[:count] * rise, new[count:]])

    ready = Estimate(tail.speech[:keep], tail.noise[:keep], tail.reliability[:keep_frames])
    faded = Estimate(
        fade(tail.speech, head.speech, overlap),
        fade(tail.noise, head.noise, overlap),
        fade(tail.reliability, head.reliability, frames),
    )
    return ready, faded


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


def _to_cpu(estimate: Estimate) -> Estimate:
    estimate.speech, estimate.noise = estimate.speech.float().cpu(), estimate.noise.float().cpu()
    estimate.reliability = estimate.reliability.float().cpu()
    return estimate


def _find(name_or_folder: str | Path) -> Path:
    for folder in (PRETRAINED / str(name_or_folder), Path(name_or_folder), Path(name_or_folder) / "model"):
        if (folder / _DESCRIPTION).is_file():
            return folder
    names = sorted(path.parent.name for path in PRETRAINED.glob(f"*/{_DESCRIPTION}"))
    if Path(name_or_folder).is_dir():
        raise AvseError(f"{name_or_folder}: is not a model folder ({_DESCRIPTION} is missing).")
    raise AvseError(
        f"There is no model {str(name_or_folder)!r}. Embedded models: {', '.join(names) or 'none'}; or give a model "
        f"folder, such as results/.../model."
    )


def _check_parts(recipe: Recipe, name: str, overrides: Mapping[str, Any]) -> None:
    """Answer who names a part that this kind of model lacks, or that stands elsewhere in its recipe."""
    for option in overrides:
        part = option.partition(".")[0]
        if part not in _PARTS or part in recipe.keys:
            continue
        called = part.replace("_", " ")
        if SYSTEM not in recipe.keys:
            own = next((f"{one.kind}/{one.name}" for one in recipe.components() if one.key == "model"), "no plugin")
            raise AvseError(
                f"--{option}: {name} has no {called}: it is a network trained to enhance ({own}). Models with a prior, "
                f"a noise model and an inference are those of recipes with the key `{SYSTEM}`, such as "
                f"recipes/Manifest/hparams/av_vae.yaml; there, --{SYSTEM} and --noise_model choose others."
            )
        if part == "prior":
            raise AvseError(f"--{option}: the prior of {name} is what was trained. Another one is another --model.")
        raise AvseError(f"--{option}: the {called} of {name} is an argument; give --{SYSTEM}.{option}.")


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        hashes = dict(description["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AvseError(
            f"{folder / _DESCRIPTION}: does not describe a model ({type(error).__name__}: {error}). Fetch it again."
        ) from error
    if description.get("format") not in range(1, _FORMAT + 1):
        raise AvseError(f"{folder}: has format {description.get('format')}, this avse reads formats 1 to {_FORMAT}.")
    for name in (_WEIGHTS, _RECIPE):
        path = folder / name
        if not path.is_file():
            raise AvseError(f"{path}: is missing. Fetch the model again.")
        if _sha256(path) != hashes.get(name):
            raise AvseError(
                f"{path}: was altered: its SHA-256 is not the one in {_DESCRIPTION}. Fetch the model again."
            )
    return description


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

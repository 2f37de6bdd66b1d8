"""The scene of a clip as a vector: from a description, a picture, a video or a sound, by an embedding."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avse import model_folder
from avse.contracts.embedding import Embedding
from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.devices import find_device
from avse.errors import AvseError
from avse.media.decode import VideoSource, open_container, reason, video_stream
from avse.media.reader import tracker_of
from avse.nnet.scene_trunks import sees_images
from avse.signal.scenes import SOUND, SPECTRA, combined, sound_spectra, with_sound

NAME, KIND, AUTO = "scene-clip", "embedding", "auto"
Description = str | Path | np.ndarray | torch.Tensor
_FRAMES, _EVERY = 16, 15  # most frames of a video that are looked at; one in so many (0.6 s)
_LONGEST_SIDE = 512
_LARGEST_CROP = 128  # pixels of a video that may show a mouth alone
_NEAREST = 5  # known classes that are told
_SHORTEST, _LONGEST = 0.1, 60  # s of a sound that describes a noise, and of it that are heard


def load_embedding(name_or_folder: str | Path = NAME, device: str | torch.device = "cpu") -> Embedding:
    """An embedding that avse carries, by its name, or one of a model folder.

    Raises
    ------
    AvseError
        If there is no such model, or it is no embedding.
    """
    folder = model_folder.find(name_or_folder)
    return _load(
        str(folder.resolve()), (folder / model_folder.DESCRIPTION).stat().st_mtime_ns, str(find_device(str(device)))
    )


@functools.lru_cache(maxsize=4)
def _load(folder: str, written: int, device: str) -> Embedding:
    built, weights, _ = model_folder.read_network(Path(folder), KIND)
    embedding = built[KIND]
    try:
        embedding.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        raise AvseError(f"{folder}: the weights do not fit the recipe ({error}). Fetch the model again.") from error
    return embedding.to(device).eval()


def read_scene(source: str | Path) -> tuple[str, Any]:
    """What describes a scene: a text, or a file with a picture, a video or sound alone.

    Arguments
    ---------
    source : str or Path
        A path, or text where there is no such file.

    Returns
    -------
    modality : str
        `text`, `image`, `video` or `sound`.
    item : str or array
        As `Embedding.embed` takes it.

    Raises
    ------
    AvseError
        If the text says nothing, or the file is missing, is damaged or holds none of the three.

    Example
    -------
    >>> read_scene("rain on a tin roof")
    ('text', 'rain on a tin roof')
    """
    path = Path(source)
    if not _exists(path):
        text = str(source).strip()
        if isinstance(source, Path) or (path.suffix[1:].isalnum() and " " not in text):
            raise AvseError(f"{source}: no such file. Give a picture, a video, a sound, or describe it in words.")
        return "text", _words(text)
    with open_container(path) as container:
        moving, still = video_stream(container) is not None, bool(container.streams.video)
        sounds = bool(container.streams.audio)
        if not moving and not sounds and still:
            return "image", _image(container, path)
    if moving:
        frames = list(_frames(path))
        if frames:
            return "video", np.stack(frames)
    if not sounds:
        raise AvseError(f"{path}: holds neither a picture, nor a video, nor sound that can be read.")
    return "sound", read_audio(path)


def _words(text: str) -> str:
    if not any(letter.isalnum() for letter in text):
        raise AvseError(f"The description {text!r} says nothing. Give words, such as 'rain on a roof'.")
    return text


def describe_words(text: str) -> torch.Tensor:
    """The vector of words, shape (dim,), which name no file whatever they are; else as `describe`."""
    return with_sound(_vector(load_embedding(), [("text", _words(text))]), [])


def embed_scene(source: str | Path, embedding: Embedding) -> torch.Tensor:
    """The vector of one description, shape (dim,); see `read_scene`."""
    modality, item = read_scene(source)
    with torch.no_grad():
        return embedding([item], modality)[0]


def files_among(place: str | Path) -> list[Path]:
    """Files to search: all of a folder, in order; or the videos, pictures and noises of a manifest.

    Raises
    ------
    AvseError
        If the place is neither, or holds none.
    """
    place = Path(place)
    if place.is_dir():
        found = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
    else:
        rows = read_manifest(place, kinds=("noise", "scene", "image"))
        found = [Path(row.video or row.extra.get("image") or row.audio) for row in rows]
    if not found:
        raise AvseError(f"{place}: holds nothing to search.")
    return found


def retrieve(
    query: torch.Tensor, files: Sequence[Path], embedding: Embedding
) -> tuple[list[tuple[float, str, Path]], int]:
    """Files by how alike their scene is to a vector.

    Arguments
    ---------
    query : tensor, shape (dim,)
    files : sequence of Path
    embedding : Embedding

    Returns
    -------
    found : list of (float, str, Path)
        Cosine, modality and file, the nearest first.
    skipped : int
        How many files cannot be read.
    """
    found, skipped = [], 0
    for path in files:
        try:
            modality, item = read_scene(path)
        except AvseError:
            skipped += 1
            continue
        with torch.no_grad():
            found.append((float(embedding([item], modality)[0] @ query), modality, path))
    return sorted(found, key=lambda one: -one[0]), skipped


@dataclass(frozen=True)
class DescribedScene:
    """What descriptions of the noise say together.

    Arguments
    ---------
    vector : tensor, shape (dim,)
        The embedding, of length one, and behind it how a sound that was given sounds (`avse.signal.scenes`).
    nearest : list of (str, float)
        The known classes of noise that are closest, and their cosines.
    """

    vector: torch.Tensor
    nearest: list[tuple[str, float]] = field(default_factory=list)


def describe(
    noise: Description | Sequence[Description] = (),
    not_noise: Description | Sequence[Description] = (),
    *,
    clip: Callable[[], tuple[np.ndarray, str | Path | None]] | None = None,
    embedding: Embedding | None = None,
) -> DescribedScene:
    """One vector of all that is said of the noise: see `avse.signal.scenes`.

    Arguments
    ---------
    noise, not_noise : description or several
        What the noise is, and what it is not: words; the path of a picture, a video or a sound (of which the first
        minute is heard); an array with a sound,
        shape (samples,) at 16 kHz, a picture, (height, width, 3) uint8 RGB, or a video, (frames, height, width, 3); a
        vector of the embedding or of a scene, as a tensor; or `auto`, which is the clip itself: its sound, and its
        picture with the faces covered (where the extra `scene` is installed).
    clip : callable, optional
        Gives the sound of the clip, shape (samples,) at 16 kHz, and the file of its video, for `auto`.
    embedding : Embedding, optional
        Default: the one that avse carries.

    Raises
    ------
    AvseError
        If nothing is said, something cannot be read or is no description.
    """
    wanted, unwanted = _listed(noise), _listed(not_noise)
    if not wanted and not unwanted:
        raise AvseError("Nothing is said of the noise. Describe it ('rain on a roof'), or give a sound or a picture.")
    read = [_read(each, clip) for each in wanted] + [_read(each, None) for each in unwanted]
    used = load_embedding() if embedding is None else embedding
    vectors = [_vector(used, parts) for parts in read]
    embedded = combined(vectors[: len(wanted)], vectors[len(wanted) :])
    spectra = [each for given, parts in zip(wanted, read) if not _is_auto(given) for each in _spectra(used, parts)]
    vector = with_sound(embedded, spectra)
    names, centroids = getattr(used, "classes", ()), getattr(used, "centroids", None)
    if not len(names) or centroids is None:
        return DescribedScene(vector)
    alike = torch.nn.functional.normalize(centroids, dim=1) @ embedded
    order = alike.argsort(descending=True)[:_NEAREST].tolist()
    return DescribedScene(vector, [(names[place], round(float(alike[place]), 3)) for place in order])


def _listed(descriptions: Description | Sequence[Description]) -> list[Description]:
    if isinstance(descriptions, (str, Path, np.ndarray, torch.Tensor)):
        return [descriptions]
    return list(descriptions)


def files_of(descriptions: Description | Sequence[Description]) -> list[Path]:
    """The files among descriptions."""
    paths = [Path(each) for each in _listed(descriptions) if isinstance(each, (str, Path))]
    return [path for path in paths if _exists(path)]


def read_once(descriptions: Description | Sequence[Description]) -> list[Description]:
    """Descriptions as vectors, but for `auto`, which is another for each clip; errors as of `describe`."""
    listed = _listed(descriptions)
    return [each if _is_auto(each) else describe(each).vector for each in listed]


def _is_auto(description: Description) -> bool:
    return isinstance(description, str) and description == AUTO


def _read(
    description: Description, clip: Callable[[], tuple[np.ndarray, str | Path | None]] | None
) -> list[tuple[str, Any]]:
    """Modality and item of each part of a description; a vector has the modality `""`."""
    if isinstance(description, torch.Tensor):
        return [("", description)]
    if isinstance(description, np.ndarray):
        if description.ndim == 1 and description.dtype.kind == "f" and len(description):
            return [("sound", _audible(description, "The array"))]
        if description.ndim in (3, 4) and description.shape[-1] == 3 and description.dtype == np.uint8:
            return [("image" if description.ndim == 3 else "video", description)]
        raise AvseError(
            f"An array of {description.dtype}, shape {description.shape}, describes no noise. Give a sound (samples,), "
            "floats at 16 kHz, or a picture (height, width, 3) or video (frames, height, width, 3), uint8."
        )
    if not isinstance(description, (str, Path)):
        raise AvseError(f"A {type(description).__name__} describes no noise. Give words, a file or an array.")
    if not _is_auto(description):
        modality, item = read_scene(description)
        return [(modality, _audible(item, str(description)) if modality == "sound" else item)]
    if clip is None:
        raise AvseError("`auto` says what the noise of a clip is, by the clip itself; it cannot say what it is not.")
    sound, video = clip()
    parts: list[tuple[str, Any]] = [("sound", sound)]
    if video is not None and sees_images() and (frames := _around_faces(Path(video))) is not None:
        parts.append(("video", frames))
    return parts


def _audible(sound: np.ndarray, source: str) -> np.ndarray:
    if len(sound) < _SHORTEST * SAMPLE_RATE or not sound.any():
        what = "is silent" if len(sound) and not sound.any() else f"lasts {len(sound) / SAMPLE_RATE:.3f} s"
        raise AvseError(f"{source}: {what} and describes no noise. Give at least {_SHORTEST} s of the noise alone.")
    return sound[: _LONGEST * SAMPLE_RATE]


def _vector(embedding: Embedding, parts: Sequence[tuple[str, Any]]) -> torch.Tensor:
    vectors, dim = [], embedding.output_dim
    for modality, item in parts:
        if not modality and item.shape not in ((dim,), (dim + SOUND,)):
            raise AvseError(
                f"A tensor of shape {tuple(item.shape)} is no vector of the embedding, of shape ({dim},), and none of "
                f"a scene, of shape ({dim + SOUND},)."
            )
        with torch.no_grad():
            vectors.append(embedding([item], modality)[0].cpu() if modality else item[:dim].float().cpu())
    return combined(vectors)


def _spectra(embedding: Embedding, parts: Sequence[tuple[str, Any]]) -> Iterator[torch.Tensor]:
    for modality, item in parts:
        if modality == "sound":
            yield sound_spectra(torch.as_tensor(item))
        elif not modality and item[embedding.output_dim :].any():
            yield item[embedding.output_dim :].float().cpu().unflatten(0, (SPECTRA, -1))


def _around_faces(path: Path) -> np.ndarray | None:
    """A few frames of a video, with the mean colour where a face is; None if they show nothing else (mouth crops)."""
    frames = list(_frames(path))
    if not frames or min(frames[0].shape[:2]) <= _LARGEST_CROP:
        return None
    tracker = tracker_of(None)
    for place, frame in enumerate(frames):
        frames[place] = frame = frame.copy()
        for face in tracker.detect(frame):
            x, y, width, height = (max(0, round(side)) for side in face.box)
            frame[y : y + height, x : x + width] = frame.mean(axis=(0, 1)).astype(np.uint8)
    return np.stack(frames)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text too long for a name, or with a zero byte
        return False


def _image(container: Any, path: Path) -> np.ndarray:
    import av

    try:
        frame = next(container.decode(video=0), None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AvseError(f"{path}: is not a picture that can be read ({reason(error)}).") from error
    if frame is None:
        raise AvseError(f"{path}: is not a picture that can be read (it holds no pixels).")
    scale = min(1.0, _LONGEST_SIDE / max(frame.width, frame.height))
    size = {"width": max(1, round(scale * frame.width)), "height": max(1, round(scale * frame.height))}
    return frame.reformat(**size, format="rgb24").to_ndarray()


def _frames(path: Path) -> Iterator[np.ndarray]:
    """Up to `_FRAMES` frames from the start of a video, shape (height, width, 3), RGB."""
    source = VideoSource(path)
    with source.container:
        found = 0
        for index, frame in enumerate(source.frames(source.zero)):
            if found == _FRAMES or index > _FRAMES * _EVERY * 4:
                return
            if index % _EVERY == 0 and frame is not None:
                found += 1
                yield frame.rgb(_LONGEST_SIDE)

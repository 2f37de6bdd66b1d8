"""The scene of a clip as a vector: from a description, a picture, a video or a sound, by an embedding."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avse import model_folder
from avse.contracts.embedding import Embedding
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.devices import find_device
from avse.errors import AvseError
from avse.media.decode import VideoSource, open_container, reason, video_stream

NAME, KIND = "scene-clip", "embedding"
_FRAMES, _EVERY = 16, 15  # most frames of a video that are looked at; one in so many (0.6 s)
_LONGEST_SIDE = 512


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
        if not any(letter.isalnum() for letter in text):
            raise AvseError(f"The description {str(source)!r} says nothing. Give words, such as 'rain on a roof'.")
        return "text", text
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


def embed_scene(source: str | Path, embedding: Embedding) -> torch.Tensor:
    """The vector of one description, shape (output_dim,); see `read_scene`."""
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
    query : tensor, shape (output_dim,)
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

"""What needs no model object: enhance, separate, generate and embed, with a model by name.

A model that is given by name or folder is loaded once: the last four are kept, each by its folder, the time at which
the folder was written, the device and the overrides. They are used here and never handed out, so nobody can change
them; `avse.load` reads a model anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from avse import compatibility, model_folder
from avse.contracts.types import SAMPLE_RATE, Clip, Estimate
from avse.devices import AUTO, find_device
from avse.errors import AvseError
from avse.files import atomic_path
from avse.model import Asked, Model, is_described, load, told_overrides
from avse.overlap import CHUNK_SECONDS
from avse.sources import Reading, Source

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from avse.contracts.mouth_tracker import MouthTracker
    from avse.contracts.sampler import Sampler

_Function = TypeVar("_Function", bound=Callable[..., Any])
_CACHED = 4
_cache: dict[tuple[Any, ...], Model] = {}


def enhance(
    source: Source,
    *,
    model: str | Path | Model = "avse-small",
    device: str = AUTO,
    overrides: Mapping[str, Any] | None = None,
    sample_rate: int = SAMPLE_RATE,
    chunk_seconds: float = CHUNK_SECONDS,
    mix: float = 1.0,
    max_attenuation: float | None = None,
    **asked: Unpack[Asked],
) -> Estimate:
    """Enhance one clip: `avse.model.Model.enhance`, which says what it takes and returns, of a model by name.

    Where the noise is described (`noise`, `not_noise`), a model with a noise model has `conditioned_nmf` for it, unless
    `overrides` name another.

    Arguments
    ---------
    model : str, path or Model
        Name or folder of a model, which is loaded once; or a model that is used as it is.
    device : str
        Of a model given by name or folder: `auto` (a GPU if there is one), `cpu`, `cuda`, ...
    overrides : mapping, optional
        Changes of the recipe of a model given by name or folder: see `avse.load`.

    Example
    -------
    >>> enhance(np.zeros(16000)).speech.shape
    torch.Size([16000])
    """
    if is_described(asked) and not isinstance(model, Model):
        overrides = told_overrides(model, overrides)
    return _model_of(model, device, overrides).enhance(
        source,
        sample_rate=sample_rate,
        chunk_seconds=chunk_seconds,
        mix=mix,
        max_attenuation=max_attenuation,
        **asked,
    )


def separate(
    source: Source,
    videos: Sequence[str | Path | Clip] = (),
    *,
    model: str | Path | Model = "av-separator",
    device: str = AUTO,
    overrides: Mapping[str, Any] | None = None,
    others: int = 0,
    speakers: Sequence[str | None] = (),
    sample_rate: int = SAMPLE_RATE,
    roi: str = "auto",
    tracker: str | MouthTracker | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
) -> Estimate:
    """Find the speech of each of several speakers: `avse.model.Model.separate`, of a model as in `enhance`.

    Example
    -------
    >>> separate(np.zeros(3200), others=2).speech.shape
    torch.Size([2, 3200])
    """
    return _model_of(model, device, overrides).separate(
        source,
        videos,
        others=others,
        speakers=speakers,
        sample_rate=sample_rate,
        roi=roi,
        tracker=tracker,
        chunk_seconds=chunk_seconds,
    )


def _source_first(function: _Function) -> _Function:
    """Let a model stand first, as in the last release, where it can be told from a source."""

    @functools.wraps(function)
    def either_order(*arguments: Any, **options: Any) -> Any:
        if arguments and "model" not in options and _is_model(arguments[0]):
            name = function.__name__
            compatibility.warn(f"{name}(model, source)", f"{name}(source, model=model)")
            return function(*arguments[1:], model=arguments[0], **options)
        return function(*arguments, **options)

    return cast(_Function, either_order)


@_source_first
def generate(
    source: Source | None = None,
    *,
    model: str | Path | Model = "av-diffusion-small",
    device: str = AUTO,
    overrides: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    seed: int = 0,
    guidance: float | None = None,
    sampler: Sampler | str = "ancestral",
    steps: int = 30,
    **reading: Unpack[Reading],
) -> np.ndarray:
    """Draw speech from the video of a mouth, or from nothing: `avse.model.Model.generate`, of a model as in `enhance`.

    Example
    -------
    >>> generate(seconds=0.1, sampler="euler", steps=2).shape
    (1600,)
    """
    return _model_of(model, device, overrides).generate(
        source, seconds=seconds, seed=seed, guidance=guidance, sampler=sampler, steps=steps, **reading
    )


@_source_first
def embed(
    source: Source,
    *,
    model: str | Path | Model = "av-diffusion-small",
    device: str = AUTO,
    overrides: Mapping[str, Any] | None = None,
    time: float = 0.1,
    **reading: Unpack[Reading],
) -> dict[str, np.ndarray]:
    """Features of each video frame of a clip, from a diffusion prior: `avse.model.Model.embed`, as in `enhance`."""
    return _model_of(model, device, overrides).embed(source, time=time, **reading)


def check_features(path: str | Path) -> None:
    """Refuse the name of a file that `write_features` could not write, before there are features."""
    if Path(path).suffix not in (".npz", ".npy"):
        raise AvseError(f"{path}: features are written to .npz (all arrays) or .npy (features alone).")


def write_features(features: dict[str, np.ndarray], path: str | Path) -> None:
    """Write what `embed` gives: all arrays to `.npz`, the array `features` alone to `.npy`."""
    check_features(path)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if Path(path).suffix == ".npz":
            np.savez_compressed(file, allow_pickle=False, **features)
        else:
            np.save(file, features["features"])


def _model_of(model: str | Path | Model, device: str, overrides: Mapping[str, Any] | None) -> Model:
    """A model as it is; of a name or folder, that of the cache."""
    if isinstance(model, Model):
        if overrides:
            raise AvseError("Overrides change the recipe of a model that is given by name or folder: see avse.load.")
        return model
    folder = model_folder.find(model)
    written = (folder / model_folder.DESCRIPTION).stat().st_mtime_ns
    device = str(find_device(device))
    key = (str(folder.resolve()), written, device, repr(sorted((overrides or {}).items())))
    loaded = _cache.pop(key, None) or load(folder, device, overrides)
    _cache[key] = loaded  # the one used last stands last
    for oldest in list(_cache)[:-_CACHED]:
        del _cache[oldest]
    return loaded


def _is_model(argument: Any) -> bool:
    if isinstance(argument, Model):
        return True
    if not isinstance(argument, (str, Path)) or Path(argument).is_file():
        return False
    try:
        model_folder.find(argument)
    except AvseError:
        return False
    return True

"""`avse`: audio-visual speech enhancement, one modular toolkit.

The front door: `load` a model and `enhance` with it, `evaluate` and `compare` systems, read media as a `Clip`.
Everything is imported on first use, so that `import avse` is light.
"""

from __future__ import annotations

from typing import Any

from avse import compatibility

__version__ = "0.1.0"

_FROM = {
    "load": "avse.model",
    "Model": "avse.model",
    "Clip": "avse.contracts.types",
    "Batch": "avse.contracts.types",
    "Estimate": "avse.contracts.types",
    "AvseError": "avse.errors",
    "read_clip": "avse.media",
    "evaluate": "avse.evaluation",
    "compare": "avse.evaluation",
    "train": "avse.training",
    "generate": "avse.generation",
    "register": "avse.plugins",
}
compatibility.install()
__all__ = ["__version__", "enhance", "separate", *_FROM]


def enhance(source: Any, *, model: str = "avse-small", **options: Any) -> Any:
    """Enhance one clip with a named model: `avse.load(model).enhance(source, **options)`.

    Arguments
    ---------
    source : path, Clip, or array or tensor of shape (samples,)
    model : str
        Name or folder of a model.
    options
        See `avse.model.Model.enhance`.

    Returns
    -------
    Estimate

    Example
    -------
    >>> import numpy
    >>> enhance(numpy.zeros(16000)).speech.shape
    torch.Size([16000])
    """
    from avse.model import load

    return load(model).enhance(source, **options)


def separate(source: Any, videos: Any = (), *, model: str = "av-vae", **options: Any) -> Any:
    """Find the voices of several who talk at once: `avse.load(model).separate(source, videos, **options)`.

    Arguments
    ---------
    source : path, Clip, or array or tensor of shape (samples,)
        The mixture.
    videos : sequence of path or Clip
        One of each talker; or one, or the source itself, that shows several faces.
    model : str
        Name or folder of a model.
    options
        See `avse.model.Model.separate`.

    Returns
    -------
    Estimate

    Example
    -------
    >>> import numpy
    >>> separate(numpy.zeros(3200), others=2).speech.shape
    torch.Size([2, 3200])
    """
    from avse.model import load

    return load(model).separate(source, videos, **options)


def __getattr__(name: str) -> Any:
    if name in _FROM:
        import importlib

        return getattr(importlib.import_module(_FROM[name]), name)
    raise AttributeError(f"module 'avse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

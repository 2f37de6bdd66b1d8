"""`avse`: audio-visual speech enhancement, one modular toolkit.

The public API: `enhance` a clip, `load` a model, `evaluate` and `compare` systems, read media as a `Clip`.
Everything is imported on first use, so that `import avse` is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avse import compatibility

if TYPE_CHECKING:  # what an editor and mypy see
    from avse.api import enhance, generate, separate
    from avse.contracts.types import Batch, Clip, Estimate
    from avse.errors import AvseError
    from avse.evaluation import compare, evaluate
    from avse.media import read_clip
    from avse.model import Model, load
    from avse.plugins import register
    from avse.training import train

__version__ = "0.1.0"
__all__ = [
    "AvseError",
    "Batch",
    "Clip",
    "Estimate",
    "Model",
    "__version__",
    "compare",
    "enhance",
    "evaluate",
    "generate",
    "load",
    "read_clip",
    "register",
    "separate",
    "train",
]
_FROM = {
    "avse.api": ("enhance", "generate", "separate"),
    "avse.contracts.types": ("Batch", "Clip", "Estimate"),
    "avse.errors": ("AvseError",),
    "avse.evaluation": ("compare", "evaluate"),
    "avse.media": ("read_clip",),
    "avse.model": ("Model", "load"),
    "avse.plugins": ("register",),
    "avse.training": ("train",),
}
compatibility.install()


def __getattr__(name: str) -> Any:
    for module, names in _FROM.items():
        if name in names:
            import importlib

            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'avse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""The registry: `@register(kind, name)`, and the names `avse.plugins.<kind>.<name>` that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

KINDS = {
    "mouth_tracker": "avse.mouth_trackers",
    "visual_frontend": "avse.visual_frontends",
    "fusion": "avse.fusion",
    "prior": "avse.priors",
    "noise_model": "avse.noise_models",
    "inference": "avse.inference",
    "enhancer": "avse.enhancers",
    "embedding": "avse.embeddings",
    "corruption": "avse.corruptions",
    "dataset": "avse.datasets",
    "metric": "avse.metrics",
}
_REGISTRY: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}
T = TypeVar("T", bound=type)


def register(kind: str, name: str) -> Callable[[T], T]:
    """Class decorator: make a class known as plugin `name` of `kind`."""

    def decorate(cls: T) -> T:
        _REGISTRY[kind][name] = cls
        cls.plugin_kind, cls.plugin_name = kind, name
        return cls

    return decorate


def get(kind: str, name: str) -> type:
    """The class registered as `kind`/`name`."""
    import importlib
    import pkgutil

    package = importlib.import_module(KINDS[kind])
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{KINDS[kind]}.{module.name}")
    return _REGISTRY[kind][name]


class _Kind:
    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> type:
        try:
            return get(self._kind, name)
        except KeyError:
            raise AttributeError(name) from None


def __getattr__(name: str) -> _Kind:
    if name in KINDS:
        return _Kind(name)
    raise AttributeError(name)

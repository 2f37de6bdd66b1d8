"""What every plugin of every kind has in common."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from typing import Any, ClassVar

from avse import compatibility

_POSITIONAL, _KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
_ARGS, _KEYWORDS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


class PluginType(ABCMeta):
    """Type of all plugins: records the arguments of each instance, and lets a plugin inherit those of its family."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        bound = inspect.signature(cls).bind(*args, **kwargs)
        bound.apply_defaults()
        object.__setattr__(instance, "config", dict(bound.arguments))
        instance.built()
        return instance


class Plugin(metaclass=PluginType):
    """Base of all contracts.

    A plugin is a class registered with `@register(kind, name)`. Its constructor takes keyword arguments with plain
    values (numbers, strings, booleans, lists) or other plugins, all of which a recipe can write.

    A plugin of a family states only its own arguments and passes the others on:

        def __init__(self, prior, noise_model, *, draws: int = 10, **common: Any) -> None:
            super().__init__(prior, noise_model, **common)

    Its signature, its recipe, `avse plugins` and the documentation then have those of the base class as well, but for
    those that it names in `not_inherited`. With `*args` beside `**common` they can be given by position too.

    Attributes
    ----------
    config : dict
        The arguments that the instance was built with, defaults included, by name.
    not_inherited : tuple of str
        Arguments of the base class that a plugin decides itself.
    passes_to : type or None
        The class whose arguments `**common` stands for, where that is not the base class: of a part that is built.
    plugin_kind, plugin_name : str
        Set by `register`.
    paper : str
        Where the method comes from; empty where there is no paper.
    causal : bool
        True if no output depends on input later than its own frame. A plugin whose causality depends on its
        arguments sets it on the instance.
    streams : bool
        True if a causal plugin gives block by block what it gives for the whole clip: it treats each frame by itself,
        or remembers the frames before through `avse.contracts.streaming`.
    complexity : str
        `linear` or `quadratic`: how time and memory grow with the length of a clip. A plugin in which every frame sees
        every other (attention over the whole clip) is quadratic.
    """

    config: dict[str, Any]
    not_inherited: ClassVar[tuple[str, ...]] = ()
    passes_to: ClassVar[type | None] = None
    plugin_kind: ClassVar[str] = ""
    plugin_name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    causal: bool = False
    streams: bool = False
    complexity: str = "linear"
    __signature__: ClassVar[inspect.Signature] = inspect.Signature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for old, new in compatibility.MEMBERS.items():
            if old in vars(cls) and new not in vars(cls) and hasattr(cls, new):
                compatibility.warn(f"{cls.__name__}.{old}", new)
                setattr(cls, new, vars(cls)[old])
        if "__init__" in vars(cls):
            cls.__signature__ = _with_inherited(cls)

    def built(self) -> None:
        """Called once when all constructors of an instance have run; a family may override it."""

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        """Arguments that build a small instance, for conformance checks and `avse recipe check`.

        Override it where the defaults are large or an argument has no default. The values may be plugins.
        """
        return {}

    @classmethod
    def example(cls) -> Plugin:
        """A small instance."""
        return cls(**cls.example_arguments())


def _with_inherited(cls: type) -> inspect.Signature:
    """The signature of a class, with arguments of its base class in place of its `*args` and `**common`."""
    _, *stated = inspect.signature(vars(cls)["__init__"], eval_str=False).parameters.values()
    kinds = {parameter.kind for parameter in stated}
    own = [parameter for parameter in stated if parameter.kind not in (_ARGS, _KEYWORDS)]
    base = vars(cls).get("passes_to") or next(base for base in cls.__mro__[1:] if "__init__" in vars(base))
    if _KEYWORDS not in kinds or not issubclass(base, Plugin):
        return inspect.Signature(stated)
    left_out = {parameter.name for parameter in own} | set(getattr(cls, "not_inherited", ()))
    for parameter in inspect.signature(base).parameters.values():
        if parameter.name not in left_out and parameter.kind is not _ARGS:
            by_name = parameter.kind is _POSITIONAL and _ARGS not in kinds
            own.append(parameter.replace(kind=_KEYWORD) if by_name else parameter)
    return inspect.Signature(sorted(own, key=lambda parameter: parameter.kind))

"""What every plugin of every kind has in common."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from typing import Any, ClassVar

from avse import compatibility


class PluginType(ABCMeta):
    """Type of all plugins: records the arguments of each instance, and lets a plugin inherit those of its family."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        bound = inspect.signature(cls).bind(*args, **kwargs)
        bound.apply_defaults()
        object.__setattr__(instance, "config", dict(bound.arguments))
        return instance


class Plugin(metaclass=PluginType):
    """Base of all contracts.

    A plugin is a class registered with `@register(kind, name)`. Its constructor takes keyword arguments with plain
    values (numbers, strings, booleans, lists) or other plugins, all of which a recipe can write.

    A plugin of a family states only its own arguments and passes the others on:

        def __init__(self, prior, noise_model, *, draws: int = 10, **common: Any) -> None:
            super().__init__(prior, noise_model, **common)

    Its signature, its recipe, `avse plugins` and the documentation then have those of the base class as well.

    Attributes
    ----------
    config : dict
        The arguments that the instance was built with, defaults included, by name.
    plugin_kind, plugin_name : str
        Set by `register`.
    paper : str
        Where the method comes from; empty where there is no paper.
    causal : bool
        True if no output looks at later input than its own frame. A plugin whose causality depends on its
        arguments sets it on the instance.
    complexity : str
        `linear` or `quadratic`: how time and memory grow with the length of a clip. A plugin in which every frame sees
        every other (attention over the whole clip) is quadratic.
    """

    config: dict[str, Any]
    plugin_kind: ClassVar[str] = ""
    plugin_name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    causal: bool = False
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
    """The signature of a class, with what its `**common` stands for: arguments of the next class that it may pass."""
    _, *own = inspect.signature(vars(cls)["__init__"], eval_str=False).parameters.values()
    passed_on = [one for one in own if one.kind is one.VAR_KEYWORD]
    if passed_on:
        own = [one for one in own if one.kind is not one.VAR_KEYWORD]
        names = {one.name for one in own}
        base = next((one for one in cls.__mro__[1:] if "__init__" in vars(one)), object)
        inherited = inspect.signature(base).parameters.values() if issubclass(base, Plugin) else passed_on
        own += [
            one.replace(kind=one.KEYWORD_ONLY) if one.kind is one.POSITIONAL_OR_KEYWORD else one
            for one in inherited
            if one.name not in names and one.kind is not one.VAR_POSITIONAL
        ]
    return inspect.Signature(own)

"""What every plugin of every kind has in common."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar


class Plugin(ABC):  # noqa: B024
    """Base of all contracts.

    A plugin is a class registered with `@register(kind, name)`. Its constructor takes keyword arguments with plain
    values (numbers, strings, booleans, lists) or other plugins, all of which a recipe can write.

    Attributes
    ----------
    plugin_kind, plugin_name : str
        Set by `register`.
    paper : str
        Where the method comes from; empty where there is no paper.
    causal : bool
        True if no output looks at later input than its own frame. A plugin whose causality depends on its
        arguments sets it on the instance.
    complexity : str
        `linear` or `quadratic`: how time and memory grow with the length of a clip. A plugin in which every step sees
        every other (attention over the whole clip) is quadratic.
    """

    plugin_kind: ClassVar[str] = ""
    plugin_name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    causal: bool = False
    complexity: str = "linear"

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

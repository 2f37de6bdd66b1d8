"""A plugin of kind my_kind for `avse`."""

from .my_plugin import MyPlugin

__all__ = ["MyPlugin"]

"""From a checked tree to objects, by HyperPyYAML."""

from __future__ import annotations

import io
import threading
from typing import Any

import ruamel.yaml
from ruamel.yaml.nodes import MappingNode, Node

from avse.errors import AvseError
from avse.recipe.rules import component, plugin_of
from avse.recipe.tree import TUPLE, Tree, children, dotted, know_tuples, tag, where

_BUILDING = threading.Lock()


def load_tree(tree: Tree, trusted_only: bool) -> dict[str, Any]:
    """Build a checked tree by HyperPyYAML."""
    import hyperpyyaml
    import yaml

    loader: Any = type("RecipeLoader", (_TrustedLoader if trusted_only else _Loader,), {"failed": None})
    defaults = (
        yaml.constructor.BaseConstructor.construct_object,
        ruamel.yaml.constructor.BaseConstructor.construct_object,
    )
    with _BUILDING:  # HyperPyYAML changes defaults of the YAML libraries while it works
        try:
            return hyperpyyaml.load_hyperpyyaml(io.StringIO(tree.dump()), loader=loader)
        except AvseError as error:
            raise AvseError(f"{_built_at(tree, loader.failed)}: {error}") from error
        except Exception as error:
            reason = ": ".join(str(argument) for argument in error.args) or str(error)
            name = "" if isinstance(error, ValueError) and reason else f"{type(error).__name__}: "
            raise AvseError(f"{_built_at(tree, loader.failed, reason)}: {name}{reason}") from error
        finally:
            for function in defaults:
                function.__defaults__ = (False,)
            know_tuples()


def _built_at(tree: Tree, failed: str | None, reason: str = "") -> str:
    """The place of what failed; where the reason begins with the name of a given argument, that of the argument."""
    places = []
    for path, node in tree.walk():
        if failed and tag(node) == failed:
            given = dict(children(node)) if isinstance(node, MappingNode) else {}
            named = reason.partition(" ")[0]
            path, node = ((*path, named), given[named]) if named in given else (path, node)
            places.append(f"{where(node)}: {dotted(path)}")
    if failed is None or not places:
        return tree.name
    return f"{' or '.join(places)}: building {failed.partition(':')[2]} failed"


class _Loader(ruamel.yaml.Loader):
    """Remembers the innermost tag whose construction failed."""

    failed: str | None

    def construct_object(self, node: Node, deep: bool = True) -> Any:
        try:
            return ruamel.yaml.constructor.BaseConstructor.construct_object(self, node, deep=deep)
        except Exception:
            if type(self).failed is None and component(node):
                type(self).failed = tag(node)
            raise


class _TrustedLoader(ruamel.yaml.SafeLoader):
    """Knows no tag but plugins: a second wall behind `check_trusted`."""

    failed: str | None
    construct_object = _Loader.construct_object

    @classmethod
    def add_constructor(cls, tag: str, constructor: Any) -> None:
        if tag == TUPLE:  # HyperPyYAML's own reads its text with a loader that can call anything
            constructor = _numbers
        super().add_constructor(tag, constructor)

    @classmethod
    def add_multi_constructor(cls, tag_prefix: str, multi_constructor: Any) -> None:
        def only_plugins(loader: Any, suffix: str, node: Node) -> Any:
            allowed = tag_prefix in ("!new:", "!name:") and plugin_of(suffix)
            if not allowed and not (tag_prefix == "!apply:" and suffix == "getattr"):
                raise AvseError(f"{tag_prefix}{suffix} is refused in a recipe from elsewhere.")
            return multi_constructor(loader, suffix, node)

        super().add_multi_constructor(tag_prefix, only_plugins)


def _numbers(loader: Any, node: Node) -> tuple[float, ...]:
    words = loader.construct_scalar(node).strip("()").split(",")
    return tuple(float(w) if any(c in w for c in ".eE") else int(w) for w in words if w.strip())

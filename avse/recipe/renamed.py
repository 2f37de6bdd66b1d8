"""Names of the last release in recipes and overrides, put right before anything is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node
from ruamel.yaml.tag import Tag

from avse import compatibility
from avse.recipe.rules import accepted_arguments, component, plugin_of
from avse.recipe.tree import Tree, where


def put_right(tree: Tree, quiet: bool = False) -> None:
    """Write today's names of plugins and arguments into a tree.

    Arguments
    ---------
    tree : Tree
        Changed in place.
    quiet : bool
        No warnings: of a model folder that an older version wrote.
    """
    for _, node in list(tree.walk()):
        _plugin(node, quiet)
        _arguments(node, quiet)


def override_name(name: str, value: Any, tree: Tree) -> tuple[str, Any]:
    """Today's name and value of an override: `fusion.doubt` and `posterior_sampling` of the last release."""
    parts = name.split(".")
    node = tree.find(tuple(parts[:-1])) if len(parts) > 1 else None
    called = component(node) if node is not None else None
    if called:
        parts[-1] = _argument(called[1], parts[-1], f"--{name}", quiet=False)
    node = tree.find(tuple(parts))
    called = component(node) if node is not None else None
    kind, _ = plugin_of(called[1]) or ("", "") if called else ("", "")
    new = compatibility.PLUGINS.get(kind, {}).get(value) if isinstance(value, str) else None
    if new:
        compatibility.warn(value, new, f"--{name}")
    return ".".join(parts), new or value


def _plugin(node: Node, quiet: bool) -> None:
    called = component(node)
    kind, name = plugin_of(called[1]) or ("", "") if called else ("", "")
    new = compatibility.PLUGINS.get(kind, {}).get(name)
    if called and new:
        if not quiet:
            compatibility.warn(name, new, where(node))
        node.ctag = Tag(suffix=f"{called[0]}avse.plugins.{kind}.{new}")


def _arguments(node: Node, quiet: bool) -> None:
    called = component(node)
    if called and isinstance(node, MappingNode):
        for key, _ in node.value:
            key.value = _argument(called[1], key.value, where(key), quiet)


def _argument(called: str, argument: str, place: str, quiet: bool) -> str:
    kind, _ = plugin_of(called) or ("", "")
    names: Mapping[str, str] = compatibility.ARGUMENTS.get(kind or called, {})
    new = names.get(argument)
    if new is None or new not in (accepted_arguments(called) or ()):
        return argument
    if not quiet:
        compatibility.warn(argument, new, place)
    return new

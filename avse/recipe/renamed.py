"""Names of the last release in recipes and overrides, put right before anything is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml.nodes import MappingNode, ScalarNode
from ruamel.yaml.tag import Tag

from avse import compatibility
from avse.recipe.rules import accepted_arguments, component, plugin_of
from avse.recipe.tree import Tree, references, where


def put_right(tree: Tree) -> None:
    """Write today's names of keys, components and arguments into a tree, in place."""
    _keys(tree)
    for _, node in list(tree.walk()):
        if not (called := component(node)):
            continue
        kind, name = plugin_of(called[1]) or ("", "")
        new = compatibility.PLUGINS.get(kind, {}).get(name)
        new_name = f"avse.plugins.{kind}.{new}" if new else compatibility.dotted_name(called[1])
        if new_name != called[1]:
            compatibility.warn(name or called[1], new or new_name, where(node))
            node.ctag = Tag(suffix=f"{called[0]}{new_name}")
        for key, _ in node.value if isinstance(node, MappingNode) else ():
            key.value = _argument(new_name, key.value, where(key))


def override_name(name: str, value: Any, tree: Tree) -> tuple[str, Any]:
    """Today's name and value of an override: `fusion.doubt` and `posterior_sampling` of the last release."""
    parts = name.split(".")
    new_key = compatibility.KEYS.get(parts[0], "").split(".")
    if tree.find((parts[0],)) is None and new_key[0] and tree.find((new_key[0],)) is not None:
        compatibility.warn(f"--{parts[0]}", f"--{'.'.join(new_key)}")
        parts = [*new_key, *parts[1:]]
    node = tree.find(tuple(parts[:-1])) if len(parts) > 1 else None
    called = component(node) if node is not None else None
    if called:
        parts[-1] = _argument(called[1], parts[-1], f"--{name}")
    node = tree.find(tuple(parts))
    called = component(node) if node is not None else None
    kind, _ = plugin_of(called[1]) or ("", "") if called else ("", "")
    new = compatibility.PLUGINS.get(kind, {}).get(value) if isinstance(value, str) else None
    if new:
        compatibility.warn(value, new, f"--{name}")
    return ".".join(parts), new or value


def _keys(tree: Tree) -> None:
    """Top-level keys that have another name, and what refers to them."""
    there = {key.value for key, _ in tree.root.value}
    for key, _ in tree.root.value:
        old, new = key.value, compatibility.KEYS.get(key.value, "")
        if not new or "." in new or new in there:
            continue
        compatibility.warn(old, new, where(key))
        key.value = new
        for _, node in tree.walk():
            if references(node) and isinstance(node, ScalarNode):
                node.value = re.sub(rf"<{re.escape(old)}(?=[\[.>])", f"<{new}", node.value)


def _argument(called: str, argument: str, place: str) -> str:
    kind, _ = plugin_of(called) or ("", "")
    names: Mapping[str, str] = compatibility.ARGUMENTS.get(kind or called, {})
    new = names.get(argument)
    if new is None or new not in (accepted_arguments(called) or ()):
        return argument
    compatibility.warn(argument, new, place)
    return new

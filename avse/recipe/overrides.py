"""Overrides of a recipe: `fusion=cross_attention`, `fusion.heads=4`, `epochs=5`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from avse import plugins
from avse.compatibility import SPEECHBRAIN
from avse.errors import AvseError
from avse.recipe.renamed import override_name
from avse.recipe.rules import accepted_arguments, locate, plugin_of
from avse.recipe.tree import Tree, child, children, dotted, parse_node, plain_type, set_child, tag, where, with_tag

_COMPONENT = re.compile(r"(!new:|!name:|!apply:)(.+)")


def apply_overrides(tree: Tree, overrides: Mapping[str, Any]) -> None:
    """Change a tree in place; one `AvseError` tells every override that fits nowhere.

    An override maps a key, dotted below a component, to its value: a string is read as YAML, other values are taken as
    they are. A name for a component replaces it and keeps the arguments that both take; its arguments are never merged
    with those of another class. Components are replaced before arguments are set.
    """

    def apply(key: str, given: Any) -> None:
        name, value = override_name(key, given, tree)
        _apply(tree, name.split("."), _value_node(name, value))

    _change_each(dict(_flatten("", overrides)), apply)


def extend(tree: Tree, more: Tree) -> None:
    """Add the keys of a recipe to what it includes, `tree`, in place; one `AvseError` tells all that fit nowhere.

    A new key is added. A key that is there already is read like an override: a name replaces a component and keeps the
    arguments that both take, a mapping without a tag sets arguments, and so does a dotted key.
    """

    def add(name: str, pair: tuple[Node, Node]) -> None:
        if "." not in name and child(tree.root, name) is None:
            tree.root.value.append(pair)
        else:
            _apply(tree, name.split("."), pair[1])

    _change_each({pair[0].value: pair for pair in more.root.value}, add)


def _change_each(changes: Mapping[str, Any], change: Callable[[str, Any], None]) -> None:
    """Make changes by dotted key, those of components before those of their arguments; tell all faults at once."""
    faults = []
    for key in sorted(changes, key=lambda key: key.count(".")):
        try:
            change(key, changes[key])
        except AvseError as error:
            faults.append(str(error))
    if faults:
        raise AvseError("\n".join(faults))


def _flatten(prefix: str, overrides: Mapping[str, Any]) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in overrides.items():
        flat += _flatten(f"{prefix}{key}.", value) if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return flat


def _value_node(key: str, value: Any) -> Node:
    option = f"--{key}"
    try:
        text = value if isinstance(value, str) else json.dumps(str(value) if isinstance(value, Path) else value)
    except TypeError:
        raise AvseError(f"{option}: {value!r} cannot be written in a recipe; give a number, text or list.") from None
    try:
        node = parse_node(text, option)
    except AvseError:
        # Text that is no YAML by itself ("a: b: c", "[x") is meant as text where a person typed it.
        node = parse_node(json.dumps(text), option)
    if node is None:  # nothing but blanks or a comment
        node = parse_node(json.dumps(text) if text.strip() else "null", option)
    assert node is not None
    return node


def _apply(tree: Tree, path: list[str], value: Node) -> None:
    option = f"--{dotted(path)}" if where(value).startswith("--") else f"{where(value)}: {dotted(path)}"
    trail: list[Node] = [tree.root]
    for depth, part in enumerate(path[:-1]):
        below = child(trail[-1], part)
        if below is None:
            raise AvseError(_no_such_key(option, path[: depth + 1], trail[-1]))
        if tag(below) in ("!ref", "!copy"):
            target = below.value.strip("<>")
            rest = "--" * option.startswith("--") + dotted([target, *path[depth + 1 :]])
            raise AvseError(f"{option}: {dotted(path[: depth + 1])} refers to <{target}>; give {rest} instead.")
        if not isinstance(below, MappingNode) and not _COMPONENT.match(tag(below)) and not children(below):
            raise AvseError(
                f"{option}: {dotted(path[: depth + 1])} ({where(below)}) is a plain value and holds no keys."
            )
        trail.append(below)
    parent, name = trail[-1], path[-1]
    old = child(parent, name)
    if old is None and (not _COMPONENT.match(tag(parent)) or isinstance(parent, SequenceNode)):
        raise AvseError(_no_such_key(option, path, parent))
    if old is not None and (match := _COMPONENT.match(tag(old))):
        if isinstance(value, ScalarNode) and (plain_type(value) == "str" or _names_plugin(match.group(2), value)):
            value = _replacement(option, old, match.group(1), match.group(2), value)
        elif plain_type(value) == "map":
            for argument, below in children(value):
                _apply(tree, [*path, argument], below)
            return
    made = set_child(parent, name, value)
    if made is not parent:  # a component that had no arguments
        _apply(tree, path[:-1], made)


def _names_plugin(name: str, value: ScalarNode) -> bool:
    """Whether what YAML takes for nothing is the name of a plugin: the corruption `null`."""
    plugin = plugin_of(name)
    return plugin is not None and value.value in plugins.names(plugin[0])


def _replacement(option: str, old: Node, prefix: str, old_name: str, value: ScalarNode) -> Node:
    """The component that a name stands for, with the arguments that both take."""
    if plugin := plugin_of(old_name):
        name = value.value.rpartition(".")[2].rpartition("/")[2]
        try:
            plugins.get(plugin[0], name)
        except AvseError as error:
            raise AvseError(f"{option}: {error}") from None
        new_name = f"avse.plugins.{plugin[0]}.{name}"
    else:
        new_name = value.value if "." in value.value else f"{old_name.rpartition('.')[0]}.{value.value}"
        if isinstance(found := locate(new_name), str):
            raise AvseError(f"{option}: {found}")
    takes = accepted_arguments(new_name)
    arguments = old.value if isinstance(old, MappingNode) else []
    kept = [(key, argument) for key, argument in arguments if takes is None or key.value in takes]
    made = with_tag(old, f"{prefix}{new_name}", kept)
    made.start_mark = value.start_mark
    return made


def _no_such_key(option: str, path: list[str], parent: Node) -> str:
    if here := SPEECHBRAIN.get(dotted(path)):
        return f"{option}: what recipes of SpeechBrain call {dotted(path)} is called {here} here: --{here} VALUE."
    names = [dotted((*path[:-1], name)) for name, _ in children(parent)]
    return f"{option}: {plugins.unknown('key', dotted(path), names)}"

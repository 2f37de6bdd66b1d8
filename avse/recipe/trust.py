"""What a recipe that came with a downloaded model may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ruamel.yaml.nodes import Node, ScalarNode

from avse.recipe.rules import component, locate, plugin_of
from avse.recipe.tree import (
    REFERENCE,
    STANDARD,
    TUPLE,
    Path_,
    Tree,
    children,
    dotted,
    plain_type,
    references,
    split_reference,
    tag,
    where,
)

_NUMBERS = re.compile(r"\(\s*[-+]?[\d.][\d.eE+-]*(\s*,\s*[-+]?[\d.][\d.eE+-]*)*\s*,?\s*\)")
_ARITHMETIC = re.compile(r"[\d.eE+\-*/% ]*")


def untrusted(tree: Tree) -> list[str]:
    """What a recipe from elsewhere must not hold: anything but registered plugins, plain values and references.

    HyperPyYAML calls whatever a tag names, reads `(...)` with a loader that can call anything as well, and computes
    powers of any size in a reference. So only what is known to be harmless passes.
    """
    anchored = list(_anchors(tree.root, set()))
    if anchored:  # before anything walks a tree that aliases can make as large as they like
        return [
            f"{where(node)}: anchors and aliases (&, *) are refused in a recipe from elsewhere." for node in anchored
        ]
    return [fault for path, node in tree.walk() for fault in _untrusted_node(tree, path, node)]


def unregistered(tree: Tree) -> list[str]:
    """`kind/name` of components that are written like plugins but are not registered."""
    if any(_anchors(tree.root, set())):  # aliases can make a tree as large as they like
        return []
    named = [plugin_of(called[1]) for _, node in tree.walk() if (called := component(node))]
    return [
        "/".join(plugin) for plugin in named if plugin and isinstance(locate("avse.plugins." + ".".join(plugin)), str)
    ]


def _anchors(node: Node, seen: set[int]) -> Iterator[Node]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.anchor:
        yield node
    for _, below in children(node):
        yield from _anchors(below, seen)


def _untrusted_node(tree: Tree, path: Path_, node: Node) -> Iterator[str]:
    place, own = f"{where(node)}: {dotted(path)}", tag(node)
    if path == ("plugins",):
        yield f"{place}: a recipe from elsewhere may not load plugins."
    if not re.fullmatch(r"[\w-]+", path[-1]):
        yield f"{place}: a key must be a word."
    called = component(node)
    if called:
        plugin = plugin_of(called[1])
        if called[0] not in ("!new:", "!name:") or plugin is None:
            yield f"{place}: {own} is refused: a recipe from elsewhere may only build registered plugins."
        elif isinstance(found := locate(called[1]), str):
            yield f"{place}: {found}"
    elif own in ("!ref", "!copy") and isinstance(node, ScalarNode):
        yield from _untrusted_reference(tree, place, node)
    elif own:
        yield f"{place}: the tag {own} is refused in a recipe from elsewhere."
    elif isinstance(node, ScalarNode):
        if str(node.tag).removeprefix(STANDARD) not in ("str", "int", "float", "bool", "null", TUPLE):
            yield f"{place}: a value of this type ({node.tag}) is refused in a recipe from elsewhere."
        if REFERENCE.search(node.value) or (node.value.startswith("(") and not _NUMBERS.fullmatch(node.value)):
            yield f"{place}: the text {node.value!r} is refused in a recipe from elsewhere."


def _untrusted_reference(tree: Tree, place: str, node: ScalarNode) -> Iterator[str]:
    text = node.value.strip()
    if any(split_reference(one)[1].startswith("_") for one in references(node)):
        yield f"{place}: {text} reaches for something private, which is refused in a recipe from elsewhere."
    if REFERENCE.fullmatch(text):
        return
    numbers = all(
        (target := tree.find(split_reference(one)[0])) is not None
        and not split_reference(one)[1]
        and (plain_type(target) in ("int", "float") or tag(target) == "!ref")
        for one in references(node)
    )
    if "**" in text or not numbers or not _ARITHMETIC.fullmatch(REFERENCE.sub("1", text)):
        yield f"{place}: {text} is refused: a recipe from elsewhere may only add, subtract, multiply and divide."

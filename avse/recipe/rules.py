"""The rules a recipe is held to before anything is built, each answered with file:line, key path and nearest name."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import pydoc
import re
import types
import typing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from avse import plugins
from avse.contracts.plugin import Plugin
from avse.errors import AvseError
from avse.recipe.tree import (
    REFERENCE,
    Path_,
    Tree,
    child,
    children,
    dotted,
    plain_type,
    references,
    split_reference,
    tag,
    where,
)

CALLS = ("!new:", "!name:", "!apply:", "!applyref:", "!module:")
_TAGS = (*CALLS, "!include:", "!ref", "!copy", "!PLACEHOLDER", "!tuple")
_PLUGIN = re.compile(r"avse\.plugins\.([A-Za-z_]+)\.([A-Za-z_0-9]+)")
_MEANT = {"yes": "true", "on": "true", "no": "false", "off": "false", "none": "null"}
_WORDS = {"bool": "true or false", "NoneType": "null", "int": "a whole number", "float": "a number", "str": "text"}
# By the type of a plain value: annotations that it fits.
_FITTING: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int, float, complex),
    "float": (float, complex),
    "bool": (bool,),
    "null": (type(None),),
}


def component(node: Node) -> tuple[str, str] | None:
    """Prefix and dotted name of a node that calls something (`!new:`, `!name:`, `!apply:`), or None."""
    own = tag(node)
    return next(((prefix, own[len(prefix) :]) for prefix in CALLS if own.startswith(prefix)), None)


def plugin_of(name: str) -> tuple[str, str] | None:
    """Kind and name of `avse.plugins.<kind>.<name>`, or None.

    >>> plugin_of("avse.plugins.fusion.concat"), plugin_of("torch.nn.Linear")
    (('fusion', 'concat'), None)
    """
    match = _PLUGIN.fullmatch(name)
    return (match.group(1), match.group(2)) if match else None


def locate(name: str) -> Any:
    """What a dotted name stands for; a string that says what is wrong, if there is no such thing.

    >>> locate("collections.Counter").__name__
    'Counter'
    >>> locate("collections.Countr")
    "collections has no 'Countr'. Did you mean 'Counter'?"
    """
    if name.startswith("avse.plugins."):
        plugin = plugin_of(name)
        if plugin is None:
            return f"a plugin is written avse.plugins.<kind>.<name>, not {name}."
        try:
            return plugins.get(*plugin)
        except AvseError as error:
            return str(error)
    try:
        found = pydoc.locate(name)
        if found is not None:
            return found
        parts = name.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            owner = pydoc.locate(".".join(parts[:cut]))
            if owner is not None:
                return f"{'.'.join(parts[:cut])} has no {parts[cut]!r}.{_guess(parts[cut], dir(owner))}"
    except pydoc.ErrorDuringImport as error:
        return f"importing {name} failed: {error}"
    return f"there is no module {name.split('.')[0]!r}."


def _guess(name: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def signature_of(name: str) -> inspect.Signature | None:
    """The signature of what a dotted name stands for; None where it has none to read."""
    found = locate(name)
    start = getattr(found, "__init__", None) if inspect.isclass(found) else None
    if getattr(start, "__module__", "") == "torch.nn.modules.module":
        return inspect.Signature()  # a module without its own `__init__` seems to take anything, and takes nothing
    try:
        return None if isinstance(found, str) else inspect.signature(found)
    except (TypeError, ValueError):
        return None


def accepted_arguments(name: str) -> list[str] | None:
    """Names of the arguments; None where anything is taken."""
    signature = signature_of(name)
    if signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return None
    return [p.name for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY)]


def find_faults(tree: Tree) -> list[str]:
    """Everything wrong with a recipe, missing placeholders apart, in the order of the file."""
    faults = [*_references(tree), *_cycles(tree)]
    if not faults:  # arguments are judged by what references lead to
        for path, node in tree.walk():
            faults += _one_node(tree, path, node)
    return faults


def placeholders(tree: Tree) -> list[tuple[Path_, Node]]:
    """Values that were left for the user to give."""
    return [(path, node) for path, node in tree.walk() if tag(node) == "!PLACEHOLDER"]


def resolve(tree: Tree, node: Node) -> Node | None:
    """The node that references lead to; None where it is not a node (an attribute, text, arithmetic)."""
    while tag(node) in ("!ref", "!copy"):
        if not REFERENCE.fullmatch(node.value.strip()):
            return None
        path, attribute = split_reference(node.value.strip()[1:-1])
        target = tree.find(path)
        if attribute or target is None:
            return None
        node = target
    return node


def _references(tree: Tree) -> Iterator[str]:
    for path, node in tree.walk():
        for reference in references(node):
            target, _ = split_reference(reference)
            known: Node = tree.root
            for depth, part in enumerate(target):
                below = child(known, part) if isinstance(known, MappingNode) else None
                if below is None:
                    names = [dotted((*target[:depth], name)) for name, _ in children(known)]
                    wrong = plugins.unknown("key", dotted(target[: depth + 1]), names)
                    yield f"{where(node)}: {dotted(path)} refers to <{reference}>. {wrong}"
                    break
                known = below


def _cycles(tree: Tree) -> list[str]:
    """Chains of references that lead back to where they began."""
    faults: list[str] = []
    done: set[int] = set()
    names = {id(tree.root): "", **{id(node): dotted(path) for path, node in tree.walk()}}

    def visit(node: Node, trail: list[Node]) -> None:
        if any(node is passed for passed in trail):
            loop = trail[[passed is node for passed in trail].index(True) :]
            links = [one for one in loop if references(one)] or loop
            chain = " -> ".join(f"{names[id(one)]} ({where(one)})" for one in links)
            faults.append(f"{where(links[0])}: references go round in a circle: {chain} -> {names[id(links[0])]}.")
            return
        if id(node) in done:
            return
        below = [value for _, value in children(node)]
        below += [t for r in references(node) if (t := tree.find(split_reference(r)[0])) is not None]
        for one in below:
            visit(one, [*trail, node])
        done.add(id(node))

    for _, node in children(tree.root):
        visit(node, [])
    return faults


def _one_node(tree: Tree, path: Path_, node: Node) -> Iterator[str]:
    place = f"{where(node)}: {dotted(path)}"
    own = tag(node)
    if called := component(node):
        yield from _call(tree, path, node, *called)
    elif own and not own.startswith(("tag:", *_TAGS)):
        yield f"{place}: {plugins.unknown('tag', own, _TAGS)}"
    parent = tree.find(path[:-1])
    if parent is None or parent is tree.root or not component(parent):
        yield from _word(place, node)


def _meant(node: Node) -> str | None:
    """What text such as `no`, `off` and `None` means, where it stands neither in quotes nor in a block."""
    return _MEANT.get(node.value.lower()) if plain_type(node) == "str" and not getattr(node, "style", None) else None


def _word(place: str, node: Node) -> Iterator[str]:
    if meant := _meant(node):
        yield f'{place}: {node.value} is text in YAML. Write {meant}; or "{node.value}" in quotes if the text is meant.'


def _call(tree: Tree, path: Path_, node: Node, prefix: str, name: str) -> Iterator[str]:
    place = f"{where(node)}: {dotted(path)}"
    if not name:
        yield f"{place}: the name must follow {prefix} without a space."
    elif isinstance(found := locate(name), str):
        yield f"{place}: {found}"
    elif prefix == "!new:" and not inspect.isclass(found):
        yield f"{place}: {name} is not a class; write !name: for a function, !apply: to call it."
    elif prefix == "!apply:" and not inspect.isroutine(found):
        yield f"{place}: {name} is not a function; write !new: for an object of a class."
    elif prefix not in ("!applyref:", "!module:") and (signature := signature_of(name)) is not None:
        title = "/".join(plugin_of(name) or (name,))
        given = yield from _arguments(path, node, title, signature, partial=prefix == "!name:")
        hints = _type_hints(found)
        for argument, value in given.items():
            yield from _value(tree, (*path, argument), value, title, hints.get(argument))


def _arguments(
    path: Path_, node: Node, title: str, signature: inspect.Signature, partial: bool
) -> Generator[str, None, dict[str, Node]]:
    """Faults of the names and the number of arguments; returns the arguments that the signature knows."""
    place, parameters = f"{where(node)}: {dotted(path)}", signature.parameters
    takes = f"It takes: {describe_arguments(signature)}."
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given: dict[str, Node] = {}
    if isinstance(node, MappingNode):
        for argument, value in children(node):
            if argument in named:
                given[argument] = value
            elif not anything:
                wrong = f"{where(value)}: {dotted((*path, argument))}: {title} takes no argument {argument!r}."
                yield f"{wrong}{_guess(argument, named)} {takes}"
    elif isinstance(node, SequenceNode):
        positional = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(node.value) > len(positional) and not any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
            yield f"{place}: {title} takes at most {len(positional)} arguments."
        given = dict(zip(positional, node.value))
    missing = [
        n
        for n, p in parameters.items()
        if p.default is p.empty and n not in given and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if missing and not partial:
        plural = "s" if len(missing) > 1 else ""
        yield f"{place}: {title} needs the argument{plural} {', '.join(missing)}. {takes}"
    return given


def _value(tree: Tree, path: Path_, node: Node, title: str, hint: Any) -> Iterator[str]:
    """Faults of one value against the type that the signature states."""
    target = resolve(tree, node)
    if target is None:
        return
    via = "" if target is node else f" (through {node.value.strip()} at {where(target)})"
    place = f"{where(node)}: {dotted(path)}{via}"
    kind, allowed = plain_type(target), _allowed(hint)
    if allowed is None:
        if target is node:
            yield from _word(place, target)
        return
    text = target.value if isinstance(target, ScalarNode) else kind
    called = component(target)
    if called and called[0] in ("!new:", "!name:"):
        cls = locate(called[1])
        if inspect.isclass(cls) and not _builds(called[0], cls, allowed):
            other = {"!new:": "!name:", "!name:": "!new:"}[called[0]]
            hint = f" Write {other}{called[1]}." if _builds(other, cls, allowed) else ""
            yield f"{place}: {title} wants {_wanted(allowed)} here, and {called[1]} is none.{hint}"
        return
    if kind not in _FITTING:
        return
    meant = _meant(target)
    plain = [cls for cls, by in allowed if by == "!new:"]
    if (meant in ("true", "false") and bool in plain) or (meant == "null" and type(None) in plain):
        quoted = f' (or "{text}" in quotes if the text is meant)' if str in plain else ""
        yield f"{place}: {text} is text in YAML. Write {meant}{quoted}."
    elif kind == "str" and text.lower() in ("true", "false") and bool in plain and str not in plain:
        yield f"{place}: {text!r} in quotes is text. Write {text.lower()}."
    elif not any(cls in _FITTING[kind] or (kind == "str" and issubclass(cls, PurePath)) for cls in plain):
        given = "nothing (null)" if kind == "null" else f"{text!r} ({_WORDS[kind]})"
        yield f"{place}: {title} wants {_wanted(allowed)} here, not {given}.{_as_plugin(text, allowed)}"


def _as_plugin(text: str, allowed: Sequence[tuple[type, str]]) -> str:
    """How a recipe writes the plugin that a text nearly names, where a plugin is wanted; empty if there is none."""
    for cls, by in sorted(allowed, key=lambda pair: pair[1] != "!name:"):  # what is built later gets its widths itself
        kind = next((kind for kind in plugins.KINDS if issubclass(cls, Plugin) and plugins.contract(kind) is cls), "")
        if near := difflib.get_close_matches(text.rpartition(".")[2], plugins.names(kind), n=1) if kind else []:
            return f" Write {by}avse.plugins.{kind}.{near[0]}."
    return ""


def _builds(prefix: str, cls: type, allowed: Sequence[tuple[type, str]]) -> bool:
    """Whether `!new:cls` or `!name:cls` is allowed."""
    return issubclass(cls, tuple(wanted for wanted, by in allowed if by == prefix))


def _allowed(hint: Any) -> list[tuple[type, str]] | None:
    """The classes that an annotation allows; None where it does not settle what a value may be.

    Each comes with what a recipe writes before it: `!name:` where the annotation is `Callable[..., cls]`, else `!new:`.
    """
    if hint is None:
        return None
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    allowed = []
    for one in options:
        if typing.get_origin(one) is Callable and inspect.isclass(typing.get_args(one)[-1]):
            allowed.append((typing.get_args(one)[-1], "!name:"))
        elif inspect.isclass(one) and typing.get_origin(one) is None and one is not object:
            allowed.append((one, "!new:"))
        else:
            return None
    return allowed


@functools.lru_cache(maxsize=512)
def _type_hints(found: Any) -> dict[str, Any]:
    bases = reversed(found.__mro__) if inspect.isclass(found) else ()
    hints: dict[str, Any] = {}
    for function in [vars(base)["__init__"] for base in bases if "__init__" in vars(base)] or [found]:
        with contextlib.suppress(Exception):  # an annotation that only a type checker can read
            hints.update(typing.get_type_hints(function))
    return hints


def _wanted(allowed: Sequence[tuple[type, str]]) -> str:
    names = dict.fromkeys(cls.__name__ for cls, _ in allowed)
    return " or ".join(_WORDS.get(name) or f"a {name}" for name in names)


def describe_arguments(signature: inspect.Signature) -> str:
    """Arguments as a recipe's author reads them.

    >>> describe_arguments(inspect.signature(lambda a, b=2, **more: None))
    'a, b=2, and any other'
    """
    words = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            words.append("and any other")
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
            words.append(f"{parameter.name}{default}")
    return ", ".join(words) or "no arguments"

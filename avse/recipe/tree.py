"""The YAML tree of a recipe, with the file and line of every node.

A recipe is read as ruamel nodes, before anything is built, so that mistakes can be told with their place; comments stay
with the nodes and come out again when the tree is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ruamel.yaml
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.tag import Tag

from avse.errors import AvseError

STANDARD = "tag:yaml.org,2002:"
TUPLE = "!tuple"
REFERENCE = re.compile(r"<[^>]*>")
Path_ = tuple[str, ...]


class Tree:
    """A recipe as nodes.

    Arguments
    ---------
    root : MappingNode
    name : str
        What messages call the file.

    Example
    -------
    >>> tree = Tree.parse("a: 1\\nb: {c: !ref <a>}\\n", "r.yaml")
    >>> node = tree.find(("b", "c"))
    >>> where(node), tag(node), node.value
    ('r.yaml:2', '!ref', '<a>')
    >>> print(tree.dump(), end="")
    a: 1
    b: {c: !ref <a>}
    """

    def __init__(self, root: MappingNode, name: str) -> None:
        self.root, self.name = root, name

    @classmethod
    def parse(cls, text: str, name: str) -> Tree:
        """Read YAML text; an `AvseError` tells syntax errors, keys given twice, and a text that has no keys."""
        root = parse_node(text, name)
        if root is None or not isinstance(root, MappingNode) or tag(root):
            raise AvseError(f"{name}: a recipe is a list of `key: value` lines, and this file is not.")
        faults = list(_expand(root, set()))
        if faults:
            raise AvseError("\n".join(faults))
        return cls(root, name)

    def find(self, path: Path_) -> Node | None:
        """The node at a path of keys (and indices of lists), or None."""
        node: Node | None = self.root
        for part in path:
            node = child(node, part)
        return node

    def walk(self) -> Iterator[tuple[Path_, Node]]:
        """Every node below the root with its path, parents first."""
        stack: list[tuple[Path_, Node]] = [((), self.root)]
        while stack:
            path, node = stack.pop()
            if path:
                yield path, node
            stack += [((*path, part), below) for part, below in reversed(children(node))]

    def dump(self) -> str:
        """The tree as YAML text, with its comments."""
        for comment in (self.root.comment or [None, None])[1] or []:
            comment.reset()  # ruamel writes a comment before a mapping only once
        stream = io.StringIO()
        _yaml().serialize(self.root, stream)
        return stream.getvalue()


def know_tuples() -> None:
    """Let plain text such as `(3, 4)` be a tuple, once.

    HyperPyYAML adds this rule to the YAML library anew at every load: without this, text would be read one way before
    the first load and another way after it.
    """
    rules: list[Any] = ruamel.yaml.resolver.implicit_resolvers
    first = next((rule for rule in rules if rule[1] == TUPLE), None)
    rules[:] = [rule for rule in rules if rule[1] != TUPLE]
    rules.append(first or ([(1, 2), (1, 1)], TUPLE, re.compile(r"^\(.*\)$"), "("))


know_tuples()

_INDENTED = "Check this line and the one above: keys of one mapping are indented alike, those below a key deeper."
_ADVICE = {
    "mapping values are not allowed": _INDENTED,
    "<block mapping start>": _INDENTED,
    "could not find expected ':'": "Check this line and the one above: a key is written `key: value`, with a space.",
    r"'\t'": "Indent with spaces, not with a tab.",
    "expected ',' or": "A bracket or brace is not closed, here or above.",
}


def parse_node(text: str, name: str) -> Node | None:
    """One YAML document as a node; None if it is empty. An `AvseError` tells a syntax error with its line."""
    stream = io.StringIO(text)
    stream.name = name
    try:
        return _yaml().compose(stream)
    except ruamel.yaml.error.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        context = f" ({error.context})" if error.context else ""
        advice = next((f" {advice}" for said, advice in _ADVICE.items() if said in error.problem), "")
        raise AvseError(f"{name}{line}: this is not valid YAML: {error.problem}{context}.{advice}") from error
    except (ruamel.yaml.error.YAMLError, RecursionError) as error:
        raise AvseError(f"{name}: this is not valid YAML: {str(error) or type(error).__name__}.") from error


def read_text(path: str | Path) -> str:
    """The text of a recipe file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise AvseError(f"{path}: cannot read the recipe ({reason}).") from error


def tag(node: Node) -> str:
    """A node's own tag (`!new:...`, `!ref`); empty for plain YAML."""
    name = str(node.tag or "")
    return "" if name == TUPLE or name.startswith(STANDARD) and "python" not in name else name


def plain_type(node: Node) -> str:
    """What a plain node is: `str`, `int`, `float`, `bool`, `null`, `map`, `seq`, `tuple`; empty for a tagged one."""
    if tag(node):
        return ""
    return str(node.tag).removeprefix(STANDARD).removeprefix("!")


def children(node: Node) -> list[tuple[str, Node]]:
    """Names and nodes below a node; elements of a list are named by their index."""
    if isinstance(node, MappingNode):
        return [(str(key.value), value) for key, value in node.value]
    if isinstance(node, SequenceNode):
        return [(str(index), value) for index, value in enumerate(node.value)]
    return []


def child(node: Node | None, part: str) -> Node | None:
    """The node of that name or index below a node, or None."""
    return None if node is None else dict(children(node)).get(part)


def where(node: Node) -> str:
    """`file:line` of a node, or the command-line option it came from."""
    name = node.start_mark.name
    return name if name.startswith("--") else f"{name}:{node.start_mark.line + 1}"


def dotted(path: Sequence[str]) -> str:
    """A path as the command line writes it.

    >>> dotted(("model", "fusion", "heads"))
    'model.fusion.heads'
    """
    return ".".join(path)


def refuse(title: str, faults: Sequence[str]) -> None:
    """Raise one `AvseError` for all faults of a file, if there are any."""
    if faults:
        raise AvseError("\n  ".join([f"{title}:", *faults]))


def references(node: Node) -> list[str]:
    """What a `!ref` or `!copy` node refers to, without the brackets; empty for other nodes."""
    if tag(node) in ("!ref", "!copy") and isinstance(node, ScalarNode):
        return [match[1:-1] for match in REFERENCE.findall(node.value)]
    return []


def split_reference(reference: str) -> tuple[Path_, str]:
    """`a[b].c` as the path ("a", "b") and the attribute "c".

    >>> split_reference("fusion[heads]"), split_reference("frontend.output_dim")
    ((('fusion', 'heads'), ''), (('frontend',), 'output_dim'))
    """
    key, _, attribute = reference.partition(".")
    return tuple(part.strip("]") for part in key.split("[")), attribute


def as_text(node: Node | None) -> str:
    """A node as one line of YAML."""
    if node is None:
        return ""
    if isinstance(node, ScalarNode):
        own = tag(node)
        return f"{own} {node.value}".strip() if own else node.value
    inner = [as_text(v) for _, v in children(node)]
    if isinstance(node, SequenceNode):
        body = f"[{', '.join(inner)}]"
    else:
        body = "{" + ", ".join(f"{k}: {v}" for (k, _), v in zip(children(node), inner)) + "}"
    return f"{tag(node)} {body}".strip()


def set_child(parent: Node, part: str, value: Node) -> Node:
    """Put a node below a parent, in place of what was there; returns the parent, made anew if it had no arguments."""
    if isinstance(parent, ScalarNode):
        parent = MappingNode(parent.ctag, [], parent.start_mark, parent.end_mark, comment=parent.comment)
    for index, (name, old) in enumerate(children(parent)):
        if name == part:
            keep_comment(old, value)
            if isinstance(parent, MappingNode):
                parent.value[index] = (parent.value[index][0], value)
            else:
                parent.value[index] = value
            return parent
    key = ScalarNode(Tag(suffix=f"{STANDARD}str"), part, value.start_mark, value.start_mark)
    if parent.value:
        keep_comment(parent, value)
    parent.value.append((key, value))
    return parent


def with_tag(node: Node, name: str, pairs: list[tuple[Node, Node]]) -> Node:
    """A component: a mapping with a tag, or a bare tag where there are no arguments; it takes the place of `node`."""
    new_tag = Tag(suffix=name)
    made: Node
    if pairs:
        flow = node.flow_style if isinstance(node, MappingNode) else None
        made = MappingNode(new_tag, list(pairs), node.start_mark, node.end_mark, flow_style=flow)
    else:
        made = ScalarNode(new_tag, "", node.start_mark, node.end_mark)
    keep_comment(node, made)
    return made


def keep_comment(old: Node, new: Node) -> None:
    """Move the comment that follows a node to the node that takes its place."""
    last, heir = _last_leaf(old), _last_leaf(new)
    if heir is not last:
        heir.comment, last.comment = last.comment or heir.comment, None


def copy_node(node: Node) -> Node:
    """A deep copy without comments and anchors."""
    if isinstance(node, ScalarNode):
        return ScalarNode(node.ctag, node.value, node.start_mark, node.end_mark, style=node.style)
    cls: Any = type(node)
    value = [tuple(map(copy_node, v)) if isinstance(v, tuple) else copy_node(v) for v in node.value]
    return cls(node.ctag, value, node.start_mark, node.end_mark, flow_style=getattr(node, "flow_style", None))


def _last_leaf(node: Node) -> Node:
    below = children(node)
    return _last_leaf(below[-1][1]) if below else node


def _expand(node: Node, done: set[int], trail: tuple[int, ...] = ()) -> Iterator[str]:
    """Write merge keys (`<<`) out; yield a fault for every key given twice, or that is no text."""
    if id(node) in trail:
        raise AvseError(f"{where(node)}: the alias *{node.anchor} stands inside of what it names.")
    if id(node) in done:
        return
    if isinstance(node, MappingNode):
        pairs: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if str(key.tag) == f"{STANDARD}merge":
                merged += value.value if isinstance(value, SequenceNode) else [value]
            elif not isinstance(key, ScalarNode):
                yield f"{where(key)}: a key must be a word."
            elif key.value in pairs:
                first = where(pairs[key.value][0])
                yield f"{where(key)}: the key {key.value!r} is given twice (first at {first})."
            else:
                pairs[key.value] = (key, value)
                if str(value.tag) == f"{STANDARD}null" and not value.value:
                    value.start_mark = key.end_mark  # an empty value is marked where the next thing begins
        for source in merged:
            if not isinstance(source, MappingNode):
                yield f"{where(source)}: only keys and values can be merged (<<)."
                continue
            yield from _expand(source, done, (*trail, id(node)))
            for key, value in source.value:
                pairs.setdefault(key.value, (key, value))
        node.value = list(pairs.values())
    for _, below in children(node):
        yield from _expand(below, done, (*trail, id(node)))
    done.add(id(node))


def _yaml() -> ruamel.yaml.YAML:
    yaml = ruamel.yaml.YAML()
    yaml.width = 1_000_000
    yaml.preserve_quotes = True
    yaml.indent(mapping=4, sequence=4, offset=2)
    return yaml

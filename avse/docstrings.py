"""Reads docstrings with underlined sections, those of a class together with those of its bases."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

SECTION = re.compile(r"^([A-Z][\w -]*)\n-{3,}\n", re.MULTILINE)
_HEAD = re.compile(r"^(\w[\w, ]*?) *:(?: +(.*))?$")


@dataclass
class Docstring:
    """A docstring in parts.

    Arguments
    ---------
    text : str
        What stands outside of sections: paragraphs in Markdown.
    arguments : dict of (str, str) by name
        Type and meaning.
    example : str
        Lines of a Python session.

    Example
    -------
    >>> read = read_docstring("Blurs.\\n\\nArguments\\n---------\\nsize, hop : int\\n    In samples.\\n\\nShapes stay.")
    >>> read.text, read.arguments["hop"]
    ('Blurs.\\n\\nShapes stay.', ('int', 'In samples.'))
    """

    text: str = ""
    arguments: dict[str, tuple[str, str]] = field(default_factory=dict)
    example: str = ""

    @property
    def summary(self) -> str:
        """The first paragraph, in one line."""
        return " ".join(self.text.partition("\n\n")[0].split())


def docstring_of(found: Any) -> Docstring:
    """The docstring of a class or module; empty where it has none of its own."""
    return read_docstring(inspect.getdoc(found) or "" if found.__doc__ else "")


def read_docstring(text: str) -> Docstring:
    """Take a docstring with underlined sections apart."""
    read = Docstring()
    pieces = re.split(SECTION, text)
    prose = [pieces[0].strip()]
    for title, body in zip(pieces[1::2], pieces[2::2]):
        if title == "Example":
            read.example = body.strip()
        elif title in ("Arguments", "Attributes"):
            prose.append(read_entries(body, read.arguments if title == "Arguments" else {}))
    read.text = "\n\n".join(part for part in prose if part)
    return read


def read_entries(body: str, into: dict[str, tuple[str, str]]) -> str:
    """Put the entries of a section into a dictionary; return the prose that follows them."""
    lines = body.strip("\n").split("\n")
    while lines:
        head = _HEAD.match(lines[0])
        if head is None:
            break
        lines.pop(0)
        meaning = []
        while lines and (not lines[0].strip() or lines[0].startswith(" ")):
            meaning.append(lines.pop(0).strip())
        for name in head[1].split(","):
            into[name.strip()] = ((head[2] or "").strip(), " ".join(" ".join(meaning).split()))
    return "\n".join(lines).strip()


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor, as its class or one of its bases documents it.

    `default` is `inspect.Parameter.empty` where it must be given.
    """

    name: str
    type: str
    default: Any
    meaning: str


def described_by(cls: type) -> list[type]:
    """The classes whose docstrings describe a class's arguments, the class itself last: also `Plugin.passes_to`."""
    parts = [part for base in cls.__mro__ if (part := vars(base).get("passes_to"))]
    return [*parts, *reversed(cls.__mro__)]


def arguments_of(cls: type) -> list[Argument]:
    """The arguments of a class's constructor; what a base takes is described where the base describes it.

    Example
    -------
    >>> class Base:
    ...     '''Arguments
    ...     ---------
    ...     rank : int
    ...         Columns.
    ...     '''
    >>> class Family(Base):
    ...     def __init__(self, rank=3): ...
    >>> arguments_of(Family)
    [Argument(name='rank', type='int', default=3, meaning='Columns.')]
    """
    described: dict[str, tuple[str, str]] = {}
    for base in described_by(cls):
        for name, (kind, meaning) in docstring_of(base).arguments.items():
            described[name] = (kind, meaning or described.get(name, ("", ""))[1])
    arguments = []
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            kind, meaning = described.get(parameter.name, ("", ""))
            if not kind and parameter.annotation is not parameter.empty:
                kind = inspect.formatannotation(parameter.annotation).strip("'")
            arguments.append(Argument(parameter.name, kind, parameter.default, meaning))
    return arguments


def whole_docstring(cls: type) -> str:
    """A class's docstring whose section `Arguments` holds those of its bases as well."""
    text = inspect.getdoc(cls) or "" if cls.__doc__ else ""
    arguments = arguments_of(cls)
    if not arguments:
        return text
    parts = ["Arguments\n---------"]
    for argument in arguments:
        meaning = textwrap.fill(argument.meaning, 120, initial_indent="    ", subsequent_indent="    ")
        parts[0] += f"\n{argument.name} : {argument.type}\n{meaning}".rstrip()
    pieces = re.split(SECTION, text)
    for title, body in zip(pieces[1::2], pieces[2::2]):
        if title == "Arguments":
            parts.insert(1, read_entries(body, {}))
        else:
            parts.append(f"{title}\n{'-' * len(title)}\n{body.strip()}")
    return "\n\n".join(part for part in [pieces[0].strip(), *parts] if part)

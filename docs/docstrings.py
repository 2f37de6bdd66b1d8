"""Reads the docstrings of plugins, and gives them back as Markdown."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

_SECTION = re.compile(r"^([A-Z][\w -]*)\n-{3,}\n", re.MULTILINE)
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
    attributes : dict of (str, str) by name
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
    attributes: dict[str, tuple[str, str]] = field(default_factory=dict)
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
    pieces = re.split(_SECTION, text)
    prose = [pieces[0].strip()]
    for title, body in zip(pieces[1::2], pieces[2::2]):
        if title == "Example":
            read.example = body.strip()
        elif title in ("Arguments", "Attributes"):
            prose.append(_entries(body, read.arguments if title == "Arguments" else read.attributes))
    read.text = "\n\n".join(part for part in prose if part)
    return read


def _entries(body: str, into: dict[str, tuple[str, str]]) -> str:
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


def markdown(text: str) -> str:
    """Text of a docstring as Markdown: what is not code keeps its signs.

    >>> markdown("a * b < `c * d`")
    'a \\\\* b &lt; `c * d`'
    """
    # Code is what stands between single quotes, and indented lines.
    parts = re.split(r"(`[^`]*`|^ {4}.*$)", text, flags=re.MULTILINE)
    return "".join(part if part.startswith(("`", "    ")) else _escaped(part) for part in parts)


def cell(text: str) -> str:
    """Text of a docstring in a cell of a table."""
    return markdown(" ".join(text.split())).replace("|", "\\|")


def code(value: Any) -> str:
    """A value as code in a cell of a table."""
    return f"`{value}`".replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("<", "&lt;").replace("$", "\\$")


def move_prose(lines: list[str]) -> None:
    """Put prose that follows the arguments of a docstring before them, in place: elsewhere it reads as an argument."""
    pieces = re.split(_SECTION, "\n".join(lines))
    prose, sections = [pieces[0].rstrip()], []
    for title, body in zip(pieces[1::2], pieces[2::2]):
        rest = _entries(body, {}) if title in ("Arguments", "Attributes") else ""
        prose.append(rest)
        kept = body.replace(rest, "").strip("\n")
        sections.append(f"{title}\n{'-' * len(title)}\n{kept}")
    lines[:] = "\n\n".join(part for part in [*prose, *sections] if part).split("\n")


def escape_bars(lines: list[str]) -> None:
    """Escape `|` outside code in reStructuredText, in place: `|x|^2` is no substitution."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        lines[number] = "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)

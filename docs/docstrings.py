"""Gives docstrings back as Markdown."""

from __future__ import annotations

import re
from typing import Any

from avse.docstrings import SECTION, read_entries


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
    pieces = re.split(SECTION, "\n".join(lines))
    prose, sections = [pieces[0].rstrip()], []
    for title, body in zip(pieces[1::2], pieces[2::2]):
        rest = read_entries(body, {}) if title in ("Arguments", "Attributes") else ""
        prose.append(rest)
        kept = body.replace(rest, "").strip("\n")
        sections.append(f"{title}\n{'-' * len(title)}\n{kept}")
    lines[:] = "\n\n".join(part for part in [*prose, *sections] if part).split("\n")


def escape_bars(lines: list[str]) -> None:
    """Escape `|` outside code in reStructuredText, in place: `|x|^2` is no substitution."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        lines[number] = "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)

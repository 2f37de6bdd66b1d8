"""The progress bar of datasets that prepare a corpus."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def tracked(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """The items, with a bar on stderr, if that is a terminal, removed at the end."""
    from rich.console import Console
    from rich.progress import track

    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    return track(items, description, total=total, console=console, transient=True, disable=hidden)

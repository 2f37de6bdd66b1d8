"""How long jobs tell how far they are: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

EVERY = 30.0  # seconds between the lines of a job without a terminal


class RateColumn(ProgressColumn):
    """Steps a second: files, clips, or seconds of audio."""

    def render(self, task: Task) -> Text:
        """Empty until a rate is known.

        >>> from rich.progress import Progress
        >>> progress = Progress(disable=True)
        >>> _ = progress.add_task("Enhancing")
        >>> str(RateColumn().render(progress.tasks[0]))
        ''
        """
        return Text("" if not task.speed else f"{task.speed:.3g}/s")


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Give the function that tells on stderr how many steps of how many are done: `show(done, total)`.

    On a terminal it moves a bar, which is removed at the end; else it writes a line each 30 seconds, so that short jobs
    write none.
    """
    if not sys.stderr.isatty():
        yield _lines(label)
        return
    columns = (*Progress.get_default_columns(), RateColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _lines(label: str) -> Callable[[int, int], None]:
    first = told = time.monotonic()
    before: int | None = None  # steps that were done when the first was told: by an earlier run

    def show(done: int, total: int) -> None:
        nonlocal told, before
        now = time.monotonic()
        before = done - 1 if before is None else before
        if now - told >= EVERY and done > before:
            told, rate = now, (done - before) / (now - first)
            left = (total - done) / rate / 60
            print(f"{label}: {done} of {total}, {rate:.3g}/s, {left:.0f} minutes left", file=sys.stderr, flush=True)

    return show

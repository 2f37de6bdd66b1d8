"""What the progress bars of several verbs share."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text


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

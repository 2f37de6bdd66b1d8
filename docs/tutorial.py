"""What the hidden cells of a tutorial call: the first goes to an empty folder, the others check what the page says.

A tutorial tells its reader what he sees. So that it stays true, a hidden cell after each output that the text speaks
of names it: `printed("12 of 12 passed")`, or `claim(gain > 1.0, "the system gains")`. One that does not hold stops the
build, with the page and the line.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent


class ClaimBroken(AssertionError):
    """A page says what is not so; the message names the line."""


class Page:
    """Where the run of a page is, and what its last command printed.

    Arguments
    ---------
    path : Path
        The page's source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.output = ""
        self._text = path.read_text(encoding="utf-8")
        self._offset = 0

    def follow(self, cell: str) -> None:
        """Note that a cell is run: found behind the one before it."""
        found = self._text.find(cell.strip(), self._offset)
        self._offset = found if found >= 0 else self._offset

    @property
    def place(self) -> str:
        """`page:line` of the cell that is run."""
        return f"{self.path.parent.name}/{self.path.name}:{self._text.count(chr(10), 0, self._offset) + 1}"

    def run(self, script: str) -> str:
        """Run a script in bash and return what it printed.

        Raises
        ------
        RuntimeError
            If one of its commands fails.
        """
        plain = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}  # which Jupyter sets
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], capture_output=True, text=True, env=plain)
        self.output = (done.stdout + done.stderr).strip("\n")
        if done.returncode:
            raise RuntimeError(f"{self.place}: exit status {done.returncode}\n{self.output}")
        return self.output

    def claim(self, holds: object, text: str) -> None:
        """Stop unless what the page says is so.

        Raises
        ------
        ClaimBroken
        """
        if not bool(holds):
            raise ClaimBroken(f"{self.place}: the page says what is no longer so: {text}")

    def printed(self, *patterns: str) -> None:
        """Stop unless the last command printed a match of each regular expression.

        Runs of spaces count as one, and where that finds nothing, so do line breaks: tables wrap their cells.

        Raises
        ------
        ClaimBroken
        """
        shown = re.sub(r"[ \t]+", " ", self.output)
        flat = " ".join(shown.split())
        for pattern in patterns:
            if not (re.search(pattern, shown, re.MULTILINE) or re.search(pattern, flat)):
                raise ClaimBroken(f"{self.place}: the page speaks of {pattern!r}, but the command printed\n{shown}")


def start(name: str) -> Page:
    """Go to an empty folder with the recipes in it; make `%%bash` print its output in one piece and stop at errors.

    Arguments
    ---------
    name : str
        Of the page, without `.md`.

    Returns
    -------
    Page
        Its `claim` and `printed` check what the page says.
    """
    from IPython import get_ipython
    from IPython.core.magic import register_cell_magic

    page = Page(DOCS / f"{name}.md")
    os.chdir(tempfile.mkdtemp())
    os.symlink(DOCS.parent / "recipes", "recipes")
    get_ipython().events.register("pre_run_cell", lambda info: page.follow(info.raw_cell))

    @register_cell_magic
    def bash(line: str, cell: str) -> None:
        print(page.run(cell))

    return page

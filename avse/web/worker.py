"""The process that does the work of the page, so that it can be stopped at any time, with all that is half-done."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import signal
import tempfile
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse import plugins

if TYPE_CHECKING:
    from avse.web.jobs import Outcome, Room, Tell

_FAULT = "something went wrong here. Whoever runs this page can tell why."
_DIED = "the process that worked on it has ended. Most often memory was short."


class Worker:
    """Does one thing after another in a process of its own.

    Arguments
    ---------
    room : Room
        Where.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._process: Any = None
        self._pipe: Connection
        self._visitor: str | None = None

    async def run(self, visitor: str, method: str, source: Path, model: str, tell: Tell, **options: Any) -> Outcome:
        """What a method of the room makes of a file; a cancelled call ends the process, and leaves no file.

        Arguments
        ---------
        visitor : str
            For whom: see `leave`.
        method, source, model, tell, options :
            `enhance` or `separate`, and its arguments.
        """
        from avse.web.jobs import Outcome

        if self._process is None or not self._process.is_alive():
            self._start()
        pipe, self._visitor, outcome = self._pipe, visitor, None
        try:
            pipe.send((method, source, model, options))
            while isinstance(told := await asyncio.to_thread(pipe.recv), tuple):
                tell(*told)
            outcome = Outcome(source.name, f"{source.name}: {_FAULT}") if told is None else told
        except (EOFError, OSError):
            return Outcome(source.name, f"{source.name}: {_DIED}")
        finally:
            self._visitor = None
            if outcome is None:
                await asyncio.to_thread(self.end)
        return outcome

    def leave(self, visitor: str | None) -> None:
        """End the work for this visitor, if it is done now."""
        if visitor is not None and visitor == self._visitor:
            self._process.kill()

    def end(self) -> None:
        """End the process, and remove what it has not finished. The next work starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        for path in self._room.unfinished.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        files = plugins.loaded_files()
        self._process = context.Process(target=_serve, args=(theirs, files, self._room.made_by), daemon=True)
        self._process.start()
        theirs.close()  # so that it is closed when the process ends


def _serve(pipe: Connection, plugin_files: list[Path], arguments: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    from avse.web.jobs import Room

    for path in plugin_files:
        plugins.load_path(path)
    room = Room(**arguments)
    tempfile.tempdir = str(room.unfinished)
    try:
        while True:
            method, source, model, options = pipe.recv()
            try:
                outcome = getattr(room, method)(source, model, lambda *told: pipe.send(told), **options)
            except Exception:  # a fault of this program: whoever runs it sees it
                traceback.print_exc()
                outcome = None
            pipe.send(outcome)
    except (EOFError, BrokenPipeError):  # the parent has ended
        return

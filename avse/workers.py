"""The one pool of processes: tasks in this process's children, with the machine's threads shared out among them."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avse import plugins
from avse.errors import AvseError
from avse.files import end_by_exception, note_temporary_files, remove_noted

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_DIED = "Most often memory was short: run the same command again with fewer --jobs."
_worker: Callable[[Any], Any] | None = None
_folder = Path()


def run_all(
    make: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any], tasks: Sequence[Any], jobs: int
) -> Iterator[tuple[Any, Any]]:
    """Tasks and their results as they are done, in any order.

    Arguments
    ---------
    make : callable
        `make(*arguments)`, called once in each process, gives the function that does a task. All can be pickled.
    arguments, tasks : sequence
    jobs : int
        Processes; each gets its share of the cores.

    Yields
    ------
    task, result
        The result is an `AvseError` where the task raised one, or where its process died: the others go on without it.

    Raises
    ------
    AvseError
        If the arguments cannot be given to other processes. An exception here, such as Ctrl-C, ends the processes by an
        exception, so that what is half-written is removed.
    """

    try:
        pickle.dumps(arguments)
    except Exception as error:
        raise AvseError(
            f"This loaded model cannot be sent to other processes ({error}). Give its name or folder, or jobs=1."
        ) from None
    with tempfile.TemporaryDirectory(prefix="avse-workers-") as folder:
        waiting = dict(enumerate(tasks))
        while waiting:
            for number, result in _run_pool(make, arguments, waiting, min(jobs, len(waiting)), Path(folder)):
                yield waiting.pop(number), result


def _run_pool(
    make: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any], tasks: dict[int, Any], jobs: int, folder: Path
) -> Iterator[tuple[int, Any]]:
    """Numbers of tasks and their results; if a process dies, an error for its task, and no more for the others.

    Processes note in the folder what they work on, and the temporary files that they write.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    threads = threads_per_job(jobs)
    start = threads, plugins.loaded_files(), make, tuple(arguments), folder
    with _limited_threads(threads):
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start, initargs=start)
        try:
            futures = {pool.submit(_work, number, task): number for number, task in list(tasks.items())}
            processes, is_broken = dict(pool._processes or {}), False
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except AvseError as error:
                    yield futures[future], error
                except BrokenProcessPool:
                    is_broken = True
            if is_broken:
                pool.shutdown(wait=True)
                # The pool has ended the others, by SIGTERM.
                codes = {pid: process.exitcode or 0 for pid, process in processes.items()}
                killed = [pid for pid, code in codes.items() if code < 0 and code != -signal.SIGTERM]
                begun = {int(path.read_text()) for pid in killed if (path := folder / f"{pid}.task").is_file()}
                if not begun & tasks.keys():
                    raise AvseError(f"A process died. {_DIED}")
                for number in begun & tasks.keys():
                    yield number, AvseError(f"{_name(tasks[number])}: its process died. {_DIED}")
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            remove_noted(folder)


def threads_per_job(jobs: int) -> int:
    """Threads for each of several processes so that together they fill the machine's cores and no more."""
    return max(1, cores() // jobs)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Child processes read these variables when they import their libraries."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name in _THREADS:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _start(
    threads: int, plugin_files: list[Path], make: Callable[..., Any], arguments: tuple[Any, ...], folder: Path
) -> None:
    from functools import partial

    import torch

    global _worker, _folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    end_by_exception()
    note_temporary_files(folder)
    torch.set_num_threads(threads)
    for path in plugin_files:
        plugins.load_path(path)
    _worker, _folder = partial(_first, make, arguments), folder


def _first(make: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...], task: Any) -> Any:
    """Make what does the tasks when the first comes, so that its errors are those of this task."""
    global _worker
    _worker = make(*arguments)
    return _worker(task)


def _work(number: int, task: Any) -> Any:
    (_folder / f"{os.getpid()}.task").write_text(str(number))
    try:
        return _worker(task) if _worker is not None else None
    except SystemExit:
        os._exit(1)  # the pool's own loop would go on with the next task


def _name(task: Any) -> str:
    """What a message calls a task: its file or its id."""
    while isinstance(task, (tuple, list)) and task:
        task = task[0]
    return str(getattr(task, "id", task))

"""The one pool of processes: tasks in this process's children, with the machine's threads shared out among them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avse import plugins
from avse.errors import AvseError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_worker: Callable[[Any], Any] | None = None


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
        The result is an `AvseError` where the task raised one.

    Raises
    ------
    AvseError
        If the arguments cannot be given to other processes, or one of these dies. An exception here, such as Ctrl-C,
        ends the processes by an exception, so that what is half-written is removed.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    try:
        pickle.dumps(arguments)
    except Exception as error:
        raise AvseError(
            f"This loaded model cannot be sent to other processes ({error}). Give its name or folder, or jobs=1."
        ) from None
    jobs = min(jobs, len(tasks))
    threads = threads_per_job(jobs)
    start = threads, plugins.loaded_files(), make, tuple(arguments)
    with _limited_threads(threads):
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start, initargs=start)
        try:
            futures = {pool.submit(_work, task): task for task in tasks}
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except AvseError as error:
                    yield futures[future], error
        except BrokenProcessPool:
            raise AvseError(
                "A process died, most often for lack of memory. What is done is kept: run the same command again with "
                "fewer --jobs."
            ) from None
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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


def _start(threads: int, plugin_files: list[Path], make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import signal
    import sys
    from functools import partial

    import torch

    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    torch.set_num_threads(threads)
    for path in plugin_files:
        plugins.load_path(path)
    _worker = partial(_first, make, arguments)


def _first(make: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...], task: Any) -> Any:
    """Make what does the tasks when the first comes, so that its errors are those of this task."""
    global _worker
    _worker = make(*arguments)
    return _worker(task)


def _work(task: Any) -> Any:
    try:
        return _worker(task) if _worker is not None else None
    except SystemExit:
        os._exit(1)  # the pool's own loop would go on with the next task

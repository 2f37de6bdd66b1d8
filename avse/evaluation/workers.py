"""A `Scorer` in this process or in several, with threads shared out among them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from avse import plugins
from avse.errors import AvseError
from avse.evaluation.scoring import Item, Row, Scorer, Task, film_of

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_scorer: Scorer | None = None


def score_all(task: Task, items: Sequence[Item], jobs: int) -> Iterator[Row]:
    """Rows as they are done, in any order where there are several jobs.

    Raises
    ------
    AvseError
        If the model cannot be given to other processes, or one of these dies.
    """
    groups = _by_video(items)
    if jobs == 1 or len(groups) < 2:
        scorer = Scorer(task)
        for group in groups:
            yield from scorer(group)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    try:
        pickle.dumps(task)
    except Exception as error:
        raise AvseError(
            f"This loaded model cannot be sent to other processes ({error}). Give its name or folder, or jobs=1."
        ) from None
    jobs = min(jobs, len(groups))
    threads = threads_per_job(jobs)
    with _limited_threads(threads):
        pool = ProcessPoolExecutor(
            jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(threads, plugins.loaded_files())
        )
        try:
            for future in as_completed([pool.submit(_work, task, group) for group in groups]):
                yield from future.result()
        except BrokenProcessPool:
            raise AvseError(
                "A scoring process died, most often for lack of memory. What was scored is kept: run the same command "
                "again with fewer --jobs and it goes on from there."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def threads_per_job(jobs: int) -> int:
    """Threads for each of several processes so that together they fill the machine's cores and no more."""
    return max(1, cores() // jobs)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _by_video(items: Sequence[Item]) -> list[list[Item]]:
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault(film_of(item.utterance) or item.utterance.id, []).append(item)
    return list(groups.values())


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Child processes read these variables when they import their libraries."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(threads: int, plugin_files: list[Path]) -> None:
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(threads)
    for path in plugin_files:
        plugins.load_path(path)


def _work(task: Task, items: list[Item]) -> list[Row]:
    global _scorer
    if _scorer is None:
        _scorer = Scorer(task)
    return list(_scorer(items))

"""The one pool of processes: this process's children, which share the machine's threads, or actors of a Ray cluster."""

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
from avse.errors import AvseError, needs_extra
from avse.files import end_by_exception, note_temporary_files, remove_noted

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_DIED = "Most often memory was short: run the same command again with fewer --jobs."
_worker: Callable[[Any], Any] | None = None
_folder = Path()
_ray: str | None = None  # address of the cluster
_jobs = 1


@contextmanager
def on_ray(address: str | None, jobs: int = 1) -> Iterator[None]:
    """Within it, `run_all` uses actors of the Ray cluster at this address (`local`: one that is started here).

    All machines see the same files by the same names, and have `avse` installed. None: processes of this machine.
    `jobs` is what the function of this name gives, to code that is not told how many to use.
    """
    global _ray, _jobs
    before, (_ray, _jobs) = (_ray, _jobs), (address, jobs)
    try:
        yield
    finally:
        _ray, _jobs = before


def jobs() -> int:
    """Processes that `on_ray` allows; 1 outside it."""
    return _jobs


def is_pooled(jobs: int) -> bool:
    """Whether tasks go to `run_all`: there are several jobs, or a cluster does them."""
    return jobs > 1 or _ray is not None


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
        Processes, each with its share of the cores; actors within `on_ray`, each with one core.

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
    if _ray is not None:
        yield from _run_on_ray(make, arguments, tasks, jobs, _ray)
        return
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


def _run_on_ray(
    make: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any], tasks: Sequence[Any], jobs: int, address: str
) -> Iterator[tuple[Any, Any]]:
    """As `run_all`. An actor that dies is started again, and its task is tried once more."""
    with needs_extra("ray", "Jobs on Ray"):
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    if not tasks:
        return
    started = not ray.is_initialized()
    try:
        if started:
            where: dict[str, Any] = {"num_cpus": max(jobs, cores())} if address == "local" else {"address": address}
            ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False, **where)
    except Exception as error:  # Ray raises a bare Exception where it is too slow to start
        told = (
            f"Ray does not start here ({error}). Try again when the machine is less busy, or leave out --ray."
            if address == "local"
            else f"{address}: no Ray cluster answers there ({error}). `ray start --head` starts one."
        )
        raise AvseError(told) from error
    context = DataContext.get_current()
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    waiting = dict(enumerate(tasks))
    try:
        rows = [{"number": number, "task": pickle.dumps(task)} for number, task in waiting.items()]
        work = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(pickle.dumps((plugins.loaded_files(), make, tuple(arguments))),),
            compute=ActorPoolStrategy(size=min(jobs, len(rows))),
            batch_size=1,
            num_cpus=1,
            max_task_retries=1,
        )
        for row in work.iter_rows():
            yield waiting.pop(int(row["number"])), pickle.loads(row["result"])
        for task in waiting.values():
            yield task, AvseError(f"{_name(task)}: its process died. {_DIED}")
    finally:
        if started:
            ray.shutdown()


class _Actor:
    """Does tasks in a process of Ray; whatever goes wrong with one is its result."""

    def __init__(self, made: bytes) -> None:
        import torch

        torch.set_num_threads(1)
        files, make, arguments = pickle.loads(made)
        for path in files:
            plugins.load_path(path)
        self.make, self.arguments = make, arguments
        self.worker: Callable[[Any], Any] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        return {"number": list(batch["number"]), "result": [self._result(task) for task in batch["task"]]}

    def _result(self, packed: bytes) -> bytes:
        task = pickle.loads(packed)
        try:
            worker = self.worker = self.worker or self.make(*self.arguments)
            return pickle.dumps(worker(task))
        except AvseError as error:
            return pickle.dumps(error)
        except Exception as error:
            return pickle.dumps(AvseError(f"{_name(task)}: {type(error).__name__}: {error}"))


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

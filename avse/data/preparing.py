"""What datasets do with each file of a corpus, by several processes where `avse prepare` was given some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from avse import workers
from avse.errors import AvseError
from avse.progress import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")
_THREADS = 4  # of one process, which mostly waits for the disk


def each(work: Callable[[Item], Result], items: Sequence[Item], label: str) -> list[Result | AvseError]:
    """Results of `work(item)`, in the order of the items, with progress on stderr.

    Within `workers.on_ray(address, jobs)` processes or actors do the work, so that it and the items have to be
    picklable. An `AvseError` that it raises, or that its process died, is the result.

    Example
    -------
    >>> each(len, ["a", "bcd"], "Counting")
    [1, 3]
    """
    results: dict[int, Any] = {}
    with progress_bar(label) as show:
        for number, result in _done(work, items):
            results[number] = result
            show(len(results), len(items))
    return [results[number] for number in range(len(items))]


def _done(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[tuple[int, Any]]:
    if workers.is_pooled(workers.jobs()) and len(items) > 1:
        tasks = [(one, number) for number, one in enumerate(items)]
        for (_, number), result in workers.run_all(_Worker, (work,), tasks, workers.jobs()):
            yield number, result
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from enumerate(pool.map(_Worker(work), ((one,) for one in items)))


class _Worker:
    """Does the work on one item; an error that it raises is the result."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, task: tuple[Any, ...]) -> Any:
        try:
            return self.work(task[0])
        except AvseError as error:
            return error

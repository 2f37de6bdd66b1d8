"""Work on a Ray cluster that is started here: equal to the work of one process, whatever goes wrong on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avse.errors import AvseError
from avse.workers import on_ray, run_all

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield "local"
        ray.shutdown()


def test_results_errors_and_a_process_that_dies(cluster: str, tmp_path: Path) -> None:
    def make(folder: Path) -> Callable[[int], int]:
        def work(task: int) -> int:
            if task == 2:
                raise ValueError("two")
            if task == 3:
                raise AvseError("three")
            mark = folder / f"{task}"
            if task == 4 and not mark.exists():  # dies once, and is done again
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if task == 6:  # dies whenever it is done
                os.kill(os.getpid(), signal.SIGKILL)
            return 10 * task

        return work

    import cloudpickle

    import avse.workers

    # What is defined in a test can be pickled by value alone.
    avse.workers.pickle, before = cloudpickle, avse.workers.pickle  # type: ignore[attr-defined]
    try:
        with on_ray(cluster):
            results = dict(run_all(make, (tmp_path,), range(7), 2))
    finally:
        avse.workers.pickle = before  # type: ignore[attr-defined]
    assert [results[task] for task in (0, 1, 4, 5)] == [0, 10, 40, 50]
    assert "ValueError: two" in str(results[2]) and str(results[3]) == "three"
    assert "its process died" in str(results[6])


def test_files_are_enhanced_as_by_one_process_and_go_on(
    cluster: str, tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable
) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(talk, tmp_path / f"{name}.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no media")
    words = ("enhance", tmp_path, "--model", tiny_model, "--jobs", 2)
    outcome = avse_command(*words, "--ray", cluster, "-o", tmp_path / "ray", "--json", tmp_path / "rows.jsonl")
    assert outcome.status == 1 and "broken.mp4" in outcome.err
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert sorted("error" in row for row in rows) == [False, False, False, True]
    (tmp_path / "broken.mp4").unlink()
    assert avse_command("enhance", tmp_path / "a.mp4", "--model", tiny_model, "-o", tmp_path / "one.mp4").status == 0
    [written] = (tmp_path / "ray").glob("a*.mp4")
    assert written.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    states = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray").iterdir()}
    next(iter(states)).unlink()
    inputs = [tmp_path / f"{name}.mp4" for name in ("a", "b", "c")]
    outcome = avse_command("enhance", *inputs, *words[2:], "--ray", cluster, "-o", tmp_path / "ray", "--resume")
    assert outcome.status == 0, outcome.err
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray").iterdir()}
    assert again.keys() == states.keys() and sum(again[path] == states[path] for path in states) == 2

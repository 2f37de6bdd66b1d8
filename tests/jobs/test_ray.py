"""Work on a Ray cluster that is started here: equal to the work of one process, whatever goes wrong on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse import plugins
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


def test_a_corpus_is_prepared_as_by_one_process(cluster: str, tmp_path: Path, avse_command: Callable) -> None:
    plugins.get("dataset", "lrs2").write_example(tmp_path)
    for words in (["--ray", cluster, "--jobs", "2", "-o", tmp_path / "ray.csv"], ["-o", tmp_path / "one.csv"]):
        assert avse_command("prepare", "lrs2", tmp_path, *words).status == 0
    assert (tmp_path / "ray.csv").read_text() == (tmp_path / "one.csv").read_text()


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


def _voices(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        soundfile.write(folder / f"{number:02d}.wav", 0.1 * rng.standard_normal(8000), 16000)
    return sorted(folder.iterdir())


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _descendants(pid: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes of Ray in /proc")
@pytest.mark.parametrize("killed", ["driver", "worker"])
def test_a_kill_loses_nothing_and_does_nothing_twice(killed: str, tiny_model: Path, tmp_path: Path) -> None:
    paths, out, lines = _voices(tmp_path / "in", 30), tmp_path / "out", tmp_path / "lines.jsonl"
    options = ["-o", out, "--model", tiny_model, "--json", lines, "--resume", "--ray", "local", "--jobs", 2]
    command = [str(word) for word in (sys.executable, "-m", "avse", "enhance", tmp_path / "in", *options)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        while not lines.exists() or len(lines.read_bytes().splitlines()) < 4:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.01)
        started = _descendants(process.pid)
        actors = [pid for pid in started if _command(pid).startswith(b"ray::") and b"_Actor" in _command(pid)]
        os.kill(process.pid if killed == "driver" else actors[0], signal.SIGKILL)
        process.wait()
    assert (process.returncode == 0) == (killed == "worker") and len(actors) == 2
    deadline = time.monotonic() + 60
    while any(_command(pid) for pid in actors) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_command(pid) for pid in actors), "actors of a cluster that was started here end with its driver"
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    done = subprocess.run(command, **{**pipes, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE})
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 30 - len(before), "what is whole is not done again"
    assert sorted(json.loads(line)["input"] for line in lines.read_text().splitlines()) == list(map(str, paths))
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    assert len(after) == 30 and {name: after[name] for name in before} == before
    assert [path.name for path in out.glob(".*")] == [".avse.json"], "nothing half-written is left"

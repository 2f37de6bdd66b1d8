"""Files per second of `avse enhance` with processes of this machine and with actors of Ray.

    python benchmarks/workers.py                        # 1 and 2 workers, the local pool and Ray

Each row is one command in a process of its own, on the same copies of a synthetic talking face. The start (imports, the
cluster, the model in each worker) is the time until the first file is done; the rate is that of the files after it.
All rows alternate, so that a machine with other load slows them alike: compare the rates of one table.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(sources: Path, output: Path, jobs: int, ray: bool) -> tuple[float, float]:
    """Seconds until the first file is done, and files per second after it."""
    options = ["-o", output, "--model", "avse-small", "--jobs", jobs, *(["--ray", "local"] if ray else [])]
    command = [sys.executable, "-m", "avse", "enhance", sources, *options]
    began, times = time.perf_counter(), []
    count = len(list(sources.iterdir()))
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        done = len(list(output.glob("[!.]*"))) if output.is_dir() else 0
        times += [time.perf_counter()] * (done - len(times))
        time.sleep(0.01)
    if process.returncode or len(times) < count - 1:
        raise SystemExit(f"{command}: status {process.returncode}, {len(times)} of {count} files")
    return times[0] - began, (len(times) - 1) / (times[-1] - times[0])


def main() -> None:
    """Measure all rows and print them as a table of Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()

    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    rows: dict[tuple[int, bool], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        sources = Path(name) / "in"
        sources.mkdir()
        audio, frames, _ = synthesize_clip(seed=5, speaker=12, seconds=given.seconds)
        write_video(sources / "0.mp4", frames, audio)
        for number in range(1, given.files):
            shutil.copy(sources / "0.mp4", sources / f"{number}.mp4")
        for _ in range(given.repeats):
            for jobs in given.jobs:
                for ray in (False, True):
                    output = Path(name) / "out"
                    rows.setdefault((jobs, ray), []).append(measure(sources, output, jobs, ray))
                    shutil.rmtree(output)
    print(f"Medians of {given.repeats} repetitions [lowest, highest].\n")
    print("| workers | pool | start (s) | files per second | to the local pool |\n|---|---|---|---|---|")
    for (jobs, ray), found in rows.items():
        start = statistics.median(one for one, _ in found)
        rate = _spread([one for _, one in found])
        ratio = _spread([one / other for (_, one), (_, other) in zip(found, rows[jobs, False])]) if ray else "1"
        print(f"| {jobs} | {'Ray' if ray else 'local'} | {start:.1f} | {rate} | {ratio} |")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    main()

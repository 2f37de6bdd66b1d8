"""Outputs that cannot be written and runs that are interrupted: nothing half-written is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import avse
from avse.errors import AvseError
from avse.jobs.enhance import enhance_file

pytestmark = pytest.mark.slow

RATE = 16_000

# Enhances with a model that says so after its first chunk and then waits for a signal.
_WAITING = """
import signal, sys
from avse import model
enhance_batch = model.Model.enhance_batch
def waiting(self, clips, **others):
    estimates = enhance_batch(self, clips, **others)
    print("in the middle", flush=True)
    signal.pause()
    return estimates
model.Model.enhance_batch = waiting
from avse.cli.app import main
main()
"""


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "voice.wav"
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal(2 * RATE), RATE)
    return path


def _left(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def test_folder_that_is_a_file(voice: Path, tiny_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    (tmp_path / "file").write_text("in the way")
    message = avse_command("enhance", voice, "-o", tmp_path / "file" / "out.wav", "--model", tiny_model).message
    assert "out.wav" in message and "cannot write" in message
    assert _left(tmp_path) == ["file", "in/voice.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(voice: Path, tiny_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    message = avse_command("enhance", voice, "-o", tmp_path / "closed" / "out.wav", "--model", tiny_model).message
    assert "cannot write" in message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_folder_in_which_nobody_can_write(voice: Path, tiny_model: Path, avse_command: Callable) -> None:
    message = avse_command("enhance", voice, "-o", "/proc/self/out.wav", "--model", tiny_model).message
    assert "/proc/self/out.wav" in message and "cannot write" in message


def test_device_is_not_replaced(voice: Path, tiny_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    message = avse_command("enhance", voice, "-o", tmp_path / "pipe.wav", "--model", tiny_model).message
    assert "pipe.wav" in message
    assert (tmp_path / "pipe.wav").is_fifo()
    assert _left(tmp_path) == ["in/voice.wav"]


@pytest.mark.parametrize("suffix", [".xyz", ".txt"])
def test_format_that_does_not_exist(
    suffix: str, voice: Path, tiny_model: Path, tmp_path: Path, avse_command: Callable
) -> None:
    message = avse_command("enhance", voice, "-o", tmp_path / f"out{suffix}", "--model", tiny_model).message
    assert f"out{suffix}" in message
    assert _left(tmp_path) == ["in/voice.wav"]


def test_input_is_never_overwritten(voice: Path, tiny_model: Path, avse_command: Callable) -> None:
    before = voice.read_bytes()
    assert "input itself" in avse_command("enhance", voice, "-o", voice, "--model", tiny_model).message
    assert voice.read_bytes() == before


def test_earlier_output_survives_a_failure(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    (tmp_path / "out.wav").write_bytes(b"from yesterday")
    with pytest.raises(AvseError):
        enhance_file(avse.load(tiny_model), tmp_path / "broken.mp4", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == b"from yesterday"


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp4"])
def test_file_that_may_not_grow(suffix: str, talk: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The writer meets an error after some kilobytes, as on a full disk."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
    code = limit + "from avse.cli.app import main\nmain()"
    out = tmp_path / f"out{suffix}"
    done = _run(code, "enhance", talk, "-o", out, "--model", tiny_model)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and out.name in done.stderr
    assert _left(tmp_path) == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small file system can be mounted: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(full_disk: Path, voice: Path, tiny_model: Path, avse_command: Callable) -> None:
    long = voice.with_name("long.wav")
    soundfile.write(long, np.tile(soundfile.read(voice)[0], 3), RATE)
    for name in ("out.wav", "out.flac"):
        message = avse_command("enhance", long, "-o", full_disk / name, "--model", tiny_model).message
        assert name in message and "No space left" in message
        assert _left(full_disk) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_the_middle(sent: signal.Signals, talk: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WAITING, "enhance", talk, "-o", tmp_path / "out.mp4", "--model", tiny_model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "in the middle"
        process.send_signal(sent)
        err = _last_words(process)
    assert process.returncode == 128 + sent
    assert "Traceback" not in err
    assert ("Interrupted" in err) == (sent == signal.SIGINT)
    assert _left(tmp_path) == []


_PAUSING = """
import signal

import torch

from avse import register
from avse.contracts.enhancer import Enhancer


@register("enhancer", "pausing")
class Pausing(Enhancer):
    '''Waits for a signal.'''

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        print("in the middle", flush=True)
        signal.pause()
"""


def test_several_workers_interrupted_in_the_middle(voice: Path, tmp_path: Path) -> None:
    """Workers know the plugins of `--plugins`; Ctrl-C ends them, and they clean up behind them."""
    import shutil

    import torch

    from avse.model import Model

    (tmp_path / "pausing.py").write_text(_PAUSING)
    system = torch.nn.Module()
    system.gain = torch.nn.Parameter(torch.ones(1))
    Model(system, "model: !new:avse.plugins.enhancer.pausing\n", "pausing").save(tmp_path / "model")
    for name in "bcd":
        shutil.copy(voice, voice.with_name(f"{name}.wav"))
    before = _left(tmp_path)
    options = ["--model", tmp_path / "model", "-o", tmp_path / "out", "--jobs", "2"]
    command = [sys.executable, "-m", "avse", "--plugins", tmp_path / "pausing.py", "enhance", voice.parent, *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert [process.stdout.readline().strip() for _ in range(2)] == ["in the middle"] * 2
        left = _left(tmp_path / "out")
        os.killpg(process.pid, signal.SIGINT)
        err = _last_words(process)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err and "Interrupted" in err and "--resume" in err
    assert len(left) == 3  # two that were begun, and the note on the options of the run
    assert _left(tmp_path) == before


def _last_words(process: subprocess.Popen[str]) -> str:
    """What a process that is to end writes on stderr; one that does not end is killed, and fails the test."""
    try:
        return process.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)

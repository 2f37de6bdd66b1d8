"""`avse enhance` on many files: what is passed over, a line a file, a kill, and going on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse.errors import AvseError, AvseWarning
from avse.jobs.enhance import _fingerprint, enhance_files
from avse.jobs.files import MEDIA_SUFFIXES, find_media
from avse.model import load

RATE = 16_000


def _voices(folder: Path, count: int, seconds: float = 0.2) -> list[Path]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:03d}.wav" for number in range(count)]
    for path in paths:
        soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * RATE)), RATE)
    return paths


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_gives_all_that_ffmpeg_reads_and_says_the_rest(tmp_path: Path) -> None:
    names = ("a.wmv", "b.3gp", "c.m2ts", "d.MTS", "e.ogv", "f.aif", "g.w64", "h.mp4")
    for name in (*names, "notes.txt", "poster.jpg", "list.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    with pytest.warns(AvseWarning, match=r"3 files are no media, and passed over: 2 \.txt, 1 \.jpg"):
        assert [path.name for path in find_media([tmp_path])] == list(names)


def test_every_suffix_is_one_of_ffmpeg() -> None:
    import av

    formats = [
        av.ContainerFormat(name, mode) for name in av.formats_available for mode in ("r", "w") if _has(name, mode)
    ]
    known = {f".{suffix}" for one in formats for suffix in one.extensions}
    others = {".snd": "au", ".rmvb": "rm", ".rf64": "wav", ".3ga": "3gp"}  # names that FFmpeg knows by their content
    assert MEDIA_SUFFIXES - known == others.keys() - known


def _has(name: str, mode: str) -> bool:
    import av

    try:
        av.ContainerFormat(name, mode)
    except ValueError:
        return False
    return True


def test_enhanced_names_are_passed_over_unless_nothing_else_is_named(tmp_path: Path) -> None:
    plain, done = tmp_path / "a.wav", tmp_path / "a.enhanced.wav"
    for path in (plain, done):
        path.touch()
    with pytest.warns(AvseWarning, match=r"1 file is enhanced already, and passed over: a\.enhanced\.wav"):
        assert find_media([done, plain]) == [plain]
    assert find_media([done]) == [done]


def test_a_target_that_is_an_input_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    voice = _voices(tmp_path / "in", 1)[0]
    shutil.copy(voice, tmp_path / "000.enhanced.wav")
    with pytest.raises(AvseError, match="input itself"):
        enhance_files([voice], output=voice.parent / "." / voice.name, model=tiny_model)
    with pytest.raises(AvseError, match="input itself"):
        enhance_files([voice], output=tmp_path / "out.wav", json_path=voice, model=tiny_model)
    with pytest.raises(AvseError, match="written twice"):
        enhance_files([voice], output=tmp_path / "out.wav", json_path=tmp_path / "out.wav", model=tiny_model)
    with pytest.raises(AvseError, match="cannot be drawn"):
        enhance_files([voice], output=tmp_path / "out.wav", plot=tmp_path / "out.docx", model=tiny_model)
    assert not (tmp_path / "out.wav").exists()


def test_a_file_that_is_named_is_no_target(tiny_model: Path, tmp_path: Path) -> None:
    """As `avse enhance *.wav` names all, also what was enhanced before; a folder names none of its files."""
    [voice] = _voices(tmp_path / "in", 1)
    options = {"model": tiny_model, "show_progress": False}
    enhance_files([voice], resume=True, **options)
    done = voice.with_name("000.enhanced.wav")
    before = done.read_bytes()
    with pytest.warns(AvseWarning, match="passed over"), pytest.raises(AvseError, match=r"000\.enhanced\.wav: .*input"):
        enhance_files([voice, done], mix=0.5, **options)
    with pytest.warns(AvseWarning, match="passed over"):
        assert enhance_files([voice, done], resume=True, **options) == ([], {})
    assert done.read_bytes() == before
    with pytest.warns(AvseWarning, match="passed over"):
        assert len(enhance_files([voice.parent], mix=0.5, **options)[0]) == 1
    assert done.read_bytes() != before


def test_folders_of_plots_and_reports(tiny_model: Path, tmp_path: Path) -> None:
    _voices(tmp_path / "in", 2)
    about = tmp_path / "about"
    enhance_files([tmp_path / "in"], output=tmp_path / "out", plot=about, json_path=about, model=tiny_model)
    assert sorted(os.listdir(about)) == ["000.json", "000.png", "001.json", "001.png"]
    [report] = json.loads((about / "001.json").read_text())
    assert Path(report["output"]) == tmp_path / "out" / "001.enhanced.wav"


def test_going_on_does_what_is_left(tiny_model: Path, tmp_path: Path) -> None:
    """Done, failed, changed and new files; each has one line in the end."""
    paths = _voices(tmp_path / "in", 3)
    (tmp_path / "in" / "bad.wav").write_bytes(b"no audio")
    out, lines = tmp_path / "out", tmp_path / "lines.jsonl"
    options = {"output": out, "json_path": lines, "model": tiny_model, "show_progress": False}
    _, failures = enhance_files([tmp_path / "in"], **options)
    assert [Path(one).name for one in failures] == ["bad.wav"]
    assert [Path(row["input"]).name for row in _lines(lines) if "error" in row] == ["bad.wav"]
    written = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    lines.write_text(lines.read_text() + '{"input": "broken off')
    later = (out / "001.enhanced.wav").stat().st_mtime_ns + 10**9
    os.utime(paths[1], ns=(later, later))
    shutil.copy(paths[0], tmp_path / "in" / "bad.wav")
    with pytest.warns(AvseWarning, match="2 of 4 files are enhanced already"):
        reports, failures = enhance_files([tmp_path / "in"], resume=True, **options)
    assert [Path(one.input).name for one in reports] == ["001.wav", "bad.wav"] and not failures
    assert sorted(Path(row["input"]).name for row in _lines(lines)) == ["000.wav", "001.wav", "002.wav", "bad.wav"]
    for name in ("000.enhanced.wav", "002.enhanced.wav"):
        assert (out / name).stat().st_mtime_ns == written[name]


def test_going_on_with_other_options_or_another_model_does_the_work_anew(tiny_model: Path, tmp_path: Path) -> None:
    _voices(tmp_path / "in", 2)
    out = tmp_path / "out"
    options = {"output": out, "model": tiny_model, "show_progress": False, "resume": True}
    enhance_files([tmp_path / "in"], **options)
    again = lambda **more: len(enhance_files([tmp_path / "in"], **options, **more)[0])
    with pytest.warns(AvseWarning, match="2 of 2 files are enhanced already"):
        assert again() == 0
    with pytest.warns(AvseWarning, match="2 of 2 files are there by another model or other options"):
        assert again(mix=0.5) == 2
    with pytest.warns(AvseWarning, match="are enhanced already"):
        assert again(mix=0.5) == 0
    with pytest.warns(AvseWarning, match="by another model"):
        assert len(enhance_files([tmp_path / "in"], **{**options, "model": "avse-small"}, mix=0.5)[0]) == 2
    (out / ".avse.json").unlink()
    with pytest.warns(AvseWarning, match="nothing says by which"):
        assert again(mix=0.5) == 2


_FAULTY = """
from avse import register
from avse.contracts.enhancer import Enhancer
import torch

@register("enhancer", "faulty")
class Faulty(Enhancer):
    '''Fails at a loud clip.'''

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        from avse.contracts.types import Estimate
        if batch.noisy.abs().max() > 0.9:
            raise KeyError("loud")
        return Estimate(batch.noisy, 0 * batch.noisy, torch.zeros_like(batch.valid, dtype=torch.float32), batch.lengths)
"""


def test_a_plugin_that_fails_costs_its_file_alone(tmp_path: Path) -> None:
    from avse import plugins
    from avse.model import Model

    paths = _voices(tmp_path / "in", 3)
    soundfile.write(paths[1], np.ones(3200), RATE)
    (tmp_path / "faulty.py").write_text(_FAULTY)
    plugins.load_path(tmp_path / "faulty.py")
    model = tmp_path / "model"
    Model(plugins.get("enhancer", "faulty")(), "model: !new:avse.plugins.enhancer.faulty\n", "faulty").save(model)
    lines = tmp_path / "lines.jsonl"
    reports, failures = enhance_files(paths, output=tmp_path / "out", json_path=lines, model=model, show_progress=False)
    assert len(reports) == 2 and len(_lines(lines)) == 3
    [said] = failures.values()
    assert said == f"{paths[1]}: the plugin enhancer/faulty failed: KeyError: 'loud' (faulty.py, line 17)"
    with pytest.raises(KeyError):  # a file alone: for the author of the plugin
        enhance_files(paths[1:2], output=tmp_path / "x.wav", model=model, show_progress=False)


@pytest.mark.slow
def test_many_files_one_kill_nothing_twice(tiny_model: Path, tmp_path: Path) -> None:
    paths = _voices(tmp_path / "in", 60)
    out, lines = tmp_path / "out", tmp_path / "lines.jsonl"
    options = [tmp_path / "in", "-o", out, "--model", tiny_model, "--json", lines, "--resume"]
    command = [sys.executable, "-m", "avse", "enhance", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not lines.exists() or len(lines.read_bytes().splitlines()) < 10:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    assert 10 <= len(before) < len(paths)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(before)} of 60 files are enhanced already" in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 60 - len(before)
    assert sorted(row["input"] for row in _lines(lines)) == [str(path) for path in paths]
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    assert len(after) == 60 and {name: after[name] for name in before} == before


_DEADLY = """
import os, signal
from avse import register
from avse.contracts.enhancer import Enhancer
import torch

@register("enhancer", "deadly")
class Deadly(Enhancer):
    '''Is killed by a loud clip, as for lack of memory.'''

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        from avse.contracts.types import Estimate
        if batch.noisy.abs().max() > 0.9:
            os.kill(os.getpid(), signal.SIGKILL)
        return Estimate(batch.noisy, 0 * batch.noisy, torch.zeros_like(batch.valid, dtype=torch.float32), batch.lengths)
"""


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_file_alone(tmp_path: Path) -> None:
    """The file is named, its temporary file is removed, and the others are enhanced."""
    import torch

    from avse.model import Model

    (tmp_path / "deadly.py").write_text(_DEADLY)
    system = torch.nn.Module()
    system.gain = torch.nn.Parameter(torch.ones(1))
    Model(system, "model: !new:avse.plugins.enhancer.deadly\n", "deadly").save(tmp_path / "model")
    paths = _voices(tmp_path / "in", 4)
    soundfile.write(paths[1], np.ones(RATE), RATE)
    options = [tmp_path / "in", "-o", tmp_path / "out", "--model", tmp_path / "model", "--jobs", "2"]
    command = [sys.executable, "-m", "avse", "--plugins", tmp_path / "deadly.py", "enhance", *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 1 and "1 of 4 failed" in done.stderr, done.stderr
    assert "001.wav: its process died" in done.stderr and "fewer --jobs" in done.stderr
    names = [f"{number:03d}.enhanced.wav" for number in (0, 2, 3)]
    assert sorted(os.listdir(tmp_path / "out")) == [".avse.json", *names]
    assert sorted(json.loads((tmp_path / "out" / ".avse.json").read_text())) == names


_FULL = """
import errno, os, sys
import avse.files
replace = avse.files.Path.replace

def full(path, target):  # as a disk that the second half of the files does not fit on
    if str(target).endswith(".enhanced.wav") and int(str(target)[-16:-13]) >= 3:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return replace(path, target)

avse.files.Path.replace = full
from avse.cli.app import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tmpfs", "injected"])
def test_a_full_disk_costs_the_files_that_do_not_fit(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """Each of them is named, nothing half-written stays, and with more room the same command does the rest."""
    paths, out, lines = _voices(tmp_path / "in", 6, seconds=4.0), tmp_path / "out", tmp_path / "lines.jsonl"
    options = [*paths, "-o", out, "--model", tiny_model, "--json", lines, "--resume"]
    command = [sys.executable, "-m", "avse", "enhance", *map(str, options)]
    if kind == "tmpfs":
        room = f"mount -t tmpfs -o size=450k none {shlex.quote(str(out))}"
        if (
            shutil.which("unshare") is None
            or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode
        ):
            pytest.skip("may not mount a small disk here")
        out.mkdir()
        kept = f"cp {shlex.quote(str(out))}/*.wav {shlex.quote(str(out))}/.[!.]* {shlex.quote(str(tmp_path))}/kept"
        (tmp_path / "kept").mkdir()
        words = f"{room} && {{ {shlex.join(command)}; status=$?; {kept}; exit $status; }}"
        done = subprocess.run(["unshare", "-rm", "sh", "-c", words], capture_output=True, text=True)
        shutil.copytree(tmp_path / "kept", out, dirs_exist_ok=True)
    else:
        done = subprocess.run([sys.executable, "-c", _FULL, *command[3:]], capture_output=True, text=True)
    written = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    failed = [row for row in _lines(lines) if "error" in row]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert len(written) + len(failed) == 6 and written and failed
    assert all("No space left on device" in row["error"] for row in failed), failed
    assert all(soundfile.info(out / name).duration == 4.0 for name in written)
    assert [path.name for path in out.glob(".*")] == [".avse.json"], "nothing half-written is left"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and len(_lines(lines)) == len(list(out.glob("[!.]*"))) == 6, done.stderr
    assert {name: (out / name).stat().st_mtime_ns for name in written} == written


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows closes terminals in another way")
def test_a_closed_terminal_ends_by_an_exception_and_nohup_is_kept() -> None:
    code = (
        "import os, signal, sys\nfrom avse.files import end_by_exception\nend_by_exception()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGHUP)\nfinally:\n    print('cleaned')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGHUP and done.stdout == "cleaned\n"
    ignored = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + code + "\nprint('goes on')"
    assert subprocess.run([sys.executable, "-c", ignored], capture_output=True, text=True).stdout.endswith("goes on\n")


def test_going_on_after_the_content_of_an_option_changed_does_the_work_anew(tiny_model: Path, tmp_path: Path) -> None:
    told = tmp_path / "noise.wav"
    known = load(tiny_model)
    marks = []
    for content in (b"one", b"two", b"one"):
        told.write_bytes(content)
        marks.append(_fingerprint(known, {"noise": ["rain", str(told)], "video": None}))
    assert marks[0] == marks[2] != marks[1] and marks[0] != _fingerprint(known, {"noise": ["rain"], "video": None})

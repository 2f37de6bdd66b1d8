"""The wheel, installed into an environment that has its dependencies alone, enhances from outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]


# Setuptools builds wheels by itself from 70.1 on. Building in isolation would fetch it, and tests use no network.
BUILDS = tuple(map(int, version("setuptools").split(".")[:2])) >= (70, 1)


@pytest.mark.slow
@pytest.mark.skipif(not BUILDS, reason="needs setuptools 70.1 or later")
def test_the_wheel_enhances_from_outside_the_repository(talk: Path, tmp_path: Path) -> None:
    def run(*words: object) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AVSE"))}
        done = subprocess.run([str(word) for word in words], cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path)
    [wheel] = tmp_path.glob("avse-*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    packages = next((tmp_path / "env").glob("lib/python*/site-packages"))
    run(sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", packages, wheel)
    # A line of a .pth file is a folder to import from; that of the repository, a .pth file in there, is not read again.
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in sys.path if "site-packages" in path))
    python = tmp_path / "env" / "bin" / "python"
    assert str(packages) in run(python, "-c", "import avse; print(avse.__file__)")
    run(python, "-m", "avse", "enhance", talk, "-o", tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").duration > 1.1
    assert "TCD-TIMIT/tf_masker" in run(python, "-m", "avse", "recipe", "ls")

"""What is imported when: the front door and the command stay light, and imports of the package run one way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import avse
from avse.plugins import KINDS

PACKAGE = Path(avse.__file__).parent
HEAVY = ("speechbrain", "torchaudio", "matplotlib", "cv2", "torch")

# A module may import those above it, never those below. `avse` itself is the front door: it imports on first use.
LAYERS = (
    ("errors", "files"),
    ("signal",),
    ("contracts",),
    ("plugins",),
    ("check",),
    ("testing",),
    ("recipe",),
    ("media",),
    ("data",),
    tuple(name.removeprefix("avse.") for name in KINDS.values()),
    ("model", "generation"),
    ("training", "evaluation"),
    ("enhance_files", "separate_files"),
    ("cli_tools", "cli_generative", "demo", "new"),
    ("cli",),
    ("__main__",),
)


def _run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _cpu_seconds(code: str) -> float:
    """Least of three runs: other programs can only make it larger."""
    clock = "import resource; r = resource.getrusage(resource.RUSAGE_SELF)\nprint(r.ru_utime + r.ru_stime)"
    return min(float(_run(f"{code}\n{clock}").splitlines()[-1]) for _ in range(3))


_HELP = """
import sys
sys.argv = ["avse", "--help"]
from avse.cli.app import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("code", ["import avse", _HELP], ids=["import avse", "avse --help"])
def test_starts_within_half_a_second_and_without_heavy_packages(code: str) -> None:
    loaded = _run(code + "\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))").splitlines()[-1]
    assert not set(HEAVY) & set(json.loads(loaded))
    assert _cpu_seconds(code) - _cpu_seconds("pass") < 0.5


@pytest.mark.parametrize(
    "words", ["prepare grid NOWHERE", "scenes NOWHERE --out x", "mix NOWHERE --manifest x --out y", "compare NO WHERE"]
)
def test_commands_that_run_no_network_start_without_torch(words: str) -> None:
    code = f"""
import sys, json
sys.argv = ["avse", *{words.split()}]
from avse.cli.app import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 1  # there is no such file
print(json.dumps(sorted(sys.modules)))
"""
    assert not set(HEAVY) & set(json.loads(_run(code).splitlines()[-1]))


def test_enhance_imports_neither_speechbrain_nor_torchaudio_nor_matplotlib(
    tiny_model: Path, talk: Path, tmp_path: Path
) -> None:
    code = """
import sys, json
sys.argv = ["avse", "enhance", sys.argv[1], "-o", sys.argv[2], "--model", sys.argv[3]]
from avse.cli.app import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print(json.dumps(sorted(sys.modules)))
"""
    out = tmp_path / "talk.mp4"
    loaded = json.loads(_run(code, str(talk), str(out), str(tiny_model)).splitlines()[-1])
    assert out.is_file()
    assert "torch" in loaded
    assert not {"speechbrain", "torchaudio", "matplotlib", "torchmetrics"} & set(loaded)


def _imports() -> list[tuple[str, str, str]]:
    """Importing module, imported module, and place, for every import of the package by the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(["avse", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                # `from avse import plugins` imports a module, `from avse import __version__` does not.
                names = [f"avse.{alias.name}" if base == "avse" else base for alias in node.names]
            for name in names:
                if name.startswith("avse.") and name != "avse.__version__":
                    found.append((module, name, f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"))
    return found


def test_imports_run_one_way() -> None:
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    wrong = []
    for module, imported, place in _imports():
        if module == "avse":
            continue
        upper, lower = module.split(".")[1], imported.split(".")[1]
        assert lower in height and upper in height, f"{place}: say in LAYERS where {upper} and {lower} belong"
        if upper != lower and height[lower] > height[upper]:
            wrong.append(f"{place}: {upper} must not import {lower}")
    assert not wrong, "\n".join(wrong)


def test_no_plugin_imports_another_plugin() -> None:
    folders = tuple(f"{name}." for name in KINDS.values())
    wrong = [
        place
        for module, imported, place in _imports()
        if module.startswith(folders) and imported.startswith(folders) and module != imported
    ]
    assert not wrong, "\n".join(wrong)

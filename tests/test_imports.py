"""What is imported when: the front door and the command stay light, and imports of the package run one way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import avse
from avse.plugins import KINDS

PACKAGE = Path(avse.__file__).parent
HEAVY = ("speechbrain", "torchaudio", "matplotlib", "cv2", "torch")

# A room may import those above it, never those below. `avse` itself is the front door: it imports on first use.
ROOMS = (
    ("errors", "files", "compatibility", "devices", "docstrings", "hub", "progress"),
    ("signal",),
    ("contracts",),
    ("nnet",),
    ("plugins", "workers"),
    ("conformance",),
    ("testing",),
    ("recipe",),
    ("media",),
    ("data",),
    tuple(name.removeprefix("avse.") for name in KINDS.values()),
    ("overlap", "model_folder"),
    ("synchrony", "tracks", "scene"),
    ("sources",),
    ("model",),
    ("api", "integrations"),
    ("training", "evaluation"),
    ("jobs", "streaming", "export", "web"),
    ("demo", "new"),
    ("cli",),
    ("__main__",),
)
# What plugins of every kind may import, beside files of their own family that register nothing; and what some kinds
# may import as well: those that read and make media.
SHARED = ("avse.errors", "avse.signal", "avse.contracts", "avse.nnet", "avse.plugins")
ALSO = {"avse.datasets": ("avse.data", "avse.media"), "avse.mouth_trackers": ("avse.media.faces",)}


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


def test_an_editor_sees_the_names_that_the_front_door_gives() -> None:
    """`__all__`, the imports for type checkers, and what is imported on first use are one list."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {(node.module, alias.name) for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert typed == {(module, name) for module, names in avse._FROM.items() for name in names}
    assert sorted([*(name for _, name in typed), "__version__"]) == sorted(avse.__all__) == dir(avse)
    assert all(getattr(avse, name) is not None for name in avse.__all__)
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("code", ["import avse", _HELP], ids=["import avse", "avse --help"])
def test_starts_within_half_a_second_and_without_heavy_packages(code: str) -> None:
    loaded = _run(code + "\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))").splitlines()[-1]
    assert not set(HEAVY) & set(json.loads(loaded))
    assert _cpu_seconds(code) - _cpu_seconds("pass") < 0.5


@pytest.mark.parametrize(
    "words", ["prepare grid NOWHERE", "scenes NOWHERE -o x", "mix NOWHERE --manifest x -o y", "compare NO WHERE"]
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav", "mp4"])
def test_enhance_imports_only_what_it_needs(kind: str, tiny_model: Path, talk: Path, tmp_path: Path) -> None:
    source = talk
    if kind == "wav":
        source = tmp_path / "talk.wav"
        soundfile.write(source, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
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
    out = tmp_path / f"out.{kind}"
    loaded = json.loads(_run(code, str(source), str(out), str(tiny_model)).splitlines()[-1])
    assert out.is_file()
    assert "torch" in loaded
    unwanted = {"speechbrain", "torchaudio", "matplotlib", "torchmetrics", "sympy", "jinja2", "avse.training"}
    if kind == "wav":
        unwanted |= {"scipy", "cv2", "mtcnn", "sentencepiece", "avse.evaluation"}
    assert sorted(unwanted & set(loaded)) == []


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
    height = {name: level for level, names in enumerate(ROOMS) for name in names}
    wrong = []
    for module, imported, place in _imports():
        if module == "avse":
            continue
        upper, lower = module.split(".")[1], imported.split(".")[1]
        assert lower in height and upper in height, f"{place}: say in ROOMS where {upper} and {lower} belong"
        if upper != lower and height[lower] > height[upper]:
            wrong.append(f"{place}: {upper} must not import {lower}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports: dict[str, set[str]] = {}
    for module, imported, _ in _imports():
        if module != "avse":  # the front door
            imports.setdefault(module, set()).add(imported)
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for imported in imports.get(module, ()):
                visit(imported, (*trail, module))
            done.add(module)

    for module in imports:
        visit(module, ())


def test_plugins_import_no_plugin_and_little_else() -> None:
    folders = tuple(KINDS.values())
    registers = {
        module
        for module, imported, _ in _imports()
        if imported == "avse.plugins" and module.startswith(tuple(f"{name}." for name in folders))
        and "@register(" in (PACKAGE.parent / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
    }  # fmt: skip
    wrong = []
    for module, imported, place in _imports():
        kind = next((name for name in folders if module.startswith(f"{name}.")), None)
        if kind is None:
            continue
        allowed = (*SHARED, *ALSO.get(kind, ()), kind)
        if imported in registers or not imported.startswith(tuple(allowed)):
            wrong.append(f"{place}: {module} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_contracts_hold_no_network_and_signal_holds_no_module() -> None:
    wrong = []
    for path in sorted([*PACKAGE.glob("contracts/*.py"), *PACKAGE.glob("signal/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 0)}"
            if path.parent.name == "signal" and isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                wrong += [f"{place}: {node.name} is a module" for base in bases if base.endswith("Module")]
            if path.parent.name == "contracts":
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("nn.Linear", "nn.Conv", "nn.Seq")):
                    wrong.append(f"{place}: a layer in a contract")
                if isinstance(node, ast.While):
                    wrong.append(f"{place}: an iteration in a contract")
    assert not wrong, "\n".join(wrong)


def _imported_on_import(tree: ast.Module) -> list[tuple[str, int]]:
    """Modules that a file imports as soon as it is imported itself, and the lines."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", node.lineno)]
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    """Only a file that defines a `Brain`, or an integration of SpeechBrain, imports it at once."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    brains = {
        path: "avse.training." + path.stem
        for path, tree in trees.items()
        if path.parent == PACKAGE / "training"
        and any(
            ast.unparse(base).endswith("Brain")
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for base in node.bases
        )
    }
    assert brains
    heavy = ("speechbrain", "matplotlib", "gradio", "ray", "onnx", "onnxruntime")
    wrong = []
    for path, tree in trees.items():
        for name, line in _imported_on_import(tree):
            package = name.split(".")[0]
            is_brain = any(name == brain or name.startswith(f"{brain}.") for brain in brains.values())
            allowed = path in brains and (package == "speechbrain" or is_brain)
            allowed |= path == PACKAGE / "integrations" / f"{package}.py"
            if (package in heavy or is_brain) and not allowed:
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line}: imports {name} when it is imported")
    assert not wrong, "\n".join(wrong)

"""`avse new`: names it refuses and what it proposes, files it leaves alone, and what an interruption leaves."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from avse import plugins
from avse.errors import AvseError
from avse.new import MAX_NAME, create


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("my-fusion", "my_fusion"),
        ("my fusion", "my_fusion"),
        ("MyFusion", "my_fusion"),
        ("AVFusion2", "avfusion2"),
        ("my__fusion_", "my_fusion"),
        ("_hidden", "hidden"),
        ("2nd_try", "my_2nd_try"),
        ("lambda", "my_lambda"),
        ("None", "my_none"),
        ("test_idea", "idea"),
        ("test", "my_test"),
        ("setup", "my_setup"),
        ("idée", "idee"),
        ("融合", "my_fusion"),
        ("../up", "up"),
        ("fusion.py", "fusion_py"),
        ("a" * 60, "a" * MAX_NAME),
        ("concat", "my_concat"),
        ("json", "my_json"),
        ("numpy", "my_numpy"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_one_that_can(
    name: str, proposed: str, tmp_path: Path, avse_command: Callable
) -> None:
    message = avse_command("new", "fusion", "-o", tmp_path, "--", name).message
    assert message.endswith(f"Try {proposed!r}.")
    assert not list(tmp_path.iterdir())
    assert create("fusion", proposed, tmp_path).path.is_file()


@pytest.mark.parametrize(
    ("name", "proposed"),
    [("Straße 3", "Strae_3"), ("3MDAD", "MY_3MDAD"), ("a/b", "a_b"), ("", "MY_CORPUS"), ("GRID", "my_grid")],
)
def test_a_corpus_is_named_more_freely(name: str, proposed: str, tmp_path: Path) -> None:
    with pytest.raises(AvseError, match=re.escape(f"Try {proposed!r}.")):
        create("recipe", name, tmp_path)
    assert not list(tmp_path.iterdir())
    assert create("recipe", proposed, tmp_path).path.is_dir()
    created = create("recipe", "LRS3-TED", tmp_path)
    assert (created.path / "lrs3_ted.py").is_file()


def test_a_kind_that_is_none_is_refused_with_the_nearest(tmp_path: Path, avse_command: Callable) -> None:
    for kind, nearest in (("fusoin", "fusion"), ("noise-model", "noise_model"), ("Recipe", "recipe")):
        assert f"Did you mean {nearest!r}?" in avse_command("new", kind, "mine", "-o", tmp_path).message
    assert "--package is for plugins" in avse_command("new", "recipe", "Mine", "--package", "-o", tmp_path).message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "name", "class_name"),
    [
        ("metric", "none", "NonePlugin"),
        ("metric", "metric", "MetricPlugin"),
        ("dataset", "value_error", "ValueErrorPlugin"),
        ("dataset", "path", "PathPlugin"),
        ("mouth_tracker", "face", "FacePlugin"),
        ("inference", "estimate", "EstimatePlugin"),
        ("fusion", "x", "X"),
    ],
)
def test_a_class_takes_no_name_that_means_something_else(kind: str, name: str, class_name: str, tmp_path: Path) -> None:
    created = create(kind, name, tmp_path)
    [cls] = [node for node in ast.parse(created.path.read_text()).body if isinstance(node, ast.ClassDef)]
    assert cls.name == class_name
    assert not plugins.load_path(created.path) and plugins.get(kind, name).__name__ == class_name


def test_nothing_is_overwritten_without_force(tmp_path: Path, avse_command: Callable) -> None:
    path = tmp_path / "mine.py"
    path.write_text("kept")
    assert f"{path}: is there already" in avse_command("new", "fusion", "mine", "-o", tmp_path).message
    assert path.read_text() == "kept"
    assert avse_command("new", "fusion", "mine", "-o", tmp_path, "--force").status == 0
    assert "class Mine(Fusion)" in path.read_text()


def test_force_replaces_the_files_of_a_folder_and_leaves_the_others(tmp_path: Path) -> None:
    created = create("fusion", "mine", tmp_path, package=True)
    (created.path / "README.md").write_text("old")
    (created.path / "notes.txt").write_text("kept")
    with pytest.raises(AvseError, match="is there already"):
        create("fusion", "mine", tmp_path, package=True)
    assert (created.path / "README.md").read_text() == "old"
    create("fusion", "mine", tmp_path, package=True, force=True)
    assert (created.path / "README.md").read_text().startswith("# mine")
    assert (created.path / "notes.txt").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(AvseError, match="is a folder"):
        (tmp_path / "other.py").mkdir()
        create("fusion", "other", tmp_path, force=True)
    (tmp_path / "file").touch()
    with pytest.raises(AvseError, match="is a file where a folder would be written"):
        create("recipe", "file", tmp_path, force=True)


def test_a_plugin_that_is_loaded_can_be_written_anew(tmp_path: Path) -> None:
    created = create("fusion", "mine", tmp_path)
    plugins.load_path(created.path)
    create("fusion", "mine", tmp_path, force=True)
    with pytest.raises(AvseError, match=rf"already a fusion plugin 'mine' \({re.escape(str(created.path))}"):
        create("fusion", "mine", tmp_path / "elsewhere")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("options", [("fusion", "mine", False), ("fusion", "mine", True), ("recipe", "Mine", False)])
def test_an_interruption_leaves_nothing(
    failure: type[BaseException] | BaseException, options: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name, package = options
    write, calls = Path.write_text, []

    def fail(path: Path, text: str, **others: str) -> int:
        calls.append(path)
        if len(calls) == (3 if package or kind == "recipe" else 1):
            write(path, text[: len(text) // 2], **others)
            raise failure
        return write(path, text, **others)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises((AvseError, KeyboardInterrupt)) as raised:
        create(kind, name, tmp_path, package=package)
    assert not list(tmp_path.iterdir())
    if isinstance(failure, OSError):
        assert "No space left on device" in str(raised.value)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, avse_command: Callable) -> None:
    (tmp_path / "file").touch()
    for options in (["--package"], []):
        message = avse_command("new", "fusion", "mine", "-o", tmp_path / "file", *options).message
        assert str(tmp_path / "file") in message and "Choose another" in message


def test_commands_quote_paths_with_spaces(tmp_path: Path, avse_command: Callable) -> None:
    folder = tmp_path / "my plugins"
    done = avse_command("new", "fusion", "mine", "-o", folder)
    assert f"avse check '{folder / 'mine.py'}'" in done.out
    assert f"--plugins '{folder / 'mine.py'}' --fusion mine" in done.out
    packed = avse_command("new", "fusion", "mine", "--package", "-o", folder)
    assert f"pip install -e '{folder / 'mine'}'" in packed.out and "--plugins" not in packed.out

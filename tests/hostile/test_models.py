"""Model folders that are damaged or mean harm, through `avse enhance --model` and `avse.load`."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import avse
from avse.errors import AvseError


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def _sign(folder: Path) -> None:
    """Make the hashes fit, as whoever means harm would."""
    facts = json.loads((folder / "model.json").read_text())
    facts["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in facts["sha256"]}
    (folder / "model.json").write_text(json.dumps(facts))


def _refusal(folder: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> str:
    """The message, after making sure that Python refuses alike and that nothing is written."""
    out = tmp_path / "out.mp4"
    message = avse_command("enhance", talk, "-o", out, "--model", folder).message
    with pytest.raises(AvseError) as error:
        avse.load(folder)
    assert " ".join(str(error.value).split()) in message
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model"]
    return message


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.yaml", "model.json"])
def test_missing_file(name: str, folder: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    (folder / name).unlink()
    message = _refusal(folder, talk, tmp_path, avse_command)
    assert name in message


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.yaml"])
def test_altered_file(name: str, folder: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    message = _refusal(folder, talk, tmp_path, avse_command)
    assert name in message and "altered" in message


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 99, "sha256": {}}', '"text"'])
def test_description_that_is_none(
    content: str, folder: Path, talk: Path, tmp_path: Path, avse_command: Callable
) -> None:
    (folder / "model.json").write_text(content)
    assert str(folder) in _refusal(folder, talk, tmp_path, avse_command)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 8 + b"{}"])
def test_weights_that_are_none(
    content: bytes, folder: Path, talk: Path, tmp_path: Path, avse_command: Callable
) -> None:
    (folder / "model.safetensors").write_bytes(content)
    _sign(folder)
    assert "model.safetensors" in _refusal(folder, talk, tmp_path, avse_command)


def test_weights_of_another_model(folder: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe.replace("blocks: 2", "blocks: 3"))
    _sign(folder)
    message = _refusal(folder, talk, tmp_path, avse_command)
    assert "do not fit the recipe" in message and "blocks.2." in message


HARM = {
    "a function": "model: !new:os.system ['touch {canary}']",
    "a function applied": "model: !apply:os.system ['touch {canary}']",
    "a function named": "model: !name:os.system ['touch {canary}']",
    "a Python tag": "model: !!python/object/apply:os.system ['touch {canary}']",
    "beside the model": "{recipe}extra: !apply:os.system ['touch {canary}']",
    "within a plugin": "model: !new:avse.plugins.enhancer.tf_masker\n    channels: !apply:os.system ['touch {canary}']",
    "a module reached through the registry": "model: !apply:avse.plugins.sys.exit [3]",
    "another file": "model: !include:{canary}",
    "an object's inside": "{recipe}extra: !ref <model.__class__.__init__.__globals__>",
    "plugins of its own": "plugins: {canary}\n{recipe}",
}


@pytest.mark.parametrize("kind", HARM)
def test_recipe_that_runs_code(kind: str, folder: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    canary = tmp_path / "canary"
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(HARM[kind].format(canary=canary, recipe=recipe) + "\n")
    _sign(folder)
    message = _refusal(folder, talk, tmp_path, avse_command)
    assert "recipe.yaml" in message
    assert not canary.exists()


def test_name_that_does_not_exist(talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    message = avse_command("enhance", talk, "-o", tmp_path / "out.mp4", "--model", "avse-smal").message
    assert "'avse-smal'" in message

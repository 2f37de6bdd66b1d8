"""The packages in `plugins/` are installed, found by their entry points, keep their contracts, and are of use."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import avse
from avse import plugins
from avse.conformance import run_checks

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
PLUGINS = ["fusion/bilinear", "fusion/caf", "mouth_tracker/face_mesh", "noise_model/student_t"]
# Checks that say nothing about a plugin, for good reasons; any other that does not apply is a fault.
NOT_APPLICABLE = {
    "noise_model/student_t": {"causal", "gradients", "score", "weights_round_trip"},
    "fusion/bilinear": {"audio_reliability", "streams"},
    "fusion/caf": {"audio_reliability", "streams"},
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_package_is_installed_from_here_and_says_what_it_is(folder: Path) -> None:
    found = [point for point in metadata.entry_points(group="avse.plugins") if point.module == folder.name]
    assert found, f"{folder.name} is not installed; `make install` installs it"
    assert {Path(point.load().__file__).parents[1] for point in found} == {folder}
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"pip install ./{folder.name}" in readme and "\n## Licence\n" in readme


@pytest.mark.slow
def test_a_fresh_process_finds_all_without_being_told_where() -> None:
    command = [sys.executable, "-m", "avse", "plugins"]
    listed = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert "Warning" not in listed.stderr
    lines = [line.replace(",", " ").split() for line in listed.stdout.splitlines()]
    names = {line[0]: set(line[1:]) for line in lines if line}
    missing = [one for one in PLUGINS if one.partition("/")[2] not in names[one.partition("/")[0]]]
    assert not missing


def test_packages_hold_these_plugins_and_no_others() -> None:
    for kind in plugins.KINDS:
        plugins.names(kind)
    assert sorted(f"{kind}/{name}" for kind, name in plugins.of_path(ROOT / "plugins")) == PLUGINS


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugin_keeps_its_contract(plugin: str) -> None:
    results = run_checks(plugins.get(*plugin.split("/")))
    wrong = [str(result) for result in results if not result.passed]
    assert not wrong, "\n".join(wrong)
    assert {result.check.name for result in results if not result.applicable} == NOT_APPLICABLE.get(plugin, set())


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("tf_masker", ["--fusion", "caf", "--fusion.heads", "2"]),
        ("tf_masker", ["--fusion", "bilinear"]),
        ("av_vae", ["--fusion", "bilinear", "--noise_model", "student_t", "--inference", "vem", "--key", "inference"]),
    ],
    ids=["caf", "bilinear", "student_t"],
)
def test_a_recipe_takes_the_plugin(recipe: str, changes: list[str], avse_command) -> None:
    outcome = avse_command("recipe", "check", ROOT / f"recipes/Synthetic/hparams/{recipe}.yaml", *changes)
    assert outcome.status == 0, outcome.err
    assert ("no gradient reaches" in outcome.out) == ("inference" in changes)  # an inference learns nothing


def test_the_mouth_of_a_clip_is_followed(talk: Path) -> None:
    clip = avse.read_clip(talk, tracker="face_mesh")
    usual = avse.read_clip(talk)
    assert clip.valid.all()
    alike = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(clip.mouth, usual.mouth)]
    assert min(alike) > 0.9, "the crops are not those of the built-in tracker"

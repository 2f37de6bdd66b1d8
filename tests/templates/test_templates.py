"""Every template, written under another name, is a plugin that works: checks, examples, style, package, recipe."""

from __future__ import annotations

import doctest
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avse import plugins
from avse.conformance import run_checks
from avse.new import MAX_NAME, create

ROOT = Path(__file__).resolve().parents[2]
RUFF = Path(sys.executable).with_name("ruff")
MODEL = "--model.channels 16 --model.blocks 2 --model.fusion_block 1"
SMALL = f"{MODEL} --visual_frontend.output_dim 8 --visual_frontend.channels [4]"
TINY = f"{SMALL} --batch_size 2 --train_set.seconds 0.6 --valid_set.seconds 0.6 --valid_size 2 --steps_per_epoch 2"


def random_name(kind: str) -> str:
    """A valid name of three words, the same in every run."""
    draw = random.Random(kind)
    words = ["".join(draw.choices("bcdfghjklmnpqrstvwxyz", k=draw.randint(1, 6))) for _ in range(2)]
    return "_".join([*words, f"z{draw.randint(0, 99)}"])


def loaded(kind: str, name: str, path: Path) -> type:
    assert [str(problem) for problem in plugins.load_path(path)] == []
    return plugins.get(kind, name)


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_a_new_plugin_passes_its_checks_and_its_example_runs(kind: str, tmp_path: Path) -> None:
    name = random_name(kind)
    created = create(kind, name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.py"]
    cls = loaded(kind, name, created.path)
    assert cls.__name__ == "".join(word.capitalize() for word in name.split("_"))
    failed = [str(result) for result in run_checks(cls) if not result.passed]
    assert not failed, "\n".join(failed)
    tried = doctest.testmod(sys.modules[cls.__module__], optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried.attempted and not tried.failed
    text = created.path.read_text(encoding="utf-8")
    assert "CHANGE" in text and "KEEP" in text and "my_plugin" not in text.lower() and "myplugin" not in text.lower()


@pytest.mark.parametrize("width", [88, 120])
def test_what_is_written_is_formatted_and_linted(width: int, tmp_path: Path) -> None:
    for kind in plugins.KINDS:
        create(kind, f"{kind}_{'x' * (MAX_NAME - len(kind) - 1)}", tmp_path)
        create(kind, f"p{list(plugins.KINDS).index(kind)}", tmp_path / "packages", package=True)
    create("recipe", "MY_CORPUS", tmp_path)
    style = ["--isolated", "--line-length", str(width)]
    rules = "E4,E7,E9,F,I,UP,B,SIM" if width == 88 else "E,F,I,UP,B,SIM"
    for command in (["format", "--diff", *style], ["check", "--select", rules, "--ignore", "B905", *style]):
        for folder in (tmp_path, tmp_path / "packages"):
            done = subprocess.run(
                [RUFF, *command, "--exclude", "packages" if folder == tmp_path else "none", "."],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["fusion", "visual_frontend", "enhancer"])
def test_the_printed_command_swaps_a_part_of_a_recipe(kind: str, tmp_path: Path, avse_command: Callable) -> None:
    """`avse train RECIPE ...`, with `recipe check` in its place, builds the model and runs it both ways."""
    created = create(kind, random_name(kind), tmp_path)
    words = shlex.split(dict(created.commands)["Use it"])
    assert words[:3] == ["avse", "train", "RECIPE"]
    recipe = ROOT / "recipes" / "Synthetic" / "hparams" / "tf_masker.yaml"
    done = avse_command(
        "recipe", "check", recipe, *words[3:], "--model.channels", 16, "--visual_frontend.output_dim", 8
    )
    assert done.status == 0, done.err
    assert "no gradient" not in done.out


def test_the_printed_command_trains_a_prior(tmp_path: Path, avse_command: Callable) -> None:
    created = create("prior", "my_prior", tmp_path)
    words = shlex.split(dict(created.commands)["Use it"])[3:]
    recipe = ROOT / "recipes" / "Synthetic" / "hparams" / "av_vae.yaml"
    done = avse_command("recipe", "check", recipe, *words, "--model.hidden_dim", 16)
    assert done.status == 0, done.err


def test_new_noise_models_and_inferences_serve_a_trained_prior(
    talk: Path, tmp_path: Path, avse_command: Callable
) -> None:
    from avse.model import Model
    from avse.recipe import load_recipe

    text = (ROOT / "recipes" / "Synthetic" / "hparams" / "vae.yaml").read_text(encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "recipe.yaml", {"hidden_dim": "8"})
    text = recipe.subrecipe("inference")
    Model(recipe.build("inference")["inference"], text, "vae").save(tmp_path / "model")
    for kind in ("noise_model", "inference"):
        created = create(kind, f"my_{kind}", tmp_path)
        words = shlex.split(dict(created.commands)["Use it"])
        assert words[:5] == ["avse", "--plugins", str(created.path), "enhance", "talk.mp4"]
        words[words.index("talk.mp4")], words[words.index("MODEL")] = str(talk), str(tmp_path / "model")
        done = avse_command(*words[1:], "-o", tmp_path / f"{kind}.wav", "--no-video", "--inference.iterations", 2)
        assert done.status == 0, done.err
        assert (tmp_path / f"{kind}.wav").is_file()


def test_new_metrics_and_corruptions_take_part_in_an_evaluation(
    talk: Path, tiny_model: Path, tmp_path: Path, avse_command: Callable
) -> None:
    from avse.data.audio import read_audio, write_audio

    write_audio(tmp_path / "clean.wav", read_audio(talk))
    shutil.copy(talk, tmp_path / "talk.mp4")
    (tmp_path / "manifest.csv").write_text("id,clean,noisy,video\na,clean.wav,clean.wav,talk.mp4\n")
    metric, corruption = (create(kind, f"my_{kind}", tmp_path / "mine") for kind in ("metric", "corruption"))
    words = shlex.split(dict(metric.commands)["Use it"]) + shlex.split(dict(corruption.commands)["Use it"])[-2:]
    words[words.index("--plugins") + 1] = str(tmp_path / "mine")
    for placeholder, value in {
        "MANIFEST": tmp_path / "manifest.csv",
        "avse-small": tiny_model,
        "results/scores": tmp_path / "scores",
    }.items():
        words[words.index(placeholder)] = str(value)
    done = avse_command(*words[1:])
    assert done.status == 0, done.err
    header, scores = (tmp_path / "scores" / "scores.csv").read_text().splitlines()[:2]
    assert "my_metric" in header.split(",") and len(scores.split(",")) == len(header.split(","))


def test_a_new_tracker_reads_a_clip(talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = create("mouth_tracker", "my_tracker", tmp_path)
    shutil.copy(talk, tmp_path / "talk.mp4")
    monkeypatch.chdir(tmp_path)
    _, option, code = shlex.split(dict(created.commands)["Use it"])
    assert option == "-c"
    names: dict = {}
    exec(code.replace("avse.read_clip", "clip = avse.read_clip"), names)
    assert names["clip"].valid.mean() > 0.5


@pytest.mark.slow
def test_a_package_is_found_by_its_entry_point_and_passes_its_own_test(tmp_path: Path) -> None:
    created = create("fusion", "my_fusion", tmp_path, package=True)
    written = {path.relative_to(created.path).as_posix() for path in created.path.rglob("*") if path.is_file()}
    mask = {"my_fusion/__init__.py", "my_fusion/my_fusion.py", "tests/test_my_fusion.py"}
    assert written == {"README.md", "pyproject.toml", *mask}
    # What `pip install --target` leaves, without pip, which would want the network.
    build = "from setuptools import setup; setup()"
    site = tmp_path / "site"
    site.mkdir()
    steps = ["-q", "egg_info", "--egg-base", str(site), "build", "--build-lib", str(site)]
    subprocess.run([sys.executable, "-c", build, *steps], cwd=created.path, check=True, capture_output=True)
    assert not list(site.glob("tests"))
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import pytest
from avse import plugins
assert plugins.get("fusion", "my_fusion").__module__ == "my_fusion.my_fusion"
assert plugins.place("fusion", "my_fusion").startswith(sys.argv[1])
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=created.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_the_folder_of_a_package_can_be_checked_as_it_is(kind: str, tmp_path: Path) -> None:
    created = create(kind, f"packed_{kind}", tmp_path, package=True)
    cls = loaded(kind, f"packed_{kind}", created.path)
    assert cls.__doc__ and cls.plugin_name == f"packed_{kind}"
    project = (created.path / "pyproject.toml").read_text(encoding="utf-8")
    assert f'name = "avse-packed-{kind.replace("_", "-")}"' in project
    assert f'packed_{kind} = "packed_{kind}"' in project
    readme = (created.path / "README.md").read_text(encoding="utf-8")
    assert f"{kind}/packed_{kind}" in readme and "my_" not in readme and "MY_" not in readme


@pytest.mark.slow
def test_a_new_recipe_prepares_and_trains(tmp_path: Path, avse_command: Callable) -> None:
    from avse.data.manifest import check_splits, read_manifest

    synthetic = plugins.get("dataset", "synthetic")(
        clips=4, speakers=4, noises=3, seconds=(0.7, 0.8), noise_seconds=1.0
    )
    corpus = tmp_path / "corpus"
    for row in read_manifest(synthetic.prepare(tmp_path / "made")):
        for file in filter(None, (row.clean, row.video, row.noise)):
            target = corpus / (row.speaker or "noise") / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)
    created = create("recipe", "Four-Talkers", tmp_path)
    assert created.path == tmp_path / "Four-Talkers"
    commands = [shlex.split(command) for _, command in created.commands]
    words = [str(corpus) if word == "FOLDER" else word for word in commands[1]]
    prepared = avse_command(*words[1:])
    assert prepared.status == 0, prepared.err
    rows = read_manifest(corpus / "manifest.csv")
    check_splits(rows)
    assert len(rows) == 7 and {row.split for row in rows if row.kind == "noise"} == {"train", "dev", "test"}
    assert all(row.video is not None for row in rows if row.kind == "speech")
    words = [word.replace("FOLDER", str(corpus)) for word in commands[2]]
    places = ["--cache_folder", tmp_path / "cache", "--output_folder", tmp_path / "run"]
    trained = avse_command(*words[1:], *TINY.split(), *places, "--debug", "--no-progress", "--device", "cpu")
    assert trained.status == 0, trained.err
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    readme = (created.path / "README.md").read_text(encoding="utf-8")
    assert "# Four-Talkers" in readme and "prepare four_talkers FOLDER" in readme and "MY_CORPUS" not in readme

"""The command: help, mistakes, plugins, recipes, corpora; `avse enhance` has its own tests."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avse import plugins
from avse.cli.options import split_arguments
from avse.errors import AvseError

MINE = """
from avse.contracts.corruption import Corruption
from avse.plugins import register

@register("corruption", "{name}")
class Mine(Corruption):
    '''Blackens the crops.

    Arguments
    ---------
    severity : int
    '''
    def __call__(self, mouth, valid, rng):
        {body}
"""
RECIPE = """\
seed: 1
data: !PLACEHOLDER
channels: 16
fusion: !new:avse.plugins.fusion.concat
    audio_dim: !ref <channels>
    video_dim: 8
model: !new:avse.plugins.enhancer.tf_masker
    visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp {output_dim: 8, hidden_dim: 8, size: 11}
    fusion: !ref <fusion>
    channels: !ref <channels>
    blocks: 2
    fusion_block: 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a file with a plugin; it is forgotten after the test."""

    def write(name: str = "blacken", body: str = "return mouth // (2 * self.severity), valid.copy()") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(MINE.format(name=name, body=body))
        return path

    plugins.names("corruption")
    monkeypatch.setattr(plugins, "_REGISTRY", {kind: dict(found) for kind, found in plugins._REGISTRY.items()})
    monkeypatch.setattr(plugins, "_PROBLEMS", list(plugins._PROBLEMS))
    return write


def test_help_names_every_verb_and_each_verb_has_help(avse_command: Callable) -> None:
    groups = {
        "Use": ("enhance", "separate", "generate", "embed", "retrieve", "export", "models", "stream", "live", "web"),
        "Experiment": ("train", "evaluate", "compare", "study"),
        "Data": ("prepare", "scenes", "mix", "shards"),
        "Develop": ("new", "check", "plugins", "recipe"),
    }
    shown = avse_command("--help")
    panels = dict(re.findall(r"╭─ (\w+) ─+╮\n(.*?)╰", shown.out, re.DOTALL))
    assert shown.status == 0 and list(panels) == ["Options", *groups]
    for group, verbs in groups.items():
        assert re.findall(r"^│ (\w+)", panels[group], re.M) == list(verbs)
        for verb in verbs:
            assert avse_command(verb, "--help").status == 0
    studies = avse_command("study", "--help").out
    assert all(f"│ {name} " in studies for name in ("robustness", "calibration", "lips", "probe"))
    assert avse_command("calibrate", "--help").status == 0
    assert avse_command("--version").out.startswith("avse 0.")


@pytest.mark.parametrize("arguments", [["enhanse"], ["evaluate"], ["plugins", "--what"], ["mix"]])
def test_wrong_usage_is_told_with_status_2(arguments: list[str], avse_command: Callable) -> None:
    outcome = avse_command(*arguments)
    assert outcome.status == 2 and "Traceback" not in outcome.err


def test_interruption_ends_with_status_130_and_one_line(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("avse.recipe.load_recipe", interrupt)
    outcome = avse_command("recipe", "explain", recipe)
    assert outcome.status == 130 and len(outcome.err.splitlines()) == 1


def test_the_process_prints_a_mistake_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "avse", "recipe", "explain", str(tmp_path / "no.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"Error: {tmp_path / 'no.yaml'}: cannot read the recipe (No such file or directory).\n"


# --- plugins --------------------------------------------------------------------------------------------------------


def test_plugins_lists_kinds_a_kind_and_a_plugin(avse_command: Callable) -> None:
    everything = avse_command("plugins").out
    assert all(kind in everything for kind in plugins.KINDS)
    assert "cross_attention" in everything and "scene_clip" in everything
    kind = avse_command("plugins", "fusion").out
    assert "film" in kind and "avse.contracts.fusion.Fusion" in kind and "pixel_mlp" not in kind
    assert "delta(audio, video, valid)" in kind and "video : tensor, shape (batch, frames, video_dim)" in kind
    assert "__init__(audio_dim, video_dim)" in kind and "avse new fusion NAME" in kind
    plugin = avse_command("plugins", "fusion/cross_attention").out
    assert "!new:avse.plugins.fusion.cross_attention" in plugin
    assert "audio_dim: !PLACEHOLDER" in plugin and "heads: 4" in plugin


def test_a_plugin_from_a_file_is_listed_and_problems_are_warned_of(
    mine: Callable[..., Path], tmp_path: Path, avse_command: Callable
) -> None:
    mine()
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    outcome = avse_command("--plugins", tmp_path, "plugins", "corruption")
    assert outcome.status == 0 and "blacken" in outcome.out
    assert f"Warning: {tmp_path / 'broken.py'}:1: broken.py: cannot be imported" in outcome.err
    assert "no such file or folder" in avse_command("--plugins", tmp_path / "none", "plugins").message
    assert "Did you mean 'corruption'" in avse_command("plugins", "corupption").message
    assert "Did you mean 'blur'" in avse_command("plugins", "corruption/blurr").message


def test_check_says_what_a_plugin_keeps_and_breaks(mine: Callable[..., Path], avse_command: Callable) -> None:
    good = avse_command("check", mine())
    assert good.status == 0 and "corruption/blacken" in good.out and "FAIL" not in good.out
    bad = avse_command("check", mine("shorten", "return mouth[1:], valid[1:]"))
    assert bad.status == 1 and re.search(r"^shapes +FAIL", bad.out, re.M)
    assert re.search(r"^refuses_severity +pass", bad.out, re.M)
    named = avse_command("check", "corruption/frozen")
    assert named.status == 0 and len(re.findall(r"^\w+ +pass ", named.out, re.M)) >= 8


def test_check_of_what_is_no_plugin(tmp_path: Path, avse_command: Callable) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert "registers no plugin" in avse_command("check", tmp_path / "empty.py").message
    (tmp_path / "broken.py").write_text("1 / 0\n")
    broken = avse_command("check", tmp_path / "broken.py")
    assert broken.status == 1 and "broken.py:1" in broken.out and "ZeroDivisionError" in broken.out


# --- recipes --------------------------------------------------------------------------------------------------------


def test_recipe_explain(recipe: Path, avse_command: Callable) -> None:
    outcome = avse_command("recipe", "explain", recipe, "--fusion", "cross_attention", "--fusion.heads=2")
    assert outcome.status == 0
    assert "fusion: fusion/cross_attention   (--fusion)" in outcome.out
    assert "heads     = 2 (default 4)" in outcome.out
    assert re.search(r"instead: additive,.* concat,", outcome.out)
    assert "model.visual_frontend: visual_frontend/pixel_mlp" in outcome.out
    assert "must be given: --data VALUE" in outcome.out


def test_recipe_check(recipe: Path, avse_command: Callable) -> None:
    outcome = avse_command("recipe", "check", recipe)
    assert outcome.status == 0, outcome.err
    assert "speech       (2, 16000)" in outcome.out and "reliability  (2, 25)" in outcome.out
    assert "parameters" in outcome.out and "no gradient" not in outcome.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fusion.head", "2"], "fusion/concat takes no argument 'head'"),
        (["--chanels", "2"], "Did you mean 'channels'"),
        (["--channels"], "--channels needs a value"),
        (["--channels", "1", "--channels", "2"], "--channels is given twice"),
        (["-x", "1"], "options are written --key value"),
        (["another.yaml"], "Give one recipe"),
        (["--channels", "17"], "building avse.plugins.enhancer.tf_masker failed"),
        (["--plugins", "nothing.py"], "no such file or folder"),
    ],
)
def test_recipe_mistakes(recipe: Path, arguments: list[str], said: str, avse_command: Callable) -> None:
    assert said in avse_command("recipe", "check", recipe, *arguments).message


def test_free_arguments_come_in_any_order() -> None:
    expected = (["r.yaml"], {"a.b": "1", "c": "-2", "d_e": ""})
    for words in (["r.yaml", "--a.b", "1", "--c", "-2", "--d-e="], ["--c", "-2", "--a.b=1", "r.yaml", "--d-e="]):
        assert split_arguments(words) == expected


def test_own_plugins_anywhere_on_the_line_and_kept_in_the_recipe(
    recipe: Path, tmp_path: Path, avse_command: Callable
) -> None:
    """`--plugins` before or after the verb; a recipe that was told once says it again; a model names what it lacks."""
    from avse import plugins
    from avse.recipe import check_trusted, load_recipe

    def own(name: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(
            "from avse import plugins\n\n\n"
            f'@plugins.register("fusion", "{name}")\nclass OwnSum(plugins.get("fusion", "additive")):\n'
            '    """A sum."""\n'
        )
        return path

    words = ["recipe", "explain", recipe, "--fusion"]
    assert "--plugins FILE_OR_FOLDER" in avse_command(*words, "own_sum").message
    lines = {
        "own_a": [*words, "own_a", "--plugins", own("own_a")],
        "own_b": ["--plugins", own("own_b"), *words, "own_b"],
        "own_c": [*words[:2], f"--plugins={own('own_c')}", *words[2:], "own_c"],
    }
    try:
        for name, line in lines.items():
            outcome = avse_command(*line)
            assert outcome.status == 0 and f"fusion: fusion/{name}" in outcome.out, outcome.err
        loaded = load_recipe(recipe, {"fusion": "own_d"}, [own("own_d")])
        assert f'plugins: ["{tmp_path / "own_d.py"}"]' in loaded.text
        again = tmp_path / "elsewhere.yaml"
        again.write_text(loaded.text)
        assert load_recipe(again).text == loaded.text
    finally:
        for name in (*lines, "own_d"):
            plugins.forget("fusion", name)
    with pytest.raises(AvseError, match="needs plugins that are not there: fusion/own_sum"):
        check_trusted("fusion: !new:avse.plugins.fusion.own_sum {audio_dim: 4, video_dim: 2}", "model/recipe.yaml")


def test_train_tells_what_a_recipe_lacks(recipe: Path, avse_command: Callable) -> None:
    assert "recipe.yaml:2: data: give --data VALUE" in avse_command("train", recipe).message
    assert "Give one recipe" in avse_command("train").message


# --- corpora --------------------------------------------------------------------------------------------------------


def test_a_test_set_from_nothing_to_noisy_files(tmp_path: Path, avse_command: Callable) -> None:
    small = ["--clips", "6", "--speakers", "6", "--noises", "3", "--seconds=[0.6,0.7]", "--noise-seconds", "1"]
    made = avse_command("prepare", "synthetic", tmp_path / "corpus", *small)
    assert made.status == 0, made.err
    manifest = Path(made.out.strip())
    drawn = avse_command(
        "scenes", manifest, "-o", tmp_path / "s.csv", "--snr", "0", "--snr", "-5", "--condition", "recorded"
    )
    assert drawn.status == 0 and drawn.out.endswith("s.csv\n"), drawn.err
    mixed = avse_command("mix", tmp_path / "s.csv", "--manifest", manifest, "-o", tmp_path / "mix")
    assert mixed.status == 0, mixed.err
    with open(mixed.out.strip(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted({row["snr"] for row in rows}) == ["-5", "0"]
    assert all((tmp_path / "mix" / row["noisy"]).is_file() for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prepare", "grid"], "prepare needs a dataset and a folder"),
        (["prepare", "gird", "x"], "Did you mean 'grid'"),
        (["prepare", "synthetic", "x", "--clip", "3"], "--clip: dataset/synthetic takes no argument 'clip'"),
        (["prepare", "synthetic", "x", "--clips", "few"], "--clips: dataset/synthetic wants a whole number here"),
        (["prepare", "synthetic", "x", "--clips", "1"], "must be at least 3"),
        (["prepare", "manifest", "x", "--download"], "by hand"),
        (["mix", "no.csv", "--manifest", "no.csv", "-o", "x"], "no.csv"),
        (["compare", "one"], "at least two folders"),
        (["evaluate", "--manifest", "no.csv", "-o", "x", "--model", "avse-small"], "no.csv"),
    ],
)
def test_mistakes_of_other_verbs(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in avse_command(*arguments).message
    assert not list(tmp_path.iterdir())


def test_an_unknown_error_is_not_hidden(recipe: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("avse.recipe.load_recipe", fail)
    with pytest.raises(ZeroDivisionError):
        avse_command("recipe", "explain", recipe)


def test_build_plugin_takes_yaml_and_checks_it() -> None:
    from avse.cli.options import build_plugin

    assert build_plugin("corruption", "blur", {"severity": "5"}).severity == 5
    with pytest.raises(AvseError, match="Write false"):
        build_plugin("fusion", "cross_attention", {"audio_dim": "4", "video_dim": "4", "causal": "no"})


# --- options --------------------------------------------------------------------------------------------------------


def _verbs(command: Any = None, path: str = "avse") -> Iterator[tuple[str, Any]]:
    import typer

    from avse.cli.app import app

    command = command or typer.main.get_command(app)
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from _verbs(below, f"{path} {name}")
    else:
        yield path, command


def test_options_are_spelled_alike_in_every_verb() -> None:
    """One help text, one default and one type for each shared option; no list in a word; no old name."""
    shared: dict[str, set] = {}
    for path, command in _verbs():
        for parameter in command.params:
            if parameter.name in ("device", "jobs", "tracker", "crops", "roi", "force"):
                shared.setdefault(parameter.name, set()).add((parameter.help, parameter.default, *parameter.opts))
            if parameter.name == "output":
                assert parameter.opts == ["-o", "--output"], path
            assert "," not in (parameter.metavar or ""), path
            assert not {"--out", "--corruptions", "--severities"} & set(parameter.opts), path
    assert {name: len(spellings) for name, spellings in shared.items()} == dict.fromkeys(shared, 1)
    assert {default for _, default, *_ in shared["device"]} == {"auto"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "a", "b", "--out", "x"], "compare: --out is now called --output"),
        (["scenes", "no.csv", "--out=x.csv"], "scenes: --out is now called --output"),
        (["prepare", "grid", "nowhere", "--manifest", "x.csv"], "prepare: --manifest is now called --output"),
        (["generate", "--video", "nowhere.mp4"], "generate: --video is now called CLIP"),
        (["lips", "--model", "avse-small", "--manifest", "no.csv", "--out", "x"], "avse lips is now called avse study"),
        (["probe", "--model", "avse-small", "--manifest", "no.csv", "-o", "x"], "avse probe is now called avse study"),
        (["calibrate", "avse-small", "nowhere", "--out", "x"], "calibrate: --out is now called --output"),
    ],
)
def test_old_spellings_work_and_are_told_in_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = avse_command(*words)
    assert outcome.status == 1  # there is no such file
    first, *_, last = outcome.err.splitlines()
    assert first.startswith(f"avse: {said}") and first.endswith("The old name works until the next release.")
    assert last.startswith("Error: ") and outcome.err.count(said) == 1 and "FutureWarning" not in outcome.err


def test_an_old_name_anywhere_is_told_once_and_other_warnings_as_ever(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    import warnings

    from avse import compatibility

    def load(*_: object) -> None:
        for _ in range(2):
            compatibility.warn("doubt", "reliability_exponent", "recipe.yaml:3")
        warnings.warn("of torch", UserWarning, stacklevel=1)
        raise AvseError("enough")

    monkeypatch.setattr("avse.recipe.load_recipe", load)
    with pytest.warns(UserWarning, match="of torch"):
        outcome = avse_command("recipe", "explain", recipe)
    assert outcome.err.splitlines() == [
        "avse: recipe.yaml:3: doubt is now called reliability_exponent. The old name works until the next release.",
        "Error: enough",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["enhance", "TALK"],
        ["separate", "TALK", "--others", "1"],
        ["generate", "TALK"],
        ["embed", "TALK"],
        ["train", "RECIPE", "--data", "x"],
        ["evaluate", "--manifest", "MANIFEST", "--model", "avse-small", "-o", "x"],
        ["study", "robustness", "--manifest", "MANIFEST", "--model", "avse-small", "-o", "x"],
        ["study", "lips", "--manifest", "x.csv", "--model", "av-diffusion-small", "-o", "x"],
        ["study", "probe", "--manifest", "x.csv", "--model", "av-diffusion-small", "-o", "x"],
    ],
)
def test_a_device_that_is_not_there_is_refused_in_words(
    words: list[str], recipe: Path, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = talk.with_suffix(".csv")
    manifest.write_text("id,clean,noisy,video\na,talk.mp4,talk.mp4,talk.mp4\n")
    places = {"TALK": talk, "RECIPE": recipe, "MANIFEST": manifest}
    message = avse_command(*(places.get(word, word) for word in words), "--device", "cuda:99").message
    assert "There is no device 'cuda:99' here" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


def test_the_process_ends_with_its_status_and_what_it_said_but_takes_nothing_down() -> None:
    code = """
import atexit, sys
class Told:
    def __del__(self):
        print("taken down")
told = Told()
atexit.register(print, "at the end")
sys.argv[1:] = ["enhance", "nowhere.wav"]
from avse.cli.app import command
command()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "nowhere.wav: no such file" in done.stderr
    assert done.stdout == "at the end\n"


def test_the_entry_point_of_the_last_release_still_works() -> None:
    code = "import sys; from avse.cli import main; sys.argv[1:] = ['--version']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("avse ")
    assert "avse.cli.main is now called avse.cli.app.main" in done.stderr

"""What the README and the guide say is so: tables, commands, links and the example of a plugin."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse import plugins

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("recipes/*/README.md"))]


def _blocks(page: Path, *languages: str) -> list[str]:
    return [
        body
        for language, body in re.findall(r"```(\S*)[^\n]*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        if language in languages
    ]


def _commands(page: Path) -> list[list[str]]:
    """`avse ...` lines of shell blocks, split into words; also those of notebooks."""
    text = "\n".join(_blocks(page, "shell", "{code-cell}"))
    text = text.replace("\\\n", " ").replace(".venv/bin/", "")
    lines = re.findall(r"^ *(avse .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def _page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_table_of_plugins_is_complete() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is in the box")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| ([\w ,-]+?) +\| (.*) \|$", table, re.MULTILINE))
    listed = {title.removesuffix(" of the video"): set(re.findall(r"`(\w+)`", names)) for title, names in rows.items()}
    for kind in plugins.KINDS:
        title = {"visual_frontend": "visual front-end"}.get(kind, kind.replace("_", " "))
        names = {name for name in plugins.names(kind) if plugins.get(kind, name).__module__.startswith("avse.")}
        if names:
            assert listed[title] == names, kind
        else:
            assert title in "prior, noise model, inference, embedding", kind


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_commands_are_understood(page: Path) -> None:
    """Every verb and option exists; recipes load with the overrides given."""
    import typer

    from avse.cli.app import app
    from avse.cli.options import split_arguments
    from avse.recipe import load_recipe

    for words in _commands(page):
        command, rest = typer.main.get_command(app), words[1:]
        while rest[0] == "--plugins":
            rest = rest[2:]
        while getattr(command, "commands", None) and rest and rest[0] in command.commands:
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        free = command.context_settings.get("ignore_unknown_options", False)
        unknown = [word for word in rest if word.startswith("-") and not word.partition("=")[0].lstrip("-").isdigit()]
        unknown = [word for word in unknown if word not in known | {"--help", "--version"}]
        assert free or not unknown, f"{page.name}: {' '.join(words)}: {unknown}"
        made_here = {"--plugins", "filn", "$small", "TALKERS/hparams/tf_masker.yaml"}  # by the page itself, or wrong
        if words[1] in ("train", "recipe") and free and not made_here & set(words):
            rest = rest[: rest.index("|")] if "|" in rest else rest
            flags = {option for one in command.params if getattr(one, "is_flag", False) for option in one.opts}
            rest = [word for word in rest if word not in flags]
            [recipe], overrides = split_arguments(rest)
            load_recipe(ROOT / recipe, overrides)


# What makes a command of the README short, by its first words.
_SHORT = {
    "prepare synthetic": "--clips 12 --speakers 12 --noises 5 --seconds [0.7,0.8] --noise_seconds 1.0",
    "train": "--model.channels 16 --visual_frontend.output_dim 8 --visual_frontend.channels [4] --model.blocks 2 "
    "--train_set.seconds 0.6 --valid_set.seconds 0.6 --batch_size 2 --steps_per_epoch 2 --valid_size 2 "
    "--warmup_steps 1 --epochs 1 --manifest results/synthetic/manifest.csv --no-progress",
    "scenes": "--per-condition 2 --condition white",
    "generate": "--steps 2",
    "enhance talk.mp4 --model av-diffusion-small": "--inference.sampler.steps 2",
}


@pytest.mark.slow
def test_every_command_of_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    """In order, in a folder with the files they name: `talk.mp4` shows two faces, `film.mkv` has two audio tracks.

    `avse stream`, which reads and writes pipes, has tests of its own.
    """
    import av

    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    monkeypatch.chdir(tmp_path)
    (audio, left, _), (_, right, _) = (synthesize_clip(seed=seed, speaker=seed, seconds=1.2) for seed in (5, 6))
    write_video(tmp_path / "talk.mp4", np.concatenate([left, right], axis=2), audio)
    write_video(tmp_path / "face.mp4", left, audio)
    soundfile.write(tmp_path / "audio.wav", audio, 16000)
    with av.open(str(tmp_path / "film.mkv"), "w") as film:
        for track in [film.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]:
            frame = av.AudioFrame.from_ndarray((audio[None] * 32767).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate = 16000
            film.mux([*track.encode(frame), *track.encode(None)])
    (tmp_path / "talks").mkdir()
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(tmp_path / "face.mp4", tmp_path / "talks" / name)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    try:
        for words in _commands(ROOT / "README.md"):
            if "<" in words:
                continue
            line = " ".join(words[1:])
            more = next((more for begin, more in _SHORT.items() if line.startswith(begin)), "")
            outcome = avse_command(*words[1:], *more.split())
            assert outcome.status == 0, f"{' '.join(words)}\n{outcome.out}{outcome.err}"
            assert "Traceback" not in outcome.err
        python = _blocks(ROOT / "README.md", "python")
        exec(next(block for block in python if "avse.load" in block), {})
        (tmp_path / "my_fusion.py").write_text(next(block for block in python if "@register" in block))
        for words in _commands(ROOT / "README.md"):
            if "my_fusion.py" in words and words[1] != "new":
                (tmp_path / "results" / "again").mkdir(exist_ok=True)
                more = f"{_SHORT['train']} --output_folder results/again" if words[1] == "train" else ""
                outcome = avse_command(*words[1:], *more.split())
                assert outcome.status == 0, f"{' '.join(words)}\n{outcome.out}{outcome.err}"
    finally:
        plugins.forget("fusion", "my_fusion")


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        generated = page.parent.name == "docs" and target.startswith(("api/", "plugins/"))
        assert generated or (page.parent / target).exists(), target


def test_example_of_a_plugin_passes_its_checks(tmp_path: Path) -> None:
    from avse.conformance import run_checks

    [shown] = [block for block in _blocks(ROOT / "README.md", "python") if "@register" in block]
    assert shown in _blocks(ROOT / "docs" / "plugins.md", "python")
    (tmp_path / "my_fusion.py").write_text(shown)
    try:
        assert not plugins.load_path(tmp_path / "my_fusion.py")
        failed = [str(result) for result in run_checks(plugins.get("fusion", "my_fusion")) if not result.passed]
        assert not failed, "\n".join(failed)
    finally:
        plugins.forget("fusion", "my_fusion")

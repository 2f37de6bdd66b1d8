"""What all verbs refuse before any work: outputs that are inputs, empty names, numbers that are none; and pipes."""

from __future__ import annotations

import inspect
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from avse.cli.options import WRITTEN, paths_of


def _verbs(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    import typer

    from avse.cli.app import app

    command = command or typer.main.get_command(app)
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from _verbs(below, (*words, name))
    else:
        yield words, command


def _required(verb: Any, given: set[str], value: Path) -> list[str]:
    """Words for what must be given beside `given`."""
    words: list[str] = []
    for parameter in verb.params:
        if parameter.name in given or not parameter.required:
            continue
        folder = parameter.name in WRITTEN or "Path" not in str(inspect.signature(verb.callback).parameters)
        text = str(value.with_name("other") if folder else value)
        words += [text] if parameter.param_type_name == "argument" else [parameter.opts[0], text]
    return words


_PAIRS = [
    (words, verb, written, read)
    for words, verb in _verbs()
    for written in verb.params
    if written.name in WRITTEN and written.name in paths_of(verb)
    for read in verb.params
    if read.name in paths_of(verb).symmetric_difference(WRITTEN) or read.name in ("inputs", "runs")
]


@pytest.mark.parametrize(
    ("words", "verb", "written", "read"), _PAIRS, ids=["-".join((*p[0], p[2].name, p[3].name)) for p in _PAIRS]
)
@pytest.mark.parametrize("linked", [False, True], ids=["name", "hard link"])
def test_no_verb_writes_what_it_reads(
    linked: bool, words: tuple[str, ...], verb: Any, written: Any, read: Any, tmp_path: Path, avse_command: Callable
) -> None:
    """Every option that is written, with every file that is read, under its own name and under another."""
    file = tmp_path / "mine.wav"
    file.write_bytes(b"not to be lost")
    other = tmp_path / "link.wav"
    os.link(file, other)
    line: list[object] = [*words]
    for parameter, value in ((read, file), (written, other if linked else tmp_path / "." / "mine.wav")):
        line += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    line += _required(verb, {written.name, read.name}, tmp_path / "absent.wav")
    assert "input itself" in avse_command(*line).message
    assert file.read_bytes() == other.read_bytes() == b"not to be lost"
    assert len(list(tmp_path.iterdir())) == 2


def test_every_path_of_every_verb_is_read_or_written() -> None:
    """A new option that is a path is either in `WRITTEN`, or known here as one that is read (or a cache)."""
    read = {"video", "clip", "mixture", "manifest", "estimates", "runs", "sweep", "scene_file", "crops", "cache_folder"}
    read |= {"more", "among"}
    for words, verb in _verbs():
        assert paths_of(verb) <= {*WRITTEN, *read}, words


@pytest.mark.parametrize(
    "line",
    [
        ["enhance", ""],
        ["enhance", "a.wav", "-o", ""],
        ["enhance", "a.wav", "--video", ""],
        ["separate", ""],
        ["generate", ""],
        ["mix", "", "--manifest", "m.csv", "-o", "x"],
        ["prepare", "synthetic", ""],
        ["train", ""],
        ["evaluate", "--manifest", "m.csv", "--model", "avse-small", "-o", ""],
        ["compare", "a", ""],
    ],
)
def test_an_empty_name_is_no_path(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "empty" in avse_command(*line).message
    assert not list(tmp_path.iterdir())


_NUMBERS = [
    (words, verb, parameter)
    for words, verb in _verbs()
    for parameter in verb.params
    if any(
        kind in str(inspect.signature(verb.callback, eval_str=True).parameters.get(parameter.name))
        for kind in ("int", "float")
    )
]


@pytest.mark.parametrize(("words", "verb", "number"), _NUMBERS, ids=["-".join((*n[0], n[2].name)) for n in _NUMBERS])
def test_every_number_has_a_range(
    words: tuple[str, ...],
    verb: Any,
    number: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    avse_command: Callable,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert number.min is not None
    rest = _required(verb, {number.name}, tmp_path / "absent.wav")
    for value in ("nan", "inf", "-inf", str(number.min - 1), *([str(number.max + 1)] if number.max else [])):
        outcome = avse_command(*words, f"{number.opts[0]}={value}", *rest)
        assert outcome.status in (1, 2) and "Traceback" not in outcome.err
        assert number.opts[0] in outcome.err or number.opts[-1] in outcome.err, outcome.err
    assert not list(tmp_path.iterdir())


def _piped(content: bytes, *arguments: object, folder: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "avse", *map(str, arguments)]
    return subprocess.run(command, input=content, capture_output=True, cwd=folder)


@pytest.mark.slow
def test_standard_input_and_output(talk: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A film comes back as a film, audio as audio, and messages go to stderr."""
    from avse.media import read_clip

    film = _piped(talk.read_bytes(), "enhance", "-", "--model", tiny_model, folder=tmp_path)
    assert film.returncode == 0 and b"mouth seen" in film.stderr, film.stderr
    (tmp_path / "film.mkv").write_bytes(film.stdout)
    assert read_clip(tmp_path / "film.mkv").valid.mean() > 0.9
    sound = io.BytesIO()
    soundfile.write(sound, read_clip(talk, use_video=False).audio, 16_000, format="WAV")
    voice = _piped(sound.getvalue(), "enhance", "-", "-o", "-", "--model", tiny_model, folder=tmp_path)
    assert voice.returncode == 0 and b"- -> - (" in voice.stderr, voice.stderr
    assert soundfile.info(io.BytesIO(voice.stdout)).duration == pytest.approx(read_clip(talk).audio.size / 16_000)
    assert [one.name for one in tmp_path.iterdir()] == ["film.mkv"]
    wrong = _piped(b"no audio", "enhance", "-", "-o", "-", "--model", tiny_model, folder=tmp_path)
    assert wrong.returncode == 1 and b"Error: -: not an audio" in wrong.stderr, wrong.stderr


def test_pipes_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable) -> None:
    monkeypatch.chdir(tmp_path)
    assert "one file each" in avse_command("enhance", "a.wav", "-o", "-", "--json", "-").message
    assert "folder" in avse_command("separate", "-").message
    assert not list(tmp_path.iterdir())


def test_a_name_that_begins_with_a_dash(
    talk: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avse_command: Callable
) -> None:
    from avse.media import read_clip

    monkeypatch.chdir(tmp_path)
    soundfile.write("-dash.wav", read_clip(talk, use_video=False).audio, 16_000)
    assert avse_command("enhance", "--model", tiny_model, "--", "-dash.wav").status == 0
    assert sorted(os.listdir()) == ["-dash.enhanced.wav", "-dash.wav"]

"""GRID in its layouts, and corpora described by a manifest."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from avse.data.audio import write_audio
from avse.data.manifest import check_splits, read_manifest, write_manifest
from avse.data.synthetic.recording import write_video
from avse.datasets.grid import Grid
from avse.datasets.manifest import Manifest
from avse.errors import AvseError


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    frames = np.random.default_rng(0).integers(0, 255, (10, 48, 64, 3), dtype=np.uint8)
    write_video(folder / "sound.mpg", frames, 0.1 * np.random.default_rng(0).standard_normal(6400))
    write_video(folder / "silent.mpg", frames)
    return folder


def put(film, *targets):
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, target)


@pytest.mark.parametrize(
    "layout", ["{0}/{1}.mpg", "video/mpg_6000/{0}/{1}.mpg", "{0}/video/mpg_6000/{1}.mpg", "a/{0}_processed/{1}.mpg"]
)
def test_layouts_of_grid(films, tmp_path, layout):
    put(films / "sound.mpg", *(tmp_path / layout.format(speaker, "pwij3p") for speaker in ("s1", "s2", "s3")))
    rows = read_manifest(Grid(dev=["s1"], test=["s3"]).prepare(tmp_path))
    assert {row.id: row.split for row in rows} == {"s1/pwij3p": "dev", "s2/pwij3p": "train", "s3/pwij3p": "test"}
    assert {row.speaker for row in rows} == {"grid_s1", "grid_s2", "grid_s3"} and rows[0].duration == 0.4
    assert {row.text for row in rows} == {"place white in j three please"}


def test_sound_beside_and_elsewhere(films, tmp_path, caplog):
    put(films / "silent.mpg", *(tmp_path / speaker / "a.mpg" for speaker in ("s1", "s2", "s3", "s4")))
    write_audio(tmp_path / "s1" / "a.flac", np.full(6400, 0.1))
    write_audio(tmp_path / "audio_25k" / "s2" / "a.wav", np.full(6300, 0.1))
    write_audio(tmp_path / "audio_25k" / "s3" / "a.wav", np.full(3000, 0.1))
    with caplog.at_level("WARNING", logger="avse"):
        rows = read_manifest(Grid(dev=["s1"], test=["s2"]).prepare(tmp_path))
    assert [row.id for row in rows] == ["s1/a", "s2/a"]
    assert rows[0].clean == tmp_path / "s1" / "a.flac" and rows[1].duration == 0.4
    assert "2 of 4 clips" in caplog.text and "lasts 0.19 s" in caplog.text and "has no audio" in caplog.text


def test_grid_refuses(films, tmp_path):
    with pytest.raises(AvseError, match="no video of GRID"):
        Grid().prepare(tmp_path)
    put(films / "sound.mpg", tmp_path / "s1" / "a.mpg", tmp_path / "s2" / "a.mpg")
    with pytest.raises(AvseError, match="three speakers"):
        Grid().prepare(tmp_path)
    with pytest.raises(AvseError, match="no clips of s9"):
        Grid(speakers=["s1", "s9"]).prepare(tmp_path)
    with pytest.raises(AvseError, match="s7 .* is not among"):
        Grid(dev=["s7"]).prepare(tmp_path)
    with pytest.raises(AvseError, match="s1 cannot be both"):
        Grid(dev=["s1"], test=["s1"])
    assert {row.split for row in read_manifest(Grid(dev=[], test=[]).prepare(tmp_path))} == {"train"}
    for broken in ("s1", "s2"):
        (tmp_path / broken / "a.mpg").write_text("no film")
    shutil.rmtree(tmp_path / "audio_16k")
    with pytest.raises(AvseError, match="2 of 2 clips cannot be used"):
        Grid(dev=[], test=[]).prepare(tmp_path)


def test_grid_of_the_shared_clips(data_folder, tmp_path):
    rows = read_manifest(
        Grid(speakers=["s2", "s3", "s22", "s23"]).prepare(data_folder / "av" / "grid", tmp_path / "m.csv")
    )
    check_splits(rows)
    known = {row.video.resolve(): row for row in read_manifest(data_folder / "manifest.csv", kinds=["av_speech"])}
    assert len(rows) == 7 and all(known[row.video.resolve()].text == row.text for row in rows)
    assert not (tmp_path / "audio_16k").exists(), "the sound lies beside the video already"


def test_manifest_reports_and_refuses(tmp_path):
    Manifest.write_example(tmp_path)
    text = Manifest().report(tmp_path)
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [["train", "1"], ["dev", "1"], ["test", "1"]]
    elsewhere = Manifest().prepare(tmp_path / "manifest.csv", tmp_path / "lists" / "all.csv")
    assert [row.clean for row in read_manifest(elsewhere)] == [
        row.clean for row in read_manifest(tmp_path / "manifest.csv")
    ]
    source = tmp_path / "manifest.csv"
    rows = [replace(row, speaker="bob") if row.kind == "speech" else row for row in read_manifest(source)]
    write_manifest(rows, source)
    with pytest.raises(AvseError, match="speaker 'bob'"):
        Manifest().prepare(tmp_path)
    assert Manifest(allow_speakers=["bob"]).prepare(tmp_path) == source

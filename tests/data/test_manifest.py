"""Manifests: what is read, what is refused and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from avse.data.manifest import Utterance, check_splits, keep_licences, read_manifest, write_manifest
from avse.errors import AvseError
from avse.recipe import load_recipe


def write(folder: Path, text: str, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_own_columns_round_trip_with_relative_paths(tmp_path):
    for name in ("in/a.wav", "in/n.flac", "out.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = [
        Utterance("a", clean=tmp_path / "in/a.wav", video=tmp_path / "out.mp4", speaker="bob", text='say "a, b"\nagain',
                  split="train", duration=1.25, extra={"language": "en"}),
        Utterance("n", noise=tmp_path / "in/n.flac", kind="noise", label="rain", recording="r1", split="dev", snr=-5.0),
    ]  # fmt: skip
    write_manifest(rows, tmp_path / "in" / "manifest.csv")
    assert read_manifest(tmp_path / "in" / "manifest.csv") == rows
    text = (tmp_path / "in" / "manifest.csv").read_text()
    assert ",a.wav," in text and ",../out.mp4," in text


def test_layout_with_kind_and_audio(tmp_path):
    path = write(
        tmp_path,
        "id,kind,split,audio,video,label,recording,image\n"
        "v,av_speech,train,v.wav,v.mp4,,,\ns,speech,train,s.wav,,,,\nn,noise,dev,n.wav,,rain,r1,\n"
        "i,image,train,,,dog,,i.jpg\n",
        "v.wav", "v.mp4", "s.wav", "n.wav", "i.jpg",
    )  # fmt: skip
    by_id = {one.id: one for one in read_manifest(path)}
    assert list(by_id) == ["v", "s", "n"]
    assert by_id["v"].clean == tmp_path / "v.wav" and by_id["v"].video == tmp_path / "v.mp4"
    assert by_id["n"].noise == tmp_path / "n.wav" and by_id["n"].clean is None and by_id["n"].kind == "noise"
    assert [one.id for one in read_manifest(path, kinds=["av_speech"])] == ["v"]
    assert [one.id for one in read_manifest(path, splits=["dev"])] == ["n"]
    [image] = read_manifest(path, kinds=["image"])
    assert image.extra["image"] == str(tmp_path / "i.jpg")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "manifest.csv", "is empty"),
        ("id,clean,split\n", "manifest.csv", "no rows"),
        ("name,clean\na,a.wav\n", "manifest.csv:1", "missing column id"),
        ("id,clean,clean\na,a.wav,\n", "manifest.csv:1", "appears twice"),
        ("id;clean\na;a.wav\n", "manifest.csv:1", "Separate the columns by commas"),
        ("id,audio,split\na,a.wav,dev\n", "manifest.csv:1", "kind"),
        ("id,clean,split\na,a.wav,valid\n", "manifest.csv:2", "Did you mean 'dev'"),
        ("id,clean,split\na,a.wav,dev\na,a.wav,dev\n", "manifest.csv:3", "already used in line 2"),
        ("id,clean,split\na,a.wav,dev,more\n", "manifest.csv:2", "4 cells where the header has 3"),
        ("id,clean,split\n,a.wav,dev\n", "manifest.csv:2", "id is empty"),
        ("id,clean,noise,kind\na,,a.wav,speech\n", "manifest.csv:2", "names no audio"),
        ("id,clean,snr\na,a.wav,loud\n", "manifest.csv:2", "snr 'loud'"),
        ("id,clean\na,b.wav\n", "manifest.csv:2", "does not exist"),
    ],
)
def test_wrong_manifests_are_refused_with_their_place(tmp_path, text, place, words):
    path = write(tmp_path, text, "a.wav")
    with pytest.raises(AvseError) as caught:
        read_manifest(path)
    assert place in str(caught.value) and words in str(caught.value)


def test_all_problems_are_told_together(tmp_path):
    rows = "".join(f"u{index},gone{index}.wav,train\n" for index in range(9))
    path = write(tmp_path, f"id,clean,split\n{rows}bad,a.wav,tset\n", "a.wav")
    with pytest.raises(AvseError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert "split 'tset'" in message and "gone0.wav" in message and "9 files do not exist" in message
    assert "gone8.wav" not in message


def test_not_text_and_not_there(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"id,clean\n\xff\xfe,a\n")
    with pytest.raises(AvseError, match="UTF-8"):
        read_manifest(tmp_path / "manifest.csv")
    with pytest.raises(AvseError, match="no such manifest"):
        read_manifest(tmp_path / "other.csv")
    with pytest.raises(AvseError, match="no split 'tran'"):
        read_manifest(tmp_path / "manifest.csv", splits=["tran"])


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    path = write(tmp_path, "\ufeffid,clean\n\na,a.wav\n,,\n".replace(",,\n", ",\n"), "a.wav")
    assert [one.id for one in read_manifest(path)] == ["a"]


def test_shared_speakers_and_recordings_are_refused():
    rows = [
        Utterance("a", speaker="bob", split="train", place="m.csv:2"),
        Utterance("b", speaker="bob", split="test", place="m.csv:3"),
        Utterance("n", kind="noise", recording="r", split="train", place="m.csv:4"),
        Utterance("o", kind="noise", recording="r", split="dev", place="m.csv:5"),
    ]
    with pytest.raises(AvseError) as caught:
        check_splits(rows)
    assert "speaker 'bob' is in train (m.csv:2) and test (m.csv:3)" in str(caught.value)
    assert "noise recording 'r'" in str(caught.value)
    with pytest.raises(AvseError, match="recording 'r'"):
        check_splits(rows, allow_speakers=["bob"])
    check_splits(rows[:3], allow_speakers=["bob"])


def test_two_rows_of_one_id_are_not_written(tmp_path):
    with pytest.raises(AvseError, match="id 'a'"):
        write_manifest([Utterance("a"), Utterance("a")], tmp_path / "m.csv")
    assert not list(tmp_path.iterdir())


def test_the_real_manifest(data_folder):
    utterances = read_manifest(data_folder / "manifest.csv")
    check_splits(utterances, allow_speakers=["grid_s1", "grid_s4"])
    with pytest.raises(AvseError, match="grid_s1"):
        check_splits(utterances)
    assert sum(one.video is not None for one in utterances if one.split == "test") == 464


def test_several_manifests_read_as_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").touch()
        (tmp_path / name / "manifest.csv").write_text(f"id,clean,speaker,split\n{name},a.wav,{name},train\n")
    found = read_manifest([tmp_path / "one" / "manifest.csv", tmp_path / "two" / "manifest.csv"])
    assert [(each.id, each.clean.parent.name) for each in found] == [("one", "one"), ("two", "two")]


def test_rows_are_kept_by_their_licence(tmp_path: Path) -> None:
    licences = {"a": "CC BY 4.0", "b": "CC BY 4.0 (VCTK)", "c": "CC BY 4.0 metadata", "d": "CC BY-NC 4.0 (x)", "e": ""}
    rows = "".join(f"{name},{name}.wav,{name},train,{licence}\n" for name, licence in licences.items())
    (tmp_path / "manifest.csv").write_text(f"id,clean,speaker,split,licence\n{rows}")
    for name in licences:
        (tmp_path / f"{name}.wav").touch()
    utterances = read_manifest(tmp_path / "manifest.csv")
    kept, left_out = keep_licences(utterances, ["CC BY 4.0", "not there"])
    assert [one.id for one in kept] == ["a", "b"]
    assert left_out == {"CC BY 4.0 metadata": 1, "CC BY-NC 4.0 (x)": 1, "not stated": 1}
    assert [one.id for one in keep_licences(utterances, ["CC BY 4.0 (VCTK)"])[0]] == ["b"]
    with pytest.raises(AvseError, match="no row .* 'CC BY 4.0 metadata'"):
        keep_licences(utterances, ["CC BY"])


def test_avse_free_takes_nothing_but_free_rows(data_folder: Path) -> None:
    licences = load_recipe("Manifest/avse_free", {"manifest": "m.csv"}).values["licences"]
    kept, left_out = keep_licences(read_manifest(data_folder / "manifest.csv"), licences)
    free = {"grid", "lombard_grid", "librispeech", "speechcmd", "vctk_p234", "ljspeech", "esc10", "amb", "scaper"}
    assert {one.dataset for one in kept} == free
    assert sum(left_out.values()) + len(kept) == len(read_manifest(data_folder / "manifest.csv"))
    assert not [one.extra["licence"] for one in kept if "NC" in one.extra["licence"] or "SA " in one.extra["licence"]]

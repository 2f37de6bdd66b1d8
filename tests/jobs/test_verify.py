"""`avse prepare --verify`: what is found in good and bad clips, and what training makes of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, read_manifest, write_manifest
from avse.data.speech_set import Pool, SpeechSet
from avse.errors import AvseError
from avse.jobs import verify as job
from avse.jobs.verify import verify


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of one synthetic mouth: fit for training, and with one fault each."""
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip
    from avse.media import read_clip

    folder = tmp_path_factory.mktemp("corpus")
    audio, frames, _ = synthesize_clip(seed=6, speaker=3, seconds=3.0)
    write_video(folder / "face.mp4", frames, audio)
    mouth = read_clip(folder / "face.mp4").mouth
    write_video(folder / "mouth.mp4", np.repeat(mouth[..., None], 3, axis=3), audio)
    write_video(folder / "black.mp4", np.zeros((75, 88, 88, 3), np.uint8), audio)
    sounds = {
        "good": audio,
        "late": np.roll(audio, 5 * 640),
        "silent": np.zeros_like(audio),
        "clipped": np.clip(80 * np.roll(audio, 16000), -1, 1),
        "backwards": audio[::-1],
        "unseen": 0.5 * audio,
    }
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.wav", sound, 16000)
    (folder / "broken.wav").write_bytes(b"RIFF not a sound")
    rows = [
        Utterance(
            name, clean=folder / f"{name}.wav", video=folder / "mouth.mp4", speaker=name, split="train", dataset="made"
        )
        for name in ("good", "late", "silent", "clipped", "backwards", "broken")
    ]
    rows += [
        Utterance(
            "unseen", clean=folder / "unseen.wav", video=folder / "black.mp4", speaker="u", duration=9.0, split="train"
        ),
        Utterance("again", clean=folder / "good.wav", video=folder / "mouth.mp4", speaker="other", split="dev"),
        Utterance("sound", noise=folder / "late.wav", kind="noise", recording="x", split="train"),
    ]
    write_manifest(rows, folder / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def found(corpus: Path) -> dict[str, dict[str, str]]:
    """The rows of `clips.csv`."""
    verify(corpus / "manifest.csv", corpus / "out", write=corpus / "new" / "manifest.csv")
    with open(corpus / "out" / "clips.csv", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("clip", "problem"),
    [
        ("good", "^$"),
        ("late", r"^audio 0\.20 s late \(confidence 9\d%\)$"),
        ("silent", "silent in 100% of its frames; no second in which"),
        ("clipped", "^clipped in .*% of its samples"),
        ("backwards", "^lips that say nothing"),
        ("broken", "^cannot be read$"),
        ("unseen", r"lasts 3\.\d+ s, not 9\.00 s; a mouth in 0% of its frames"),
        ("again", "^the same audio as good in train$"),
        ("sound", "^the same audio as late$"),
    ],
)
def test_each_fault_is_named(found: dict[str, dict[str, str]], clip: str, problem: str) -> None:
    import re

    assert re.search(problem, found[clip]["problems"]), found[clip]
    assert bool(found[clip]["error"]) == (clip == "broken")


def test_summary_and_report(corpus: Path, found: dict[str, dict[str, str]]) -> None:
    summary = json.loads((corpus / "out" / "summary.json").read_text())
    made = next(row for row in summary["by_split_and_dataset"] if row["dataset"] == "made")
    assert (made["clips"], made["errors"], made["with_video"], made["silent"], made["clipped"]) == (6, 1, 5, 1, 1)
    assert summary["duplicates_across_splits"] == 1
    assert summary["recordings"]["made: late"]["offset"] == 0.2
    report = (corpus / "out" / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 6  # "good" has no problem, "broken" no picture, "sound" no video
    assert "http" not in report


def test_a_second_call_looks_only_at_what_changed(
    corpus: Path, found: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    look = job._Worker.look
    monkeypatch.setattr(job._Worker, "look", lambda self, one: looked.append(one.id) or look(self, one))
    before = (corpus / "out" / "clips.csv").read_text()
    with open(corpus / "out" / "clips.jsonl", "a") as file:
        file.write('{"id": "good", "ke')  # killed while it wrote
    verify(corpus / "manifest.csv", corpus / "out")
    assert not looked and (corpus / "out" / "clips.csv").read_text() == before
    (corpus / "silent.wav").touch()
    verify(corpus / "manifest.csv", corpus / "out", splits=["train"])
    assert looked == ["silent"]


def test_the_new_manifest_aligns_and_weighs_training(corpus: Path, found: dict[str, dict[str, str]]) -> None:
    new = {row.id: row for row in read_manifest(corpus / "new" / "manifest.csv")}
    assert "broken" not in new and len(new) == 8
    assert (new["late"].offset, new["good"].offset) == (0.2, 0.0)
    assert (
        new["good"].weight > 0.6 > 0.5 > new["backwards"].weight and new["silent"].weight == 0 == new["unseen"].weight
    )
    cache = ClipCache(corpus / "out" / "cache")
    good, late = cache.mouth(new["good"]), cache.mouth(new["late"])
    assert np.array_equal(late[0][5:], good[0][:-5]) and not late[1][:5].any() and late[1][5:].all()
    drawn = SpeechSet(list(new.values()), cache, size=1)
    assert {row.id for row in drawn.utterances} == {"good", "late", "clipped", "backwards", "again"}
    shares = dict(zip((row.id for row in drawn.utterances), Pool(drawn.utterances).shares))
    assert shares["backwards"] / shares["good"] == pytest.approx(new["backwards"].weight / new["good"].weight)


@pytest.mark.parametrize("cell", ["offset=late", "offset=nan", "offset=99", "weight=-1", "weight=inf"])
def test_offsets_and_weights_that_make_no_sense(tmp_path: Path, cell: str) -> None:
    name, value = cell.split("=")
    (tmp_path / "a.wav").touch()
    (tmp_path / "m.csv").write_text(f"id,clean,{name}\na,a.wav,{value}\n")
    with pytest.raises(AvseError, match=rf"m\.csv:2: {name} "):
        read_manifest(tmp_path / "m.csv")


def test_the_command(corpus: Path, found: dict[str, dict[str, str]], tmp_path: Path, avse_command: Callable) -> None:
    manifest, before = corpus / "manifest.csv", (corpus / "manifest.csv").read_bytes()
    options = ["--report", corpus / "out", "--split", "train"]
    outcome = avse_command("prepare", "manifest", manifest, "--verify", *options, "--write", tmp_path / "new.csv")
    assert outcome.status == 0, outcome.err
    assert "train, made: 6 clips" in outcome.out and "1 errors" in outcome.out
    assert outcome.out.splitlines()[-2:] == [str(corpus / "out" / "report.html"), str(tmp_path / "new.csv")]
    taken = avse_command("prepare", "manifest", manifest, "--verify", "--report", corpus / "good.wav")
    assert "good.wav: cannot write there" in taken.message
    again = avse_command("prepare", "manifest", manifest, "--verify", *options, "--write", manifest)
    assert "is the input itself" in again.message and manifest.read_bytes() == before
    assert "go with --verify" in avse_command("prepare", "manifest", manifest, "--write", tmp_path / "x.csv").message

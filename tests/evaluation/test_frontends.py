"""The study of front-ends: networks that know the audio and such that do not, by the questions that all are asked."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from avse import plugins
from avse.contracts.types import Clip
from avse.data.manifest import Utterance, nested_subset, read_manifest, write_manifest
from avse.errors import AvseError
from avse.evaluation.studies import frontends
from avse.evaluation.studies.frontends import frontends_table, measure_frontends
from avse.nnet.lip_synchrony import LipReading, LipSynchrony
from avse.signal.levels import active_frames
from avse.training.lip_reading import SynchronyLoss


class Knows(torch.nn.Module):
    """Right levels and speaking, the audio's own embedding; or noise for all of them."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right, self.head, self.loss = right, torch.nn.Linear(2, 4), SynchronyLoss(bands=4)

    def forward(self, batch) -> LipReading:
        torch.manual_seed(int(batch.lengths.sum()))
        audio = batch.clean.unflatten(1, (batch.valid.shape[1], -1))[..., :8]
        if not self.right:
            noise = torch.randn_like(audio)
            return LipReading(noise[..., :4], noise, audio, torch.tensor(1.0), noise[..., 0].sigmoid())
        return LipReading(
            self.loss.levels(batch), audio, audio, torch.tensor(1.0), active_frames(batch.clean, 640).float()
        )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two speakers to train on, and of four to test."""
    made = plugins.get("dataset", "synthetic")(clips=8, speakers=6, noises=3, seconds=(0.9, 1.0), noise_seconds=0.5)
    path = made.prepare(tmp_path_factory.mktemp("corpus"))
    rows = [row for row in read_manifest(path) if row.video]
    names = sorted({row.speaker for row in rows})
    write_manifest([replace(row, split="train" if row.speaker in names[:2] else "test") for row in rows], path)
    return path


def test_who_knows_the_audio_finds_it(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path, device: str):
        right = folder.name == "right"
        return Knows(right), {"parameters": 9, "speakers": 4 if right else 2, "minutes": 3.0 if right else 1.0}

    monkeypatch.setattr(frontends, "_read", read)
    ask = dict(seconds=0.4, rivals=4, rivals_in_speaker=2, tracker="haar")
    summary = measure_frontends({"one": "right", "two": "wrong"}, manifest, tmp_path, **ask)
    right, wrong = (summary["runs"][name]["scores"]["all"] for name in ("one", "two"))
    assert right["found"]["mean"] == right["found_in_speaker"]["mean"] == 1.0 and right["correlation"]["mean"] > 0.999
    assert right["speaking_auc"]["n"] == 0 or right["speaking_auc"]["mean"] == 1.0
    assert wrong["found"]["mean"] < 0.7 and abs(wrong["correlation"]["mean"]) < 0.3
    assert wrong["found"]["difference"]["mean"] == pytest.approx(wrong["found"]["mean"] - 1.0)
    assert "two: 9 parameters, trained on 1 min of 2 speakers" in frontends_table(summary)
    assert json.loads((tmp_path / "frontends.json").read_text())["runs"]["one"]["scores"]["all"] == right
    with open(tmp_path / "frontends.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    seen = {row.speaker for row in read_manifest(manifest, splits=["train"])}
    assert {row["run"] for row in rows} == {"one", "two"} and not seen & {row["speaker"] for row in rows}
    assert (tmp_path / "frontends.png").stat().st_size > 1000
    with pytest.raises(AvseError, match="fewer than 999 windows"):
        measure_frontends({"one": "right"}, manifest, tmp_path / "no", **{**ask, "rivals": 999})


def test_rivals_are_as_long_and_of_the_right_speaker() -> None:
    clips = [
        Clip(np.zeros(640 * n, np.float32), np.zeros((n, 88, 88), np.uint8), np.ones(n, bool)) for n in (50, 30, 20)
    ]
    owners = [Utterance(str(i), dataset="x", speaker=who) for i, who in enumerate("aab")]
    windows = frontends._windows(clips, owners, 0.8, 2, 3, np.random.default_rng(0))
    assert [(one.clip, one.start) for one in windows] == [(0, 0), (0, 10), (0, 20), (0, 30), (1, 0), (1, 10), (2, 0)]
    asked = {place: one for place, one in enumerate(windows) if one.others is not None}
    assert sorted(asked) == [0, 2, 4, 6]
    for place, one in asked.items():
        assert place not in one.others and all((windows[rival].clip == 2) != (one.clip == 2) for rival in one.others)
        if one.in_speaker is not None:
            assert place not in one.in_speaker and all(windows[rival].clip < 2 for rival in one.in_speaker)
    assert asked[6].in_speaker is None


def test_a_run_and_bare_weights_are_read(manifest: Path, tmp_path: Path) -> None:
    frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=8, hidden_dim=4, size=4)
    model = LipSynchrony(frontend, bands=5, speaking=True)
    made = "visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp {output_dim: 8, hidden_dim: 4, size: 4}\n"
    (tmp_path / "recipe.yaml").write_text(f"{made}manifest: {manifest}\n")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    read, facts = frontends._read(tmp_path, "cpu")
    assert torch.equal(read.speaking.weight, model.speaking.weight) and read.head.out_features == 5
    rows = [row for row in read_manifest(manifest, splits=["train"]) if row.video]
    assert facts["clips"] == len(rows) and facts["speakers"] == len({row.speaker for row in rows})
    old = {name: value for name, value in model.state_dict().items() if not name.startswith("speaking")}
    safetensors.torch.save_file(old, tmp_path / "model.safetensors")
    assert frontends._read(tmp_path, "cpu")[0].speaking is None
    with pytest.raises(AvseError, match="holds no run"):
        frontends._read(tmp_path / "nothing", "cpu")


def test_subsets_are_nested_and_balanced_over_corpora() -> None:
    rows = [
        Utterance(f"{corpus}{who}/{clip}", dataset=corpus, speaker=f"{corpus}{who}")
        for corpus, speakers in (("x", 8), ("y", 4))
        for who in range(speakers)
        for clip in range(6)
    ]
    chosen = [{(row.dataset, row.speaker) for row in nested_subset(rows, count)} for count in (3, 6, 12)]
    assert chosen[0] < chosen[1] < chosen[2]
    assert [sum(corpus == "x" for corpus, _ in one) for one in chosen] == [2, 4, 8]
    shares = [{row.id for row in nested_subset(rows, share=share)} for share in (0.01, 0.5, 1.0)]
    assert shares[0] < shares[1] < shares[2] and [len(one) for one in shares] == [12, 36, 72]
    assert nested_subset(rows, 3, seed=1) != nested_subset(rows, 3)

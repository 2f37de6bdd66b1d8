"""Scores by corpus, with video and without, and of speakers who are silent."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_models import Watcher

from avse.contracts.types import Clip
from avse.data.rendering import read_mixtures
from avse.errors import AvseError
from avse.evaluation import compare, comparison_table, evaluate, read_scores
from avse.evaluation.conditions import items_of, sweep
from avse.evaluation.corpora import corpora_markdown
from avse.evaluation.studies.robustness import worst_cell

RATE = 16_000


@pytest.fixture
def mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two corpora of three speakers with two clips each in noise, one of them as it is, and a silent one."""
    import avse.media

    monkeypatch.setattr("avse.evaluation.report.write_report", lambda *arguments: None)
    monkeypatch.setattr("avse.evaluation.plots.robustness.plot_robustness", lambda summary: None)
    monkeypatch.setattr("avse.evaluation.plots.figure.save", lambda figure, path: None)

    def read_clip(path, video=None, **kwargs):
        video = path if video is None else video  # a span was asked for
        levels = 60 + 30 * int(video.stem[-1]) + np.arange(50)
        return Clip(np.zeros(32000, np.float32), np.broadcast_to(levels[:, None, None].astype(np.uint8), (50, 88, 88)))

    monkeypatch.setattr(avse.media, "read_clip", read_clip)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(14):
        corpus, speaker = "ab"[index % 2], index // 2 % 3
        silent, clean = index == 12, 0.1 * rng.standard_normal(16000)
        clean = np.convolve(clean, np.ones(8) / 8, "same") * (not silent)
        noisy = clean + 0.1 * rng.standard_normal(16000) * (index != 13)
        for part, audio in (("clean", clean), ("noisy", noisy)):
            soundfile.write(tmp_path / f"{index}_{part}.wav", audio, RATE, subtype="FLOAT")
        (tmp_path / f"{corpus}{speaker}.mp4").touch()
        rows.append(
            {
                "id": f"m{index}",
                "clean": f"{index}_clean.wav",
                "noisy": f"{index}_noisy.wav",
                "video": f"{corpus}{speaker}.mp4",
                "speaker": f"{corpus}{speaker}",
                "dataset": corpus,
                "condition": {12: "silent", 13: "clean"}.get(index, "babble"),
                "snr": -5 if index < 12 else "",
                "video_span": "20:23/25" if silent else "10:35",
            }
        )
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "manifest.csv"


METRICS = ("si_sdr_improvement", "si_sdr", "leakage")


def test_what_video_gains_by_corpus_and_over_speakers(mixtures: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", Watcher()
    summary = evaluate(mixtures, out, model=model, without_video=True, metrics=METRICS, keep_estimates=False)
    assert summary["n"] == 14 and len(model.clips) == 28 and not summary["failures"]
    shown = model.clips[0].mouth[:, 0, 0]
    assert shown.tolist() == [60 + frame for frame in range(10, 35)]  # the span alone
    result = json.loads((out / "results.json").read_text())
    assert result["videos"] == ["clean", "no_video"] and len(result["mixtures"]) == 14
    tables = {(one["condition"], one["metric"]): one["corpora"] for one in result["tables"]}
    assert set(tables) == {("babble", "si_sdr_improvement"), ("clean", "si_sdr"), ("silent", "leakage")}
    babble = tables["babble", "si_sdr_improvement"]
    assert set(babble) == {"a", "b", "all"} and babble["a"]["speakers"] == 3 and babble["all"]["speakers"] == 6
    for corpus in "ab":
        scores = [one for one in result["mixtures"] if (one["dataset"], one["condition"]) == (corpus, "babble")]
        seen, blind = np.array([one["scores"]["si_sdr_improvement"] for one in scores]).T
        cell = babble[corpus]
        assert cell["with"]["mean"] == pytest.approx(seen.mean(), abs=2e-3) and cell["mixtures"] == 6
        assert cell["difference"]["mean"] == pytest.approx((seen - blind).mean(), abs=2e-3)
        assert cell["difference"]["groups"] == 3
        names = sorted({one["speaker"] for one in scores})
        by_speaker = [(seen - blind)[[one["speaker"] == name for one in scores]].mean() for name in names]
        # No interval over speakers is wider than they are.
        assert min(by_speaker) - 1e-2 <= cell["difference"]["low"]
        assert cell["difference"]["high"] <= max(by_speaker) + 1e-2
    text = (out / "corpora.md").read_text()
    assert text == corpora_markdown(summary) and "| all | 6 | 12 | " in text and "gain by video" in text
    rows = read_scores(out)
    [silent] = [row for row in rows if row["condition"] == "silent"]
    assert silent["si_sdr"] is None and silent["leakage"] < 0 and silent["status"] == "ok"
    [clean] = [row for row in rows if row["condition"] == "clean"]
    assert clean["si_sdr"] > 0 and clean["si_sdr_improvement"] is None and clean["leakage"] is None
    again = evaluate(mixtures, out, model=model, without_video=True, metrics=METRICS, keep_estimates=False)
    assert len(model.clips) == 28 and again["corpora"] == summary["corpora"]
    with pytest.raises(AvseError, match="without_video"):
        evaluate(mixtures, tmp_path / "x", model=model, without_video=True, corruptions="blur")


def test_models_are_compared_by_corpus(mixtures: Path, tmp_path: Path) -> None:
    for name, width in (("one", 3), ("two", 5)):
        asked = {"metrics": METRICS, "keep_estimates": False, "label": name, "without_video": True}
        evaluate(mixtures, tmp_path / name, model=Watcher(width), **asked)
    result = compare([tmp_path / "one", tmp_path / "two"])
    found = result["metrics"]["si_sdr"]["differences"]["two"]
    [babble] = [one for one in result["video_gains"] if one["condition"] == "babble"]
    gains = [babble["gain"][name]["mean"] for name in ("one", "two")]
    assert babble["share"] == {"one": 1.0, "two": pytest.approx(gains[1] / gains[0])} and gains[0] > 0
    assert "gain by video, babble, -5 dB" in " ".join(comparison_table(result).columns[2].cells)
    cells = found["by_corpus"]["babble"]["-5"]
    assert set(cells) == {"a", "b"} and cells["a"]["groups"] == 3
    assert np.mean([cells[one]["mean"] for one in "ab"]) == pytest.approx(
        found["by_condition_snr"]["babble"]["-5"]["mean"]
    )


def test_a_sweep_tells_corpora_apart(mixtures: Path, tmp_path: Path) -> None:
    wrong = ["wrong_speaker", "wrong_speaker_same_corpus"]
    loaded = read_mixtures(mixtures)
    for item in items_of(loaded, sweep(wrong, [5]), loaded):
        [other] = item.others or [None]
        if item.condition.video == wrong[1]:
            assert other.dataset == item.mixture.first.dataset and other.speaker != item.mixture.first.speaker
    asked = {"corruptions": wrong, "severities": [5], "metrics": ("si_sdr", "leakage"), "keep_estimates": False}
    summary = evaluate(mixtures, tmp_path / "out", model=Watcher(), **asked)
    lines = list(csv.DictReader((tmp_path / "out" / "corruptions.csv").read_text().splitlines()))
    assert {line["dataset"] for line in lines} == {"", "a", "b"}
    worst = worst_cell(summary, "si_sdr")
    differences = [
        cell["scores"]["si_sdr"]["difference"]["mean"]
        for cell in summary["corruptions"]["cells"]
        if cell["severity"] is not None
    ]
    assert worst["scores"]["si_sdr"]["difference"]["mean"] == min(differences)
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["videos"] == ["clean", "no_video", *(f"{name}=5" for name in wrong)]
    assert len(result["corruptions"]) == len(summary["corruptions"]["cells"])

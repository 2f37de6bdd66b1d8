"""A sweep over corruptions of the video: what it runs, what it writes, and that its numbers are those of the rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_models import Faulty, Smoother, Watcher

from avse.contracts.types import Clip
from avse.errors import AvseError
from avse.evaluation import evaluate, read_scores, robustness_markdown
from avse.evaluation.conditions import items_of, sweep
from avse.evaluation.rows import read_rows
from avse.evaluation.studies.robustness import ANY

QUICK = {"metrics": ("si_sdr",), "keep_estimates": False}
ASKED = {"corruptions": ["null", "wrong_speaker", "missing"], "severities": [1, 5]}


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Films that were decoded; face number n shows crops of brightness 180 + 20 n, each frame a little brighter."""
    import avse.media

    films: list[str] = []

    def read_clip(path, video=None, **kwargs):
        films.append(video.name)
        levels = 180 + 20 * int(video.stem[-1]) + np.arange(25) // 2
        mouth = np.broadcast_to(levels[:, None, None], (25, 88, 88)).astype(np.uint8)
        return Clip(soundfile.read(path)[0], mouth)

    monkeypatch.setattr(avse.media, "read_clip", read_clip)
    return films


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else here."""
    monkeypatch.setattr("avse.evaluation.report.write_report", lambda *arguments: None)
    monkeypatch.setattr("avse.evaluation.plots.robustness.plot_robustness", lambda summary: None)
    monkeypatch.setattr("avse.evaluation.plots.figure.save", lambda figure, path: None)


def cell(summary: dict, video: str, severity: int | None = None) -> dict:
    [found] = [one for one in summary["corruptions"]["cells"] if (one["video"], one["severity"]) == (video, severity)]
    return found


@pytest.mark.slow
def test_a_sweep_runs_every_condition_and_says_what_each_does(make_mixtures, tmp_path: Path, tracked) -> None:
    manifest, out, model = make_mixtures(video=True), tmp_path / "out", Watcher()
    summary = evaluate(manifest, out, model=model, metrics=("si_sdr", "estoi"), **ASKED)
    assert sorted(tracked) == ["face0.mp4", "face1.mp4", "face2.mp4"]
    assert len(model.clips) == 6 * 8 and summary["n"] == 6 and summary["failures"] == []

    # What the model was given.
    first = {one: clip for one, clip in zip([(o.video, o.severity) for o in sweep(**ASKED)], model.clips)}
    assert first["clean", None].valid.all() and first["clean", None].mouth[0, 0, 0] == 180
    assert not first["no_video", None].valid.any()
    assert first["null", 5].valid.all() and not first["null", 5].mouth.any()
    assert not first["missing", 5].valid.any() and first["missing", 1].valid.sum() == 20
    other = first["wrong_speaker", 5].mouth[:, 0, 0]
    assert set(other) <= {*range(200, 233)} and first["wrong_speaker", 5].valid.all()
    assert (first["wrong_speaker", 1].mouth[:, 0, 0] >= 200).sum() == 5

    # Means and differences by hand.
    rows = {(row["id"], row["video"], row["severity"]): row for row in read_rows(out / "corrupted.csv")}
    assert len(rows) == 48
    ids = sorted({key[0] for key in rows})
    for metric in ("si_sdr", "estoi"):
        nothing = np.array([rows[one, "no_video", None][metric] for one in ids])
        for video, severity in [("clean", None), ("null", 1), ("null", 5), ("wrong_speaker", 5), ("missing", 1)]:
            scores = np.array([rows[one, video, severity][metric] for one in ids])
            found = cell(summary, video, severity)["scores"][metric]
            assert found["mean"] == pytest.approx(scores.mean()) and found["difference"]["n"] == 6
            assert found["difference"]["mean"] == pytest.approx((scores - nothing).mean())
            assert found["difference"]["low"] <= found["difference"]["mean"] <= found["difference"]["high"]
        both = [np.mean([rows[one, "null", level][metric] for level in (1, 5)]) for one in ids]
        assert cell(summary, "null")["scores"][metric]["mean"] == pytest.approx(np.mean(both))
    gone = cell(summary, "missing", 5)["scores"]["si_sdr"]["difference"]
    assert (gone["mean"], gone["low"], gone["high"]) == (0, 0, 0)  # to the bit what it is without video

    # The reliability against the truth, frame by frame.
    trusted = [rows[one, "clean", None]["clean_frames"] for one in ids]
    assert all(len(one) == 25 for one in trusted)
    assert cell(summary, "null", 5)["auc"] == 1.0 and cell(summary, "null", 5)["corrupted"] == 6 * 25
    distance = np.concatenate([1 - one for one in trusted]).sum() / (2 * 6 * 25)  # the black half is rightly distrusted
    assert cell(summary, "null", 5)["ece"] == pytest.approx(distance, abs=1e-4)
    assert cell(summary, "missing", 5)["auc"] is None and cell(summary, "missing", 5)["corrupted"] == 0
    assert cell(summary, "wrong_speaker", 1)["corrupted"] == 6 * 5
    assert 0 < cell(summary, ANY)["auc"] < 1 and cell(summary, "clean")["auc"] is None

    # Files.
    assert len(read_scores(out)) == 6 and (out / "corruptions.png").stat().st_size > 10_000
    assert len(list((out / "estimates").rglob("*.flac"))) == 6
    kept, _ = soundfile.read(out / "estimates" / "set" / "t0_0.flac")
    assert np.corrcoef(kept, model.enhance(first["clean", None]).speech.numpy())[0, 1] > 0.9999
    lines = list(csv.DictReader((out / "corruptions.csv").read_text().splitlines()))
    assert {(one["condition"], one["snr"]) for one in lines} == {
        (a, b) for a in ("", "pink", "white") for b in ("", "0", "5")
    }
    [line] = [
        one for one in lines if (one["condition"], one["snr"], one["video"], one["severity"]) == ("", "5", "null", "5")
    ]
    at_five = [
        rows[one, "null", 5.0]["estoi"] - rows[one, "no_video", None]["estoi"] for one in ids if one.endswith("_5")
    ]
    assert float(line["estoi_difference"]) == pytest.approx(np.mean(at_five), abs=1e-5) and line["n"] == "3"
    assert json.loads((out / "summary.json").read_text()) == summary
    text = (out / "corruptions.md").read_text()
    assert robustness_markdown(out, "estoi") in text and "| null | 1.00 | 1.00 | 1.00 |" in text
    html = (out / "report.html").read_text()
    assert "Bad video" in html and html.count("<td>wrong speaker</td>") == 4


@pytest.mark.usefixtures("undrawn", "tracked")
def test_a_sweep_goes_on_and_may_be_widened(make_mixtures, tmp_path: Path) -> None:
    manifest, out = make_mixtures(targets=2, snrs=(0.0,), video=True), tmp_path / "out"

    def stop(speech: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(manifest, out, model=Faulty({5: stop}), corruptions="null", severities=[2, 4], **QUICK)
    model = Faulty({})
    summary = evaluate(manifest, out, model=model, corruptions="null", severities=[2, 4], **QUICK)
    assert len(model.clips) == 3
    whole = evaluate(manifest, tmp_path / "whole", model=Faulty({}), corruptions="null", severities=[2, 4], **QUICK)
    assert summary["corruptions"] == whole["corruptions"]
    wider = Faulty({})
    summary = evaluate(manifest, out, model=wider, corruptions=["blur", "null"], severities=[4], **QUICK)
    assert len(wider.clips) == 2 and len(read_rows(out / "corrupted.csv")) == 10
    assert {one["video"] for one in summary["corruptions"]["cells"]} == {"clean", "no_video", "blur", "null", ANY}
    with pytest.raises(AvseError, match=r"(?s)other settings.*corruptions: \['blur=4', 'null=4'\] there, None now"):
        evaluate(manifest, out, model=Faulty({}), **QUICK)


@pytest.mark.usefixtures("undrawn", "tracked")
def test_what_fails_under_one_corruption_is_listed_and_left_out_of_its_means(make_mixtures, tmp_path: Path) -> None:
    def crash(speech: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory")

    asked = {"corruptions": ["null"], "severities": [3], **QUICK}
    manifest = make_mixtures(targets=2, snrs=(0.0, 5.0), video=True)
    summary = evaluate(manifest, tmp_path / "out", model=Faulty({5: crash, 7: crash}), **asked)
    failures = summary["corruptions"]["failures"]
    assert [(one["id"], one["video"], one["severity"]) for one in failures] == [
        ("set/t0_5", "null", 3),
        ("set/t1_0", "no_video", None),
    ]
    assert failures[0]["reason"] == "RuntimeError: out of memory" and summary["failures"] == []
    found = cell(summary, "null", 3)
    assert found["n"] == 3 and found["scores"]["si_sdr"]["difference"]["n"] == 2
    again = Smoother()
    assert evaluate(manifest, tmp_path / "out", model=again, overwrite=True, **asked)["corruptions"]["failures"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corruptions": ["blurr"]}, "blurr"),
        ({"corruptions": ["blur"], "severities": [7]}, "blur=7: severity must be 1, 2, 3, 4 or 5"),
        ({"corruptions": []}, "at least one corruption"),
        ({"corruptions": ["blur"], "use_video": False}, "goes with neither"),
        ({"corruptions": ["blur"], "corrupt": "blur=3"}, "goes with neither"),
        ({"severities": [3]}, "none is named"),
        ({"corruptions": ["blur"]}, "no row has a video"),
    ],
)
def test_sweeps_that_cannot_be(make_mixtures, tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(AvseError, match=message):
        evaluate(make_mixtures(targets=1), tmp_path / "out", model=Smoother(), **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn", "tracked")
def test_names_of_the_last_release_are_read(make_mixtures, tmp_path: Path) -> None:
    for path in (Path(__file__).parents[2] / "recipes" / "Manifest" / "robustness").glob("*.csv"):
        rows = read_rows(path)
        assert rows[1]["video"] == "clean" and "corrupted_frames" in rows[0] and rows[-1]["severity"] in (5.0, "mean")
    manifest, out = make_mixtures(targets=2, snrs=(0.0,), video=True), tmp_path / "out"
    summary = evaluate(manifest, out, model=Smoother(), corruptions="null", severities=[2], **QUICK)
    table = robustness_markdown(out)
    for name in ("corrupted.csv", "summary.json"):
        old = (
            (out / name)
            .read_text()
            .replace("clean_frames", "intact_frames")
            .replace("corrupted_frames", "spoiled_frames")
        )
        old = old.replace(",clean,", ",intact,").replace('"clean"', '"intact"').replace('"corrupted":', '"spoiled":')
        (out / name).write_text(old)
    assert robustness_markdown(out) == table
    again = Smoother()
    assert evaluate(manifest, out, model=again, corruptions="null", severities=[2], **QUICK) == summary
    assert again.clips == []


def test_another_speaker_is_chosen_by_name(make_mixtures) -> None:
    from avse.data.rendering import read_mixtures

    mixtures = read_mixtures(make_mixtures(targets=5, video=True))
    conditions = sweep(["wrong_speaker"], [5])
    items = [item for item in items_of(mixtures, conditions, mixtures) if item.condition.corrupts]
    assert all(item.others[0].speaker != item.mixture.first.speaker for item in items)
    assert len({(item.mixture.first.video, item.others[0].video) for item in items}) == 5  # one for each film
    some = [item for item in items_of(mixtures[3:5], conditions, mixtures) if item.condition.corrupts]
    assert [item.others[0].id for item in some] == [item.others[0].id for item in items[3:5]]
    alone = items_of(mixtures[:2], conditions, mixtures[:2])
    assert all(item.others in ((), (None,)) for item in alone)  # only its own face is there


@pytest.mark.slow
def test_the_command_sweeps_over_a_synthetic_corpus(
    tiny_model: Path, tmp_path: Path, avse_command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--clips", 4, "--speakers", 4, "--noises", 3, "--seconds", "[1.0, 1.2]", "--noise-seconds", 2)
    assert avse_command("prepare", "synthetic", "corpus", *small).status == 0
    drawn = ("-o", "test.csv", "--snr", 0, "--split", "train", "--condition", "recorded")
    assert avse_command("scenes", "corpus/manifest.csv", *drawn).status == 0
    assert avse_command("mix", "test.csv", "--manifest", "corpus/manifest.csv", "-o", "test").status == 0
    words = ["--manifest", "test/manifest.csv", "--model", tiny_model, "--limit", 2, "--no-estimates"]
    chosen = ["--corruption", "wrong_speaker", "--corruption", "missing", "--corruption", "null"]
    done = avse_command(
        "study", "robustness", *words, *chosen, "--severity", 1, "--severity", 5, "-o", "out", "--jobs", 2
    )
    assert done.status == 0, done.err
    assert "wrong speaker" in done.out and "corruptions.png" in done.out
    summary = json.loads(Path("out/summary.json").read_text())
    gone = cell(summary, "missing", 5)["scores"]
    assert all(one["difference"]["mean"] == 0 for one in gone.values()) and set(gone) == {"si_sdr", "pesq_wb", "estoi"}
    too_much = avse_command("study", "robustness", *words, *chosen, "--severity", 9, "-o", "no")
    assert too_much.status == 2 and "less than or equal to 5" in too_much.err
    assert avse_command("study", "robustness", *words, "--severity", "1;2", "-o", "no").status == 2
    # As it was written in the last release: the sweep of before is complete, so that nothing is scored again.
    before = Path("out/corrupted.csv").read_text()
    old = ["--corruptions", "wrong_speaker,missing, null", "--severities", "1,5", "--out", "out", "--jobs", 2]
    again = avse_command("evaluate", *words, *old)
    assert again.status == 0 and Path("out/corrupted.csv").read_text() == before
    assert [line.split(".")[0] for line in again.err.splitlines()] == [
        "avse: avse evaluate --corruptions is now called avse study robustness",
        "avse: robustness: --corruptions is now called --corruption, once for each value",
        "avse: robustness: --severities is now called --severity, once for each value",
        "avse: robustness: --out is now called --output",
    ]

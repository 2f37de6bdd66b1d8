"""`evaluate`: what it writes, what it does with bad sounds, and how it goes on after an interruption."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_models import Deadly, Faulty, Smoother

from avse import plugins
from avse.contracts.corruption import Corruption
from avse.errors import AvseError
from avse.evaluation import evaluate, read_scores

RATE = 16_000
QUICK = {"metrics": ("si_sdr",), "keep_estimates": False}


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else here."""
    monkeypatch.setattr("avse.evaluation.report.write_report", lambda *arguments: None)


def sounds(manifest: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    short = name.split("/")[1]
    return tuple(soundfile.read(manifest.parent / f"{short}_{part}.wav")[0] for part in ("clean", "noisy"))


def test_scores_summary_and_report(make_mixtures, tmp_path: Path) -> None:
    manifest, out = make_mixtures(), tmp_path / "out"
    summary = evaluate(manifest, out, model=Smoother())
    rows = read_scores(out)
    assert [row["id"] for row in rows] == [f"set/t{t}_{snr}" for t in range(3) for snr in (0, 5)]
    assert {row["status"] for row in rows} == {"ok"}
    metrics = {name: plugins.get("metric", name)() for name in summary["metrics"]}
    assert list(metrics) == ["si_sdr", "si_sdr_improvement", "pesq_wb", "stoi", "estoi"]
    for row in rows:
        clean, noisy = sounds(manifest, row["id"])
        speech = np.convolve(noisy, np.ones(5) / 5, "same")
        for name, metric in metrics.items():
            assert row[name] == pytest.approx(metric(speech, clean, noisy), abs=2e-3)
            if name != "si_sdr_improvement":
                assert row[f"{name}_input"] == pytest.approx(metric(noisy, clean, noisy), abs=2e-3)
        assert row["rtf"] == pytest.approx(row["seconds"] / row["duration"], rel=1e-3)
    # Means by hand.
    at_five = [row for row in rows if row["snr"] == 5 and row["condition"] == "pink"]
    cell = summary["scores"]["by_condition_snr"]["pink"]["5"]["si_sdr"]
    assert cell["output"]["mean"] == pytest.approx(np.mean([row["si_sdr"] for row in at_five]))
    assert cell["improvement"]["mean"] == pytest.approx(np.mean([r["si_sdr"] - r["si_sdr_input"] for r in at_five]))
    assert cell["output"]["n"] == 2 and cell["output"]["low"] <= cell["output"]["mean"] <= cell["output"]["high"]
    assert set(summary["scores"]["by_label"]) == {"noise0", "noise1", "noise2"}
    assert list(summary["scores"]["by_snr"]) == ["0", "5"]
    assert (summary["n"], summary["targets"], summary["failed"]) == (6, 3, 0)
    assert "decoding and tracking" in " ".join(summary["definitions"]["RTF"].split()) and "wide-band" in str(summary)
    assert summary["versions"]["pesq"] and summary["hardware"]["threads_per_job"] >= 1
    assert json.loads((out / "summary.json").read_text()) == summary
    html = (out / "report.html").read_text()
    assert html.count("data:image/png;base64,") >= 3 and html.count("data:audio/flac") >= 9
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)  # needs nothing from outside
    assert all(row["id"] in html for row in rows)
    kept, _ = soundfile.read(out / "estimates" / "set" / "t0_0.flac")
    np.testing.assert_allclose(kept, np.convolve(sounds(manifest, "set/t0_0")[1], np.ones(5) / 5, "same"), atol=1e-6)


@pytest.mark.usefixtures("no_report")
def test_an_interrupted_evaluation_goes_on(make_mixtures, tmp_path: Path) -> None:
    manifest, out = make_mixtures(), tmp_path / "out"

    def stop(speech: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(manifest, out, model=Faulty({3: stop}), **QUICK)
    assert len(read_scores(out)) == 3
    with open(out / "scores.csv", "a") as file:
        file.write("set/t1_5,o")  # the power went while this line was written
    model = Faulty({})
    summary = evaluate(manifest, out, model=model, **QUICK)
    assert len(model.clips) == 3
    whole = evaluate(manifest, tmp_path / "whole", model=Faulty({}), **QUICK)
    assert summary["scores"] == whole["scores"]
    again = Faulty({})
    evaluate(manifest, out, model=again, **QUICK)
    assert again.clips == []


@pytest.mark.usefixtures("no_report")
def test_scores_of_other_settings_are_not_mixed(make_mixtures, tmp_path: Path) -> None:
    manifest, out = make_mixtures(), tmp_path / "out"
    evaluate(manifest, out, model=Smoother(), **QUICK, limit=2)
    with pytest.raises(AvseError, match=r"(?s)other settings.*--overwrite.*use_video: True there, False now"):
        evaluate(manifest, out, model=Smoother(), **QUICK, limit=2, use_video=False)
    with pytest.raises(AvseError, match="limit: 2 there, None now"):
        evaluate(manifest, out, model=Smoother(), **QUICK)
    (out / "mine.txt").write_text("not ours")
    summary = evaluate(manifest, out, model=Smoother(), metrics=("stoi",), overwrite=True)
    assert list(summary["metrics"]) == ["stoi"] and summary["n"] == 6
    assert (out / "mine.txt").is_file()
    (out / "settings.json").unlink()
    with pytest.raises(AvseError, match=r"no settings\.json"):
        evaluate(manifest, out, model=Smoother(), metrics=("stoi",))


def test_failures_are_listed_and_tried_again(make_mixtures, tmp_path: Path) -> None:
    manifest, out = make_mixtures(targets=4), tmp_path / "out"
    short = manifest.parent / "t3_0_clean.wav"
    silent = np.zeros(RATE)
    soundfile.write(short, silent, RATE)

    def crash(speech: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of\nmemory")

    def poison(speech: np.ndarray) -> np.ndarray:
        return np.where(np.arange(speech.size) == 7, np.nan, speech)

    faults = {0: poison, 1: lambda speech: speech[:-2000], 2: crash, 3: lambda speech: 0 * speech}
    faults[4] = lambda speech: speech[None]
    summary = evaluate(manifest, out, model=Faulty(faults), **QUICK | {"metrics": ("si_sdr", "stoi")})
    reasons = {one["id"]: one["reason"] for one in summary["failures"]}
    assert summary["n"] == 8 and summary["scored"] == 2
    assert summary["failed"] == 6 and summary["partial"] == 0
    assert "1 NaN or infinite samples of 16000" in reasons["set/t0_0"]
    assert "estimate 14000, clean 16000" in reasons["set/t0_5"]
    assert reasons["set/t1_0"] == "RuntimeError: out of memory"
    assert reasons["set/t1_5"] == "estimate is silent (si_sdr, stoi)"
    assert "shape (1, 16000)" in reasons["set/t2_0"]
    assert "clean is silent" in reasons["set/t3_0"]
    assert summary["scores"]["overall"]["si_sdr"]["output"]["n"] == 2
    html = (out / "report.html").read_text()
    assert all(name in html for name in reasons) and "RuntimeError: out of memory" in html
    later = Faulty({})
    summary = evaluate(manifest, out, model=later, **QUICK | {"metrics": ("si_sdr", "stoi")})
    assert [one["id"] for one in summary["failures"]] == ["set/t3_0"]
    assert len(later.clips) == 6


@pytest.mark.usefixtures("no_report")
def test_a_metric_that_fails_leaves_the_others(make_mixtures, tmp_path: Path) -> None:
    manifest = make_mixtures(targets=1, seconds=0.35)
    summary = evaluate(manifest, tmp_path / "out", model=Smoother(), **QUICK | {"metrics": ("si_sdr", "stoi")})
    assert (summary["scored"], summary["partial"], summary["failed"]) == (0, 2, 0)
    assert summary["failures"][0]["reason"].endswith("needs 0.4 s of speech (stoi_input, stoi)")
    scores = summary["scores"]["overall"]
    assert scores["si_sdr"]["output"]["n"] == 2 and scores["stoi"]["output"] == {**scores["stoi"]["output"], "n": 0}


def test_all_failed_is_still_a_summary(make_mixtures, tmp_path: Path) -> None:
    faults = dict.fromkeys(range(6), lambda speech: speech * np.nan)
    summary = evaluate(make_mixtures(), tmp_path / "out", model=Faulty(faults), **QUICK)
    assert summary["failed"] == 6 and summary["scores"]["overall"]["si_sdr"]["output"]["mean"] is None
    assert "6 failed" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("no_report")
def test_estimates_are_found_cut_and_resampled(make_mixtures, tmp_path: Path) -> None:
    manifest, folder = make_mixtures(), tmp_path / "enhanced"
    (folder / "set").mkdir(parents=True)
    clean = {name: sounds(manifest, f"set/{name}")[0] for name in ("t0_0", "t0_5", "t1_0", "t1_5", "t2_0")}
    noisy = {name: sounds(manifest, f"set/{name}")[1] for name in clean}
    half = {name: 0.5 * (clean[name] + noisy[name]) for name in clean}
    soundfile.write(folder / "set" / "t0_0.wav", half["t0_0"], RATE, subtype="FLOAT")
    soundfile.write(folder / "set_t0_5.enhanced.flac", half["t0_5"][:-100], RATE)
    stereo = np.stack([half["t1_0"]] * 2, axis=1)
    soundfile.write(folder / "t1_0_noisy.enhanced.wav", stereo, RATE)  # as `avse enhance` names it
    import soxr

    soundfile.write(folder / "set" / "t1_5.wav", soxr.resample(half["t1_5"], RATE, 48_000), 48_000)
    for suffix in (".wav", ".flac"):
        soundfile.write(folder / "set" / f"t2_0{suffix}", half["t2_0"], RATE)
    with pytest.warns(UserWarning, match="2 utterances were cut or resampled"):
        summary = evaluate(manifest, tmp_path / "out", estimates=folder, **QUICK)
    rows = {row["id"]: row for row in read_scores(tmp_path / "out")}
    for name in ("t0_0", "t0_5", "t1_0", "t1_5"):
        gained = rows[f"set/{name}"]["si_sdr"] - rows[f"set/{name}"]["si_sdr_input"]
        assert gained == pytest.approx(6.02, abs=0.4), name  # half the noise
    assert rows["set/t0_5"]["note"] == "estimate 15900, clean 16000, noisy 16000 samples: cut to 15900"
    assert "from 48000 to 16000 Hz" in rows["set/t1_5"]["note"]
    reasons = {one["id"]: one["reason"] for one in summary["failures"]}
    assert "more than one estimate: t2_0.wav, t2_0.flac" in reasons["set/t2_0"]
    assert "no estimate" in reasons["set/t2_5"] and len(reasons) == 2
    assert summary["rtf"] is None


@pytest.mark.usefixtures("no_report")
def test_names_cannot_lead_out_of_the_folder(make_mixtures, tmp_path: Path) -> None:
    manifest = make_mixtures(targets=1, snrs=(0.0,))
    manifest.write_text(manifest.read_text().replace("set/t0_0,", "../../escaped,"))
    summary = evaluate(manifest, tmp_path / "out", model=Smoother(), metrics=("si_sdr",))
    assert "leads out of" in summary["failures"][0]["reason"]
    assert not list(tmp_path.glob("**/escaped*"))


@pytest.mark.usefixtures("no_report")
def test_a_video_is_tracked_once_and_corrupted_by_name(make_mixtures, tmp_path: Path, monkeypatch) -> None:
    import avse.media
    from avse.contracts.types import Clip

    manifest, tracked = make_mixtures(video=True), []

    def read_clip(path, video=None, **kwargs):
        tracked.append(video.name)
        number = int(video.stem[-1])
        return Clip(soundfile.read(path)[0], np.full((25, 88, 88), 40 * number + 20, np.uint8), np.arange(25) >= number)

    monkeypatch.setattr(avse.media, "read_clip", read_clip)
    model = Smoother()
    summary = evaluate(manifest, tmp_path / "seen", model=model, metrics=("si_sdr",))
    assert tracked == ["face0.mp4", "face1.mp4", "face2.mp4"]
    assert [clip.mouth[-1, 0, 0] for clip in model.clips] == [20, 20, 60, 60, 100, 100]
    assert summary["video"]["valid"] == pytest.approx((25 + 24 + 23) / 75, abs=1e-5)
    assert summary["video"]["reliability"] == pytest.approx(0.5, abs=1e-5)
    with np.load(tmp_path / "seen" / "estimates" / "set" / "t1_0.npz") as kept:
        assert kept["valid"].sum() == 24 and kept["reliability"].tolist() == [0.0] + [0.5] * 24

    blind = Smoother()
    evaluate(manifest, tmp_path / "blind", model=blind, **QUICK, use_video=False)
    assert not any(clip.valid.any() or clip.mouth.any() for clip in blind.clips) and len(tracked) == 3

    class Speckle(Corruption):
        def __call__(self, mouth, valid, rng):
            return mouth + rng.integers(0, self.severity + 1, mouth.shape, dtype=np.uint8), valid

    real = plugins.get
    monkeypatch.setattr(plugins, "get", lambda kind, name: Speckle if name == "speckle" else real(kind, name))
    first, second = Smoother(), Smoother()
    evaluate(manifest, tmp_path / "a", model=first, **QUICK, corrupt="speckle=3")
    evaluate(manifest, tmp_path / "b", model=second, **QUICK, corrupt="speckle=3", limit=1)
    assert np.array_equal(first.clips[0].mouth, second.clips[0].mouth)
    assert not np.array_equal(first.clips[0].mouth, first.clips[1].mouth)
    assert first.clips[0].mouth.max() == 23
    with pytest.raises(AvseError, match="blur=3"):
        evaluate(manifest, tmp_path / "c", model=first, corrupt="speckle")


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_processes_give_what_one_process_gives(make_mixtures, tmp_path: Path) -> None:
    manifest = make_mixtures(targets=2, snrs=(0.0,))
    one = evaluate(manifest, tmp_path / "one", model=Smoother(), **QUICK)
    two = evaluate(manifest, tmp_path / "two", model=Smoother(), **QUICK, jobs=2)
    assert two["scores"] == one["scores"] and two["hardware"]["jobs"] == 2
    with pytest.raises(AvseError, match="process died.*fewer --jobs"):
        evaluate(manifest, tmp_path / "dead", model=Deadly(), **QUICK, jobs=2)
    model = Smoother()
    model.hook = lambda: None
    with pytest.raises(AvseError, match="cannot be sent to other processes"):
        evaluate(manifest, tmp_path / "local", model=model, **QUICK, jobs=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a model"),
        ({"model": Smoother(), "estimates": "."}, "either a model"),
        ({"estimates": "nowhere"}, "no such folder"),
        ({"model": Smoother(), "jobs": 0}, "at least 1"),
        ({"estimates": ".", "corrupt": "blur=3"}, "needs a model"),
        ({"model": Smoother(), "corrupt": "blur=3", "use_video": False}, "needs a model"),
        ({"model": Smoother(), "corrupt": "blur=9"}, "severity must be 1, 2, 3, 4 or 5"),
        ({"model": Smoother(), "corrupt": "blurr=3"}, "blurr"),
        ({"model": Smoother(), "metrics": ["si_sdrr"]}, "si_sdrr"),
    ],
)
def test_arguments_that_contradict(make_mixtures, tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(AvseError, match=message):
        evaluate(make_mixtures(targets=1), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_manifest_without_mixtures_says_so(make_mixtures, tmp_path: Path) -> None:
    manifest = make_mixtures(targets=1)
    rows = list(csv.DictReader(manifest.open()))
    with open(manifest, "w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "clean"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(AvseError, match="no row names noisy audio"):
        evaluate(manifest, tmp_path / "out", model=Smoother())


def test_an_output_that_is_a_file_says_so(make_mixtures, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(AvseError, match="cannot write there"):
        evaluate(make_mixtures(targets=1), tmp_path / "out", model=Smoother(), **QUICK)


def test_means_side_by_side_are_over_the_same_rows() -> None:
    """A mixture whose estimate has no score leaves the mean of the noisy audio as well, and so by corpus."""
    from avse.evaluation.corpora import corpus_tables
    from avse.evaluation.summary import _cell

    about = {"target": "", "condition": "babble", "snr": 0.0, "dataset": "made"}
    rows = [
        {**about, "id": name, "speaker": name, "video": video, "severity": None, "m_input": before, "m": after}
        for name, video, before, after in (
            ("a", "clean", 1.0, 4.0),
            ("b", "clean", 21.0, None),
            ("c", "clean", 3.0, 8.0),
            ("a", "no_video", 1.0, 2.0),
            ("c", "no_video", 3.0, None),
        )
    ]
    cell = _cell(rows[:3], {"m": None}, 0)["m"]
    assert [cell[name]["mean"] for name in ("input", "output", "improvement")] == [2.0, 6.0, 4.0]
    [table] = corpus_tables(rows, ["m"])
    assert [table["corpora"]["all"][name]["mean"] for name in ("with", "without", "difference")] == [4.0, 2.0, 2.0]

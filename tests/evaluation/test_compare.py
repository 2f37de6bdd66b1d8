"""Paired comparison of evaluations, and tables of them."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from avse import plugins
from avse.errors import AvseError
from avse.evaluation import compare, comparison_table, markdown_table, read_scores, score_table
from avse.evaluation.rows import write_rows
from avse.evaluation.scoring import columns
from avse.evaluation.summary import summarise

ALL = range(24)
METRICS = ("si_sdr", "si_sdr_improvement", "pesq_wb")


@pytest.fixture
def make_run(tmp_path: Path):
    """Writes an evaluation as `evaluate` does, with scores `base + offset(row)`."""

    def make(name: str, offset=lambda row: 0.0, ids=ALL, snr: bool = True, missing: tuple[int, ...] = ()) -> Path:
        metrics = {metric: plugins.get("metric", metric)() for metric in METRICS}
        rows = []
        for index in ids:
            before = float((-5, 0, 5)[index % 3]) if snr else 1.0
            row = {
                "id": f"u{index}",
                "status": "failed" if index in missing else "ok",
                "reason": "no face" if index in missing else "",
                "note": "",
                "target": f"t{index // 6}",
                "speaker": f"s{index // 6}",
                "snr": before if snr else None,
                "condition": ("babble", "recorded")[index // 3 % 2] if snr else "",
                "label": "",
                "duration": 1.0,
            }
            if index not in missing:
                after = before + 9.0 + np.sin(index) + offset(row)
                row |= {"si_sdr_input": before, "si_sdr": after, "si_sdr_improvement": after - before}
                row |= {"pesq_wb_input": 1.2, "pesq_wb": 1.5 + 0.01 * index}
            rows.append(row)
        folder = tmp_path / name
        folder.mkdir()
        write_rows(folder / "scores.csv", rows, columns(metrics))
        summary = summarise(read_scores(folder), metrics, settings={"system": name})
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return make


def shown(table) -> str:
    console = Console(width=100, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_differences_are_paired(make_run, tmp_path: Path) -> None:
    runs = [make_run("base"), make_run("better", lambda row: 1.0 if row["condition"] == "babble" else 0.0)]
    result = compare(runs, tmp_path / "out")
    found = result["metrics"]["si_sdr"]["differences"]["better"]
    assert result["common"] == 24 and result["baseline"] == "base"
    assert found["overall"]["mean"] == pytest.approx(0.5, abs=1e-4)
    for snr in ("-5", "0", "5"):
        cell = found["by_condition_snr"]["babble"][snr]
        # The spread between utterances is gone: every one gained 1 dB.
        assert (cell["mean"], cell["low"], cell["high"], cell["n"]) == pytest.approx((1.0, 1.0, 1.0, 4), abs=1e-4)
        assert found["by_condition_snr"]["recorded"][snr]["mean"] == pytest.approx(0.0, abs=1e-9)
        assert found["by_condition_snr"]["recorded"][snr]["p"] == 1.0
    assert result["metrics"]["pesq_wb"]["differences"]["better"]["overall"]["p"] == 1.0
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    text = shown(comparison_table(result))
    assert "over 4 speakers; the training seed is not in them" in text
    assert "+0.50 [+0.50, +0.50]" in text and "babble, -5 dB" in text and "Wilcoxon" in text


def test_failed_utterances_are_not_paired(make_run) -> None:
    result = compare([make_run("base", missing=(0, 1)), make_run("other", lambda row: 2.0, missing=(1, 2))])
    overall = result["metrics"]["si_sdr"]["differences"]["other"]["overall"]
    assert result["common"] == 24 and overall["n"] == 21 and overall["mean"] == pytest.approx(2.0, abs=1e-4)


def test_runs_that_cannot_be_compared(make_run, tmp_path: Path) -> None:
    base, fewer, none = make_run("base"), make_run("fewer", ids=range(12)), make_run("none", ids=range(100, 103))
    with pytest.raises(AvseError, match="base 24, .*fewer 12, 12 in common.*--common-only"):
        compare([base, fewer])
    assert compare([base, fewer], common_only=True)["common"] == 12
    with pytest.raises(AvseError, match="no utterance in common"):
        compare([base, none])
    with pytest.raises(AvseError, match="at least two"):
        compare([base])
    with pytest.raises(AvseError, match="Run `avse evaluate` first"):
        compare([base, tmp_path])
    with pytest.raises(AvseError, match="as many different labels"):
        compare([base, fewer], labels=["a"])
    other = make_run("other")
    rows = list(csv.DictReader((other / "scores.csv").open()))
    rows[3]["si_sdr_input"] = "1.5"
    with open(other / "scores.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(AvseError, match=r"u3: the noisy audio scores si_sdr_input -5 .* and 1\.5 .* mixtures differ"):
        compare([base, other])


def test_labels_tell_runs_of_one_system_apart(make_run) -> None:
    runs = [make_run("first"), make_run("second")]
    for run in runs:
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "system": "avse-small"}))
    assert compare(runs)["labels"] == ["first", "second"]
    assert compare(runs, labels=["with video", "without"])["labels"] == ["with video", "without"]


def test_markdown_table_for_a_readme(make_run) -> None:
    runs = [make_run("small"), make_run("large", lambda row: 1.0)]
    lines = markdown_table(runs, interval=False).splitlines()
    assert lines[0] == (
        "| SI-SDR (dB) | babble, -5 dB | babble, 0 dB | babble, 5 dB | recorded, -5 dB | recorded, 0 dB "
        "| recorded, 5 dB |"
    )
    assert lines[2] == "| noisy | -5.0 | 0.0 | 5.0 | -5.0 | 0.0 | 5.0 |"
    small, large = (line.strip("| ").split(" | ") for line in lines[3:])
    assert [small[0], large[0]] == ["small", "large"]
    assert [float(b) - float(a) for a, b in zip(small[1:], large[1:])] == pytest.approx([1.0] * 6)
    picked = markdown_table(runs, value="improvement", conditions=["recorded"], snrs=[5], labels=["A", "B"])
    assert picked.splitlines()[0] == "| SI-SDR improvement (dB) | recorded, 5 dB |"
    assert picked.splitlines()[2].startswith("| A | +") and "[+" in picked and "noisy" not in picked
    with pytest.raises(AvseError, match="no scores of 'stoi'"):
        markdown_table(runs, "stoi")


def test_tables_without_snr_and_condition(make_run) -> None:
    run = make_run("plain", snr=False, missing=(4,))
    assert markdown_table([run], noisy=False, interval=False).splitlines()[0] == "| SI-SDR (dB) | all |"
    text = shown(score_table(json.loads((run / "summary.json").read_text())))
    assert "1.0 → 10." in text and "1 failed" in text and "overall" in text and text.count("all") == 1
    other = make_run("other", lambda row: 1.0, snr=False)
    assert "+1.00" in shown(comparison_table(compare([run, other])))

"""Published results: pages are made from them, and they are of the models that are embedded."""

from __future__ import annotations

import datetime
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from avse import model_folder
from avse.errors import AvseError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def results() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import results

        return results
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_pages_are_what_make_results_writes(results: ModuleType) -> None:
    assert len(results.pages()) > 10
    assert results.drifted() == []


def test_results_are_of_the_embedded_models(results: ModuleType) -> None:
    assert results.stale() == []


@pytest.mark.parametrize("name", model_folder.embedded())
def test_an_embedded_model_states_what_the_format_promises(name: str) -> None:
    about = model_folder.embedded()[name]
    assert about["task"] and about["inputs"] and about["outputs"] and about["licence"] and about["description"]
    assert all({"dataset", "kind", "licence"} <= one.keys() for one in about["training_data"])
    assert all(one["protocol"] and one["values"] and (ROOT / one["results"]).is_file() for one in about["scores"])
    assert about["training_data"] and about["scores"] and (ROOT / about["recipe"]).is_file()
    assert {"rtf", "peak_mb", "latency_s"} <= about["cost"].keys()
    assert [datetime.date.fromisoformat(one["date"]) for one in about["changes"] if one["change"]]
    free = ("CC BY 3.0", "CC BY 4.0", "CC0", "public domain", "Apache-2.0")
    if "research" not in about["licence"]:
        assert all(one["licence"].startswith(free) for one in about["training_data"])


@pytest.mark.parametrize("name", ["avse-live", "scene-clip"])
def test_new_weights_are_embedded_with_what_is_known_of_the_old(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import models

    old = model_folder.embedded()[name]
    shutil.copytree(model_folder.PRETRAINED / name, tmp_path / name)
    shutil.copytree(model_folder.PRETRAINED / name, tmp_path / "run")
    new = {key: old[key] for key in ("format", "name", "sha256", "kind") if key in old} | {"validation": {"loss": 1.0}}
    (tmp_path / "run" / "model.json").write_text(json.dumps(new))
    monkeypatch.setattr(models, "PRETRAINED", tmp_path)
    models.embed(tmp_path / "run", name, "the same again", bits=8)
    found = json.loads((tmp_path / name / "model.json").read_text())
    assert found["changes"][0]["change"] == "the same again" and found["changes"][1:] == old["changes"]
    kept = ("licence", "training_data", "description", "recipe", "task", "inputs", "outputs")
    assert {key: found[key] for key in kept} == {key: old[key] for key in kept}
    assert found["validation"] == {"loss": 1.0} and "reliability" not in found
    assert (tmp_path / name / "README.md").is_file()
    assert models.content_of(tmp_path / name).system is not None


def test_readmes_of_recipes_are_short_and_say_over_how_many_speakers() -> None:
    for page in ROOT.glob("recipes/**/README.md"):
        text = page.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 100, page
        assert "[+" not in text or "speakers." in text, page


def test_results_name_no_place_of_a_machine_and_say_where_they_are_from(results: ModuleType) -> None:
    for path in results.result_files():
        text = path.read_text(encoding="utf-8")
        assert '"/' not in text, path
        assert {"mixtures", "runs", "scores", "provenance"} & json.loads(text).keys(), path


_SHOWN = {
    "compare": ("system", "metric", "video", "condition", "snr", "mean"),
    "robustness": ("corruption", "severity", "metric", "video", "mean"),
    "separation": ("group", "metric", "groups"),
    "frontends": ("system", "metric", "video", "corpus", "high"),
    "lips": ("metric", "mean"),
}
_CELLS = {
    "compare": [("b", "sdr", "difference", "all", "", 1.0), ("b", "sdr", "difference", "babble", "-5", 1.0)],
    "robustness": [("blur", "5", "si_sdr", "difference", 1.0), ("blur", "5", "auc", "with", 0.75)],
    "separation": [("2 talkers", "sdr", 4)],
    "frontends": [("conv3d", "found", "with", "all", 1.5), ("conv3d", "found", "difference", "all", 1.5)],
    "lips": [("found", 1.0)],
}


def _measured(system: str, mean: float) -> dict:
    cell = {"mean": mean, "low": mean - 1, "high": mean + 1, "n": 8, "groups": 4}
    corpora = {"all": {"speakers": 4, "mixtures": 8, "with": cell, "noisy": {**cell, "mean": -5.0}}}
    table = {"condition": "babble", "snr": "-5", "metric": "si_sdr", "corpora": corpora}
    return {"system": system, "settings": {"model_sha256": "0"}, "metrics": {}, "tables": [table]}


def _told(system: str, mean: float) -> dict:
    cell = {"condition": "babble", "snr": "-5", "metric": "si_sdr", "mean": mean}
    return {"system": system, "provenance": "Told", "cells": [cell]}


def _page(folder: Path, *found: dict, **spec: object) -> Path:
    (folder / "table").mkdir()
    for place, result in enumerate(found):
        (folder / "table" / f"{place}.json").write_text(json.dumps(result))
    page = folder / "README.md"
    comment = json.dumps({"from": "table", **spec})
    page.write_text(f"# A\n\n<!-- results\n{comment}\n-->\nold\n<!-- end of results -->\nB\n")
    return page


def test_scores_of_a_model_are_those_that_its_card_shows(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    page = _page(folder, _measured("`mine`", 1.00001), _measured("`other`", 2.0), where={"system": "`*`"})
    (folder / "model.json").write_text("{}")
    monkeypatch.setattr(results, "PRETRAINED", tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "kind_of", lambda name: "")
    [scores] = json.loads(results.written(page.with_name("model.json")))["scores"]
    assert scores["results"] == "mine/table/0.json" and "scenes/table.csv" in scores["protocol"]
    value = {"condition": "babble", "snr": -5.0, "metric": "si_sdr", "video": "with", "mean": 1.0, "n": 8, "groups": 4}
    assert scores["values"] == [{**value, "low": 0.0, "high": 2.0}]


def test_a_table_has_a_row_for_each_system_and_its_speakers(results: ModuleType, tmp_path: Path) -> None:
    page = _page(tmp_path, _told("a", 1.0), _measured("b", 2.0), _told("b", 9.0))
    lines = results.written(page).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| SI-SDR (dB) | babble, -5 dB |"
    assert table[2:] == ["| a * | 1.0 |", "| b | 2.0 [1.0, 3.0] |", "| noisy | -5.0 [1.0, 3.0] |"]
    assert "Means, 95 % intervals over 4 speakers. * Told." in lines
    assert "old" not in lines and lines[-1] == "B"
    page.write_text(results.written(page))
    assert results.written(page) == page.read_text()


def test_files_of_all_verbs_have_cells(results: ModuleType, tmp_path: Path) -> None:
    score = {"mean": 1.0, "low": 0.5, "high": 1.5, "n": 8, "groups": 4}
    places = {"overall": score, "by_condition_snr": {"babble": {"-5": score}}}
    sweep = {"video": "blur", "severity": 5, "scores": {"si_sdr": score}, "auc": 0.75, "ece": None}
    written = {
        "compare": {"labels": ["a", "b"], "runs": ["/a", "/b"], "metrics": {"sdr": {"differences": {"b": places}}}},
        "robustness": {"corruptions": [sweep]},
        "separation": {"groups": {"2 talkers": {"sdr": score}}},
        "frontends": {"runs": {"conv3d": {"scores": {"all": {"found": {**score, "difference": score}}}}}},
        "lips": {"scores": {"found": score}},
    }
    for verb, result in written.items():
        (tmp_path / "found.json").write_text(json.dumps(result))
        added = results.add(tmp_path / "found.json", tmp_path / "results", verb)
        assert '"/a' not in added.read_text()
        found = [{key: cell.get(key, "") for key in _SHOWN[verb]} for cell in results.cells_of(added)]
        assert found == [dict(zip(_SHOWN[verb], values)) for values in _CELLS[verb]], verb


def test_an_ambiguous_table_says_which_dimension_to_name(results: ModuleType, tmp_path: Path) -> None:
    loud = {**_told("a", 1.0), "cells": [{**_told("a", 1.0)["cells"][0], "snr": snr} for snr in ("0", "5")]}
    with pytest.raises(AvseError, match="name in `where` which snr"):
        results.written(_page(tmp_path, loud, columns="condition"))


def test_a_replaced_model_makes_its_results_stale(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes" / "Mine" / "results" / "test"
    folder.mkdir(parents=True)
    now = results.model_hash("avse-small")
    (tmp_path / "scores").mkdir()
    written = {**_measured("small", 1.0), "settings": {"model_sha256": now}}
    (tmp_path / "scores" / "results.json").write_text(json.dumps(written))
    monkeypatch.setattr(results, "ROOT", tmp_path)
    added = results.add(tmp_path / "scores", folder, "my small")
    assert added == folder / "my_small.json"
    assert json.loads(added.read_text())["model"] == "avse-small"
    assert results.stale() == []
    added.write_text(added.read_text().replace(now, "1" * 64))
    [fault] = results.stale()
    assert "other weights" in fault and "my_small.json" in fault


@pytest.mark.slow
def test_nightly_measures_again_and_says_what_differs(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from avse import plugins
    from avse.data.rendering import render_scenes
    from avse.data.scenes import make_scene_file
    from avse.evaluation import evaluate

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import nightly

    corpus = plugins.get("dataset", "synthetic")(clips=10, speakers=10, noises=5, seconds=(0.7, 0.8), noise_seconds=1.0)
    manifest = corpus.prepare(tmp_path / "corpus")
    home = tmp_path / "recipes" / "Mine"
    home.joinpath("scenes").mkdir(parents=True)
    make_scene_file(manifest, "test", home / "scenes" / "test.csv", conditions=["recorded"], snrs=[0.0])
    mixtures = render_scenes(home / "scenes" / "test.csv", manifest, tmp_path / "mixtures")
    evaluate(mixtures, tmp_path / "scores", model="avse-small", without_video=True, metrics=["si_sdr_improvement"])
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["nightly", str(manifest), "--mixtures", "2"])
    added = results.add(tmp_path / "scores", home / "results" / "test", None)
    with pytest.raises(SystemExit) as ended:
        nightly.main()
    assert not ended.value.code, ended.value.code
    assert "over 2 scores" in capsys.readouterr().out
    result = json.loads(added.read_text())
    for one in result["mixtures"]:
        one["scores"]["si_sdr_improvement"][0] += 50.0
    added.write_text(json.dumps(result))
    with pytest.raises(SystemExit) as ended:
        nightly.main()
    assert "si_sdr_improvement, video clean" in str(ended.value.code) and "video no_video" not in str(ended.value.code)

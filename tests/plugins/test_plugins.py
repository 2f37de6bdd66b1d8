"""The registry: where plugins come from, and what is said when one cannot be used."""

from __future__ import annotations

import os
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

from avse import plugins
from avse.errors import AvseError

METRIC = """
from avse.contracts.metric import Metric
from avse.plugins import register

@register("metric", "{name}")
class {cls}(Metric):
    '''Peak of the estimate.'''
    name = "peak"
    def __call__(self, estimate, clean, noisy):
        return {result}
"""


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts from the toolkit's own plugins and leaves nothing behind."""
    for kind in plugins.KINDS:
        plugins.names(kind)  # so that none is first imported inside a test
    monkeypatch.setattr(plugins, "_REGISTRY", {kind: dict(found) for kind, found in plugins._REGISTRY.items()})
    monkeypatch.setattr(plugins, "_PROBLEMS", list(plugins._PROBLEMS))
    monkeypatch.setattr(plugins, "_LOADED_FILES", {})
    monkeypatch.setattr(plugins, "_TRIED", set(plugins._TRIED))


def write(path: Path, name: str = "peak", cls: str = "Peak", result: str = "1.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(METRIC.format(name=name, cls=cls, result=result))
    return path


def test_a_file_makes_a_plugin_that_recipes_can_name(tmp_path: Path) -> None:
    from hyperpyyaml import load_hyperpyyaml

    file = write(tmp_path / "mine.py")
    assert plugins.load_path(file) == []
    cls = plugins.get("metric", "peak")
    assert (cls.plugin_kind, cls.plugin_name) == ("metric", "peak")
    assert plugins.place("metric", "peak") == f"{file}:5"
    assert "peak" in plugins.names("metric") and "si_sdr" in plugins.names("metric")
    assert "peak" in dir(plugins.metric)
    assert pydoc.locate("avse.plugins.metric.peak") is cls
    assert type(load_hyperpyyaml("m: !new:avse.plugins.metric.peak")["m"]) is cls
    assert plugins.of_path(file) == [("metric", "peak")]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("metric", "sisdr", ["no metric plugin 'sisdr'", "Did you mean 'si_sdr'", "pesq_wb"]),
        ("metrics", "si_sdr", ["no kind of plugin 'metrics'", "Did you mean 'metric'", "noise_model"]),
        ("embedding", "clap", ["no embedding plugin 'clap'", "scene_clip"]),
        ("metric", "os.system", ["no metric plugin 'os.system'"]),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(kind: str, name: str, said: list[str]) -> None:
    with pytest.raises(AvseError) as error:
        plugins.get(kind, name)
    assert all(part in str(error.value) for part in said), error.value


def test_python_imports_a_plugin_as_recipes_spell_it() -> None:
    code = "from avse.plugins.fusion import film; import avse.plugins.metric as metric; print(film, metric.si_sdr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["<class", "'avse.fusion.film.FiLM'>", "<class", "'avse.metrics.si_sdr.SISDR'>"]
    with pytest.raises(ImportError, match="flim"):
        from avse.plugins.fusion import flim  # noqa: F401


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    assert not hasattr(plugins.metric, "sisdr")
    assert not hasattr(plugins, "metrics")


def test_a_folder_is_loaded_as_far_as_it_can_be(tmp_path: Path) -> None:
    write(tmp_path / "good.py", "good_one")
    (tmp_path / "helper.py").write_text("VALUE = 2.5\n")
    write(tmp_path / "relative.py", "relative_one", result="VALUE")
    with (tmp_path / "relative.py").open("a") as file:
        file.write("\nfrom .helper import VALUE\n")
    (tmp_path / "missing.py").write_text("import os\n\nimport no_such_package_at_all\n")
    (tmp_path / "syntax.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "test_skipped.py").write_text("raise RuntimeError\n")
    found = {Path(p.place.rpartition(":")[0]).name: p for p in plugins.load_path(tmp_path)}
    assert set(found) == {"missing.py", "syntax.py", "leaves.py"}
    assert found["missing.py"].place == f"{tmp_path / 'missing.py'}:3"
    assert "ModuleNotFoundError: No module named 'no_such_package_at_all'" in found["missing.py"].reason
    assert found["syntax.py"].place == f"{tmp_path / 'syntax.py'}:2"
    assert found["leaves.py"].place == f"{tmp_path / 'leaves.py'}:1"
    assert plugins.get("metric", "good_one")()(None, None, None) == 1.0
    assert plugins.get("metric", "relative_one")()(None, None, None) == 2.5
    assert set(found.values()) <= set(plugins.problems())
    assert [p for p in sys.path if str(tmp_path) in p] == []


def test_a_package_is_loaded_with_its_modules(tmp_path: Path) -> None:
    write(tmp_path / "pack" / "inner.py", "inner_one", result="SIZE")
    (tmp_path / "pack" / "__init__.py").write_text("SIZE = 3.0\n")
    with (tmp_path / "pack" / "inner.py").open("a") as file:
        file.write("\nfrom . import SIZE\n")
    (tmp_path / "pack" / "broken.py").write_text("1 / 0\n")
    for path in (tmp_path, tmp_path / "pack"):  # the folder around it, and itself: loaded once
        assert [p.reason for p in plugins.load_path(path)] == [
            "cannot be imported: ZeroDivisionError: division by zero"
        ]
    assert plugins.get("metric", "inner_one")()(None, None, None) == 3.0


@pytest.mark.parametrize("name", ["nothing", "text.txt", "empty"])
def test_a_path_without_plugins_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AvseError, match=name):
        plugins.load_path(tmp_path / name)


def test_of_two_plugins_with_one_name_the_first_stays_and_both_places_are_told(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.py", "twice"), write(tmp_path / "b.py", "twice")
    [problem] = plugins.load_path(tmp_path)
    assert problem.subject == "metric/twice"
    assert problem.place == f"{second}:5" and f"{first}:5" in problem.reason
    assert plugins.place("metric", "twice") == f"{first}:5"


def test_the_toolkits_own_plugin_is_the_first_even_if_loaded_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [m for m in sys.modules if m.startswith("avse.metrics.")]:
        module = sys.modules[name]
        monkeypatch.delitem(sys.modules, name)
        # The package names its modules too: what is set here is put back, so that the next test finds one of each.
        monkeypatch.setattr(f"avse.metrics.{name.rpartition('.')[2]}", module, raising=False)
    monkeypatch.setattr(plugins, "_REGISTRY", {kind: {} for kind in plugins.KINDS})
    monkeypatch.setattr(plugins, "_TRIED", set())
    [problem] = plugins.load_path(write(tmp_path / "mine.py", "si_sdr"))
    assert "is taken by" in problem.reason
    assert plugins.get("metric", "si_sdr").__module__ == "avse.metrics.si_sdr"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ('@register("metric", "half")\nclass Half(Metric): pass', "Half misses the method __call__ of Metric"),
        (
            'from avse.contracts.embedding import Embedding\n@register("embedding", "half")\n'
            "class Half(Embedding):\n    def embbed(self): pass",
            "misses the method embed of Embedding (it has embbed).",
        ),
        ('@register("metric", "half")\nclass Half: pass', "not a subclass of avse.contracts.metric.Metric"),
        ('@register("metrik", "half")\nclass Half(Metric): pass', "Did you mean 'metric'"),
        (METRIC.format(name="a-b", cls="Half", result="1"), "cannot be written in a recipe"),
        (METRIC.format(name="class", cls="Half", result="1"), "cannot be written in a recipe"),
    ],
)
def test_a_class_that_is_no_plugin_of_its_kind_is_reported_and_the_rest_kept(
    tmp_path: Path, code: str, reason: str
) -> None:
    imports = "from avse.contracts.metric import Metric\nfrom avse.plugins import register\n"
    file = tmp_path / "half.py"
    file.write_text(imports + code + METRIC.format(name="whole", cls="Whole", result="1.0"))
    [problem] = plugins.load_path(file)
    assert reason in problem.reason and problem.place.startswith(f"{file}:")
    assert plugins.get("metric", "whole")
    with pytest.raises(AvseError, match="found but cannot be used" if "half" in problem.subject else "no metric"):
        plugins.get("metric", "half")


def test_a_file_that_fails_half_way_leaves_no_plugin(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", "early")
    with file.open("a") as stream:
        stream.write("\nraise ValueError('no licence')\n")
    assert len(plugins.load_path(file)) == 1
    with pytest.raises(AvseError):
        plugins.get("metric", "early")


def test_a_changed_file_is_loaded_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", result="1.0")
    plugins.load_path(file)
    before = plugins.get("metric", "peak")
    plugins.load_path(file)
    assert plugins.get("metric", "peak") is before
    file.write_text("import no_such_package_at_all\n")
    os.utime(file, ns=(1, 1))
    assert len(plugins.load_path(file)) == 1
    assert "peak" not in plugins.names("metric")
    write(file, result="22.0")
    assert plugins.load_path(file) == []
    assert plugins.get("metric", "peak")()(None, None, None) == 22.0


def test_an_installed_distribution_offers_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "their_metrics.py", "theirs")
    info = tmp_path / "their_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[avse.plugins]\ngood = their_metrics\nbad = their_missing_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.get("metric", "theirs").__module__ == "their_metrics"
    [problem] = [p for p in plugins.problems() if "their-pack" in p.subject]
    assert "their_missing_module" in problem.reason


def test_every_kind_has_a_contract_with_checks() -> None:
    from avse.conformance import checks_of

    for kind in plugins.KINDS:
        assert plugins.contract(kind).__module__ == f"avse.contracts.{kind}"
        checks = checks_of(kind)
        assert len({check.name for check in checks}) == len(checks) >= 4
        assert all(check.expected and check.hint for check in checks)


def test_all_plugins_of_the_toolkit_can_be_imported() -> None:
    for kind in plugins.KINDS:
        for name in plugins.names(kind):
            assert issubclass(plugins.get(kind, name), plugins.contract(kind))
    assert [p for p in plugins.problems() if "avse/" in p.place.replace("\\", "/") and "tests" not in p.place] == []

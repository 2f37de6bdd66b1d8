"""The generated pages: one a kind, complete, and only of what the toolkit itself holds."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from avse import plugins
from avse.conformance import checks_of

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def kind_pages() -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        import kind_pages

        return kind_pages
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def pages(kind_pages: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "gone.md").touch()
    kind_pages.write_kind_pages(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_one_page_a_kind(pages: dict[str, str]) -> None:
    assert set(pages) == {"index", *plugins.KINDS}
    for kind in plugins.KINDS:
        assert f"]({kind}.md)" in pages["index"]
        assert f"avse new {kind} my_{kind}\navse check my_{kind}.py\n" in pages[kind]
        assert f".. autoclass:: {plugins.contract(kind).__module__}." in pages[kind]


def test_every_argument_has_a_meaning(kind_pages: ModuleType) -> None:
    for kind in plugins.KINDS:
        for name, cls in kind_pages.built_in(kind).items():
            rows = kind_pages.arguments_of(cls)
            assert [row.name for row in rows] == list(inspect.signature(cls).parameters), f"{kind}/{name}"
            plain = {"seed", "noise_seconds"}  # their name says it all
            silent = [row.name for row in rows if not row.type or not (row.meaning or row.name in plain)]
            assert not silent, f"{kind}/{name} says nothing of {', '.join(silent)}"


def test_defaults_are_those_of_the_signature(kind_pages: ModuleType, pages: dict[str, str]) -> None:
    rows = {row.name: row for row in kind_pages.arguments_of(plugins.get("fusion", "cross_attention"))}
    assert (rows["heads"].type, rows["heads"].default, rows["heads"].meaning) == ("int", 4, "Divides `audio_dim`.")
    assert rows["video_dim"].default is inspect.Parameter.empty and rows["video_dim"].meaning
    assert "| `heads` | int | `4` | Divides `audio_dim`. |\n" in pages["fusion"]
    assert re.search(r"\| `video_dim` \| int \| required \| .+ \|", pages["fusion"])


def test_every_check_has_a_row(pages: dict[str, str]) -> None:
    for kind in plugins.KINDS:
        table = pages[kind].split("## Checks")[1]
        assert all(f"\n| `{check.name}` | " in table for check in checks_of(kind))


def test_tables_are_whole(pages: dict[str, str]) -> None:
    """A bar in a docstring does not split a cell."""
    for name, text in pages.items():
        width = 0
        for line in text.splitlines():
            cells = line.replace("\\|", "").count("|") if line.startswith("| ") else 0
            assert not (width and cells) or cells == width, f"{name}: {line}"
            width = cells


def test_plugins_of_others_are_left_out(kind_pages: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text(
        "from avse import register\nfrom avse.contracts.metric import Metric\n\n"
        "@register('metric', 'foreign')\nclass Foreign(Metric):\n    def __call__(self, estimate, clean, noisy):\n"
        "        return 0.0\n"
    )
    plugins.load_path(tmp_path / "foreign.py")
    try:
        assert "foreign" in plugins.names("metric")
        assert "foreign" not in kind_pages.built_in("metric")
    finally:
        plugins.forget("metric", "foreign")


def test_flags(kind_pages: ModuleType) -> None:
    flags = kind_pages.flags_of
    assert flags("fusion", plugins.get("fusion", "concat"))["causal"] == "yes"
    assert flags("fusion", plugins.get("fusion", "cross_attention"))["causal"] == "with `causal=True`"
    assert flags("metric", plugins.get("metric", "si_sdr")) == {
        "name": "SI-SDR",
        "unit": "dB",
        "higher_is_better": "yes",
        "relative_to_noisy": "no",
    }
    assert flags("dataset", plugins.get("dataset", "grid"))["licence"] == "CC BY 4.0"

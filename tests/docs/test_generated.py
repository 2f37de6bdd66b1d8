"""The generated pages on the API and the commands name what exists, all of the public API and every visible verb."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import avse

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    sys.path.insert(0, str(DOCS))
    try:
        import generate
    finally:
        sys.path.remove(str(DOCS))
    folder = tmp_path_factory.mktemp("api")
    generate.write_all(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_the_public_api_is_documented(pages: dict[str, str]) -> None:
    documented = set(re.findall(r"\.\. auto\w+:: avse\.[\w.]*?(\w+)\n", "".join(pages.values())))
    assert set(avse.__all__) - {"__version__", "register"} <= documented
    assert "register" in pages["recipes"]


def test_the_page_of_commands_has_the_groups_of_the_help(pages: dict[str, str]) -> None:
    assert re.findall(r"^## (.*)$", pages["commands"], re.M) == ["Use", "Experiment", "Data", "Develop"]
    verbs = re.findall(r"^### `avse (.*)`$", pages["commands"], re.M)
    assert {"enhance", "train", "study robustness", "prepare", "recipe explain"} <= set(verbs)
    assert "evaluate-separation" not in verbs

"""What a tutorial claims is held against what it does, and every tutorial claims something."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
TUTORIALS = [path for path in sorted(DOCS.glob("*.md")) if "{code-cell}" in path.read_text(encoding="utf-8")]

PAGE = """\
# A page

```{code-cell} ipython3
%%bash
echo "gain   3.1 dB"
```

```{code-cell} ipython3
page.printed("gain 3")
```

```{code-cell} ipython3
page.printed("gain 4")
```
"""


@pytest.fixture(scope="module")
def tutorial() -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        import tutorial

        return tutorial
    finally:
        sys.path.remove(str(DOCS))


def test_a_claim_that_does_not_hold_names_its_line(tutorial: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "docs" / "demo.md"
    path.parent.mkdir()
    path.write_text(PAGE)
    page = tutorial.Page(path)
    page.follow('%%bash\necho "gain   3.1 dB"\n')
    assert page.run('echo "gain   3.1 dB"') == "gain   3.1 dB"
    page.follow('page.printed("gain 3")\n')
    page.printed("gain 3", r"^gain \d\.\d dB$")
    page.claim(True, "nothing")
    page.follow('page.printed("gain 4")\n')
    with pytest.raises(tutorial.ClaimBroken, match=r"^docs/demo\.md:13: the page speaks of 'gain 4'.*\ngain 3\.1 dB"):
        page.printed("gain 4")
    with pytest.raises(tutorial.ClaimBroken, match=r"^docs/demo\.md:13: .*the sun rises"):
        page.claim(False, "the sun rises")


def test_a_command_that_fails_names_its_line(tutorial: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "demo.md"
    path.write_text(PAGE)
    page = tutorial.Page(path)
    page.follow('%%bash\necho "gain   3.1 dB"\n')
    with pytest.raises(RuntimeError, match=r"demo\.md:4: exit status 3\nbefore$"):
        page.run("echo before; (exit 3); echo after")


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_every_tutorial_checks_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f'page = tutorial.start("{path.stem}")' in text
    hidden = re.findall(r"```\{code-cell\} ipython3\n:tags: \[remove-cell\]\n\n(.*?)```", text, re.DOTALL)
    claims = sum(len(re.findall(r"page\.(claim|printed)\(", cell)) for cell in hidden)
    assert claims >= 3, f"{path.name} checks {claims} of its claims"
    assert claims == len(re.findall(r"page\.(claim|printed)\(", text)), f"{path.name}: a claim is not hidden"

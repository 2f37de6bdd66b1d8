"""Every registered plugin is put to every check of its kind."""

from __future__ import annotations

import pytest

from avse import plugins
from avse.contracts.checks import Check, checks_of, run_check

CASES = [
    pytest.param(kind, name, check, id=f"{kind}/{name}-{check.name}")
    for kind in plugins.KINDS
    for name in plugins.names(kind)
    for check in checks_of(kind)
]


@pytest.mark.parametrize(("kind", "name", "check"), CASES)
def test_plugin_keeps_its_contract(kind: str, name: str, check: Check) -> None:
    result = run_check(check, plugins.get(kind, name))
    assert result.passed, str(result)

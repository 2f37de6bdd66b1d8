"""Every registered plugin is put to every check of its kind."""

from __future__ import annotations

from avse import plugins
from avse.testing import parametrize_with_checks


@parametrize_with_checks(list(plugins.KINDS))
def test_plugin_keeps_its_contract(plugin, check) -> None:
    check(plugin)

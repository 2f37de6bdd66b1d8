"""Every registered plugin is put to every check of its kind."""

from __future__ import annotations

from avse import plugins
from avse.testing import parametrize_with_checks

every_check = parametrize_with_checks(list(plugins.KINDS))
# Check by check, since metrics that share a network remember what it said of the last sounds.
every_check.args[1].sort(key=lambda case: (case.id.partition("/")[0], case.id.rpartition("-")[2]))


@every_check
def test_plugin_keeps_its_contract(plugin, check) -> None:
    check(plugin)

"""The plugin keeps the promises of its kind; what else it promises is yours to test."""

from avse.testing import parametrize_with_checks

from my_plugin import MyPlugin


@parametrize_with_checks([MyPlugin])
def test_conformance(plugin, check):
    check(plugin)

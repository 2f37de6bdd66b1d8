"""The plugin keeps the promises of its kind."""

from pathlib import Path

from avse.testing import parametrize_with_checks

PACKAGE = Path(__file__).parents[1] / "my_plugin"


@parametrize_with_checks(PACKAGE)
def test_conformance(check, plugin):
    check(plugin)

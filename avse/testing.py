"""The conformance checks as tests: a package that holds plugins tests itself in three lines.

    from avse.testing import parametrize_with_checks

    @parametrize_with_checks("my_package")
    def test_conformance(plugin, check): check(plugin)

Each check is one test, such as `test_conformance[fusion/my_fusion-padding]`. To debug a check, run it alone and stop at
the failure: `pytest --pdb -k "my_fusion and padding"`. Without pytest, `run_check` does the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avse import plugins
from avse.conformance import Check, CheckFailed, checks_of
from avse.conformance import run_check as _result_of
from avse.conformance.runner import Target, find_plugins, kind_and_name
from avse.errors import AvseError

if TYPE_CHECKING:
    import pytest

__all__ = ["parametrize_with_checks", "run_check"]


def parametrize_with_checks(
    targets: Target | Sequence[Target],
    *,
    only: Sequence[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Run a test once for each check of each plugin.

    The test takes `plugin`, a class, and `check`, and calls `check(plugin)`. A check that does not apply to a plugin is
    skipped, with the reason. A failure shows the promise, the measurement, the place and a hint.

    Arguments
    ---------
    targets : class, str or path, or a list of these
        Classes of plugins, registered or not; a Python file or folder; an installed package that announces plugins in
        the entry-point group `avse.plugins`; a kind (`fusion`); a plugin (`fusion/my_fusion`).
    only : sequence of str, optional
        Names of checks to run; all by default.
    expected_failures : mapping of str to str, optional
        Reasons by test id (`fusion/my_fusion-causal`), for checks that are known to fail. Such a test fails once the
        check passes.

    Returns
    -------
    pytest.MarkDecorator

    Raises
    ------
    AvseError
        If a target leads to no plugin, a plugin cannot be loaded, or a name in `only` or `expected_failures` is wrong.

    Example
    -------
    >>> @parametrize_with_checks("corruption/blur", only=["repeatable", "documented"])
    ... def test_conformance(plugin, check):
    ...     check(plugin)
    >>> [case.id for case in test_conformance.pytestmark[0].args[1]]
    ['corruption/blur-documented', 'corruption/blur-repeatable']
    """
    import pytest

    cases = {
        f"{kind}/{name}-{check.name}": (cls, _TestOfCheck(check))
        for cls in _classes([targets] if isinstance(targets, (str, Path, type)) else targets)
        for kind, name in [kind_and_name(cls)]
        for check in checks_of(kind)
    }
    names = {test.check.name for _, test in cases.values()}
    for name in only or ():
        if name not in names:
            raise AvseError(plugins.unknown("check", name, names))
    expected_failures = expected_failures or {}
    for case in expected_failures:
        if case not in cases:
            raise AvseError(plugins.unknown("check of a plugin", case, cases))
    marks = {case: pytest.mark.xfail(reason=reason, strict=True) for case, reason in expected_failures.items()}
    return pytest.mark.parametrize(
        ("plugin", "check"),
        [
            pytest.param(cls, test, id=case, marks=marks.get(case, ()))
            for case, (cls, test) in cases.items()
            if not only or test.check.name in only
        ],
    )


def run_check(target: Target, name: str) -> None:
    """Run one check of plugins and raise its exception, with the whole traceback.

    Arguments
    ---------
    target : class, str or path
        As of `parametrize_with_checks`.
    name : str
        Of the check.

    Raises
    ------
    CheckFailed
        If a plugin breaks the promise.
    NotApplicable
        If the check does not apply to a plugin.

    Example
    -------
    >>> run_check("fusion/concat", "padding")
    """
    for cls in _classes([target]):
        checks = {check.name: check for check in checks_of(kind_and_name(cls)[0])}
        if name not in checks:
            raise AvseError(plugins.unknown("check", name, checks))
        checks[name].run(cls)


def _classes(targets: Sequence[Target]) -> list[type]:
    classes, problems = find_plugins(targets)
    if problems:
        raise AvseError("\n".join(map(str, problems)))
    return classes


class _TestOfCheck:
    """A check that can be called in a test."""

    def __init__(self, check: Check) -> None:
        self.check = check

    def __call__(self, plugin: type) -> None:
        __tracebackhide__ = True
        import pytest

        result = _result_of(self.check, plugin)
        if not result.applicable:
            pytest.skip(result.found)
        if isinstance(result.error, CheckFailed):
            result.error.args = (str(result),)
        elif result.error is not None:
            print(result)  # shown by pytest above the traceback
        if result.error is not None:
            raise result.error

    def __repr__(self) -> str:
        return f"<check {self.check.name}>"

"""The checks find planted faults: a plugin that breaks one promise fails the check of that promise, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from mutants import mutants

from avse import plugins
from avse.conformance import PROMISES, checks_of, does_not_apply, run_checks

KINDS = list(plugins.KINDS)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    """All planted plugins in the registry, so that recipes can name them."""
    names = []
    for kind in KINDS:
        for cls in [*mutants(kind).good, *(cls for _, cls in mutants(kind).faults)]:
            name = f"planted_{cls.__name__}"
            plugins.register(kind, name)(cls)
            assert plugins.get(kind, name) is cls
            names.append((kind, name))
    yield
    for kind, name in names:
        cls = plugins.get(kind, name)
        plugins.forget(kind, name)
        del cls.plugin_kind, cls.plugin_name


def failed(cls: type, kind: str) -> dict[str, str]:
    torch.manual_seed(0)  # the same weights, whichever tests run before
    return {result.check.name: str(result) for result in run_checks(cls, kind) if not result.passed}


@pytest.mark.parametrize(
    ("kind", "cls"),
    [pytest.param(kind, cls, id=f"{kind}/{cls.__name__}") for kind in KINDS for cls in mutants(kind).good],
)
def test_a_good_plugin_passes(kind: str, cls: type) -> None:
    assert failed(cls, kind) == {}


@pytest.mark.parametrize(
    ("kind", "checks", "cls"),
    [
        pytest.param(kind, checks, cls, id=f"{kind}/{cls.__name__}-{'-'.join(checks)}")
        for kind in KINDS
        for checks, cls in mutants(kind).faults
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_planted_fault_is_found_by_its_check_alone(kind: str, checks: tuple[str, ...], cls: type) -> None:
    found = failed(cls, kind)
    assert sorted(found) == sorted(checks), "\n".join(found.values()) or f"not found: what {checks} should find"


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_has_a_planted_fault(kind: str) -> None:
    checks = {check.name for check in checks_of(kind)}
    faults = {check for found_by, _ in mutants(kind).faults for check in found_by}
    assert checks - faults == set(), "plant a plugin that only this check finds"
    assert faults - checks == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_promise_is_checked_or_said_not_to_apply(kind: str) -> None:
    checks = [check.name for check in checks_of(kind)]
    assert len(set(checks)) == len(checks)
    assert not set(checks) & set(does_not_apply(kind))
    assert set(PROMISES) <= {*checks, *does_not_apply(kind)}
    assert all(does_not_apply(kind).values()) and set(does_not_apply(kind)) <= set(PROMISES)

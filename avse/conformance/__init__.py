"""Conformance checks: what every plugin of a kind must do, as named tests that any class can be put to.

`core` holds what a check is and how it is run; `common`, `modules`, `devices` and `complexity` what several kinds
share; `runner` is what `avse check` calls; each further module is a kind, with `CHECKS`, and `DOES_NOT_APPLY` for those
of `PROMISES` that say nothing about it. A check gets the class, builds an instance by `cls.example()`, and raises
`CheckFailed` with what it measured.
"""

from avse.conformance.core import (
    PROMISES,
    Check,
    CheckFailed,
    CheckResult,
    NotApplicable,
    build,
    checks_of,
    contract_methods,
    does_not_apply,
    example_batch,
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    run_check,
    run_checks,
    seeded,
)

__all__ = [
    "PROMISES",
    "Check",
    "CheckFailed",
    "CheckResult",
    "NotApplicable",
    "build",
    "checks_of",
    "contract_methods",
    "does_not_apply",
    "example_batch",
    "expect",
    "expect_close",
    "expect_equal",
    "expect_finite",
    "run_check",
    "run_checks",
    "seeded",
]

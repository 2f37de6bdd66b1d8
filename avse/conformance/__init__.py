"""Conformance checks: what every plugin of a kind must do, as named tests of a class.

`core` defines a check and runs it; `common`, `modules`, `devices` and `complexity` hold the checks that several kinds
share; `avse check` calls `runner`; each other module is a kind, with its `CHECKS`, and with `DOES_NOT_APPLY` for those
of `PROMISES` that do not concern it. A check takes the class, builds an instance by `cls.example()`, and raises
`CheckFailed` with what it measured.
"""

from avse.conformance.core import (  # noqa: F401
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

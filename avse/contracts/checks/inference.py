"""Checks of the kind `inference`."""

from __future__ import annotations

import torch

from avse.contracts.checks import (
    DOCUMENTED,
    Check,
    build,
    example_batch,
    expect,
    expect_equal,
)
from avse.contracts.checks.estimate import ESTIMATE_CHECKS


def _anytime(cls: type) -> None:
    inference = build(cls)
    batch = example_batch()
    torch.manual_seed(0)
    estimates = list(inference.iterate(batch))
    expect(
        len(estimates) == inference.iterations,
        f"{inference.iterations} iterations were asked for, {len(estimates)} estimates came",
    )
    for number, estimate in enumerate(estimates, start=1):
        expect(estimate.speech.shape == batch.noisy.shape, f"estimate {number} has {tuple(estimate.speech.shape)}")
        expect(len(estimate.trace) == number, f"the trace of estimate {number} has {len(estimate.trace)} values")
    torch.manual_seed(0)
    expect_equal(inference(batch).speech, estimates[-1].speech, "forward and the last estimate of iterate")


CHECKS = [
    DOCUMENTED,
    *[check for check in ESTIMATE_CHECKS if check.name not in ("gradients", "repeatable")],
    Check(
        "anytime",
        _anytime,
        "iterate gives one whole estimate after each iteration, the trace growing with it",
        "yield an Estimate inside the loop, with list(trace)",
    ),
]

"""Checks of the kind `inference`."""

from __future__ import annotations

from typing import Any

import torch

from avse.conformance import unrolled
from avse.conformance.core import Check, Checks, build, example_batch, expect, expect_equal, seeded
from avse.conformance.estimate import estimate_checks

CHECKS = Checks(estimate_checks(draws=True, others="prior noise_model"))


@CHECKS.add("anytime", hint="yield an Estimate inside the loop, with list(trace)")
def _anytime(cls: type[Any]) -> None:
    """Iterate gives one whole estimate after each iteration, the trace growing with it."""
    inference = build(cls)
    batch = example_batch()
    with torch.no_grad(), seeded():
        estimates = list(inference.iterate(batch))
    wanted = inference.iterations
    expect(len(estimates) == wanted, f"{wanted} iterations were asked for, {len(estimates)} estimates came")
    for number, estimate in enumerate(estimates, start=1):
        expect(estimate.speech.shape == batch.noisy.shape, f"estimate {number} has {tuple(estimate.speech.shape)}")
        expect(len(estimate.trace) == number, f"the trace of estimate {number} has {len(estimate.trace)} values")
    with torch.no_grad(), seeded():
        last = inference(batch)
    expect_equal(last.speech, estimates[-1].speech, "forward and the last estimate of iterate")


CHECKS.append(Check("unrolled", unrolled.check_inference, unrolled.PROMISE, unrolled.HINT))

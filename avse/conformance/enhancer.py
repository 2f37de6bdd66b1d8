"""Checks of the kind `enhancer`."""

from __future__ import annotations

from avse.conformance.estimate import estimate_checks

CHECKS = estimate_checks(draws=False)

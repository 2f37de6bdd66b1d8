"""Checks of the kind `enhancer`."""

from __future__ import annotations

from avse.contracts.checks import (
    DOCUMENTED,
)
from avse.contracts.checks.estimate import ESTIMATE_CHECKS

CHECKS = [DOCUMENTED, *ESTIMATE_CHECKS]

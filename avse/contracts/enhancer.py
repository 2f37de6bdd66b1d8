"""Kind `enhancer`: a supervised network from noisy audio and video to the speech."""

from __future__ import annotations

from avse.contracts.system import System


class Enhancer(System):
    """A network that maps a `Batch` to an `Estimate` in one pass; see `System`."""

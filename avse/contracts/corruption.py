"""Kind `corruption`: what goes wrong with a video, for training and for tests of robustness."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from avse.contracts.plugin import Plugin

SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(Plugin):
    """Spoils mouth crops as cameras, networks and trackers do.

    Arguments
    ---------
    severity : int
        1 (hardly visible) to 5 (nothing useful left).

    Raises
    ------
    ValueError
        If the severity is not 1, 2, 3, 4 or 5.

    Example
    -------
    >>> class Darker(Corruption):
    ...     def __call__(self, mouth, valid, rng):
    ...         return mouth // (1 + self.severity), valid.copy()
    >>> mouth = np.full((2, 88, 88), 100, np.uint8)
    >>> Darker(severity=4)(mouth, np.ones(2, bool), np.random.default_rng(0))[0].max()
    np.uint8(20)
    """

    severity: int

    def __init__(self, severity: int = 3) -> None:
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise ValueError(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}.")
        self.severity = int(severity)

    @abstractmethod
    def __call__(self, mouth: np.ndarray, valid: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Spoil one clip.

        Arguments
        ---------
        mouth : array, shape (frames, 88, 88), uint8
            Not changed in place.
        valid : array, shape (frames,), bool
            Not changed in place.
        rng : numpy.random.Generator
            The only source of chance: equal generators give equal results.

        Returns
        -------
        mouth : array, shape (frames, 88, 88), uint8
        valid : array, shape (frames,), bool
            False in frames that a tracker would lose. A corruption that no tracker notices (blur, a frozen picture)
            leaves it as it is.
        """

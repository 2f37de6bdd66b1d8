"""Corruption `my_plugin`: what goes wrong with a video.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import numpy as np
from avse.contracts.corruption import Corruption
from avse.plugins import register


@register("corruption", "my_plugin")
class MyPlugin(Corruption):
    """A bright veil, as of fog or a light behind the head, that wavers over time.

    Arguments
    ---------
    severity : int
        From 1 (hardly visible) to 5 (nothing useful left).

    Takes and returns mouth (video_frames, 88, 88) uint8 and valid (video_frames,) bool.

    Example
    -------
    >>> mouth, valid = np.full((10, 88, 88), 99, np.uint8), np.ones(10, dtype=bool)
    >>> fog, rng = MyPlugin(severity=5), np.random.default_rng(0)
    >>> foggy, foggy_valid = fog(mouth, valid, rng)
    >>> foggy.shape, bool(foggy.mean() > 200)
    ((10, 88, 88), True)
    """

    # KEEP the severity from 1 to 5, which the base class checks. More arguments may
    # follow it: def __init__(self, severity: int = 3, ...), super().__init__(severity).

    def __call__(
        self,
        mouth: np.ndarray,
        valid: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Corruption.__call__`: (video_frames, 88, 88) and (video_frames,)."""
        # CHANGE: what happens to the crops. KEEP `rng` as the only source of chance,
        # and the arrays given as they are: work on copies.
        veil = 0.16 * self.severity * rng.uniform(0.9, 1.1, size=len(mouth))
        veil = veil[:, None, None]
        foggy = (1.0 - veil) * mouth + veil * 255.0
        # CHANGE: false in frames that a tracker would lose. Fog is not noticed.
        return np.clip(np.round(foggy), 0, 255).astype(np.uint8), valid.copy()

"""Mouth tracker `my_plugin`: detects the faces of one frame.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.plugins import register


@register("mouth_tracker", "my_plugin")
class MyPlugin(MouthTracker):
    """Faces by a cascade that comes with OpenCV; the mouth is placed by the box.

    Arguments
    ---------
    cascade : str
        Name of the cascade; `haarcascade_profileface` sees faces turned left.
    neighbours : int
        Overlapping detections that a face needs.

    Takes a frame (height, width, 3) uint8; returns a list of `Face`.

    Example
    -------
    >>> MyPlugin().detect(np.zeros((120, 160, 3), dtype=np.uint8))
    []
    """

    # CHANGE: where the method comes from, such as "Doe et al., A tracker, 2026".
    paper = ""

    def __init__(
        self,
        cascade: str = "haarcascade_frontalface_alt2",
        neighbours: int = 4,
    ) -> None:
        self.cascade, self.neighbours = cascade, neighbours
        # The detector is loaded when it is first used, so that a list of all plugins
        # costs nothing.
        self._detector: Any = None

    # KEEP: one frame at a time and no state. `avse` follows the face, smooths its
    # position and crops the mouth, for every tracker.
    def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
        """See `MouthTracker.detect`: frame (height, width, 3)."""
        # Heavy packages are imported where they are used, too.
        import cv2

        if self._detector is None:
            path = f"{cv2.data.haarcascades}{self.cascade}.xml"
            self._detector = cv2.CascadeClassifier(path)
        # CHANGE: any detector. `frame` is red first and must not be changed in place;
        # faces smaller than min_size pixels are not looked for.
        grey = cv2.equalizeHist(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
        smallest = max(24, int(min_size))
        boxes, _, weights = self._detector.detectMultiScale3(
            grey,
            scaleFactor=1.1,
            minNeighbors=self.neighbours,
            minSize=(smallest, smallest),
            outputRejectLevels=True,
        )
        faces = []
        for (x, y, width, height), weight in zip(boxes, np.ravel(weights)):
            box = (float(x), float(y), float(width), float(height))
            # CHANGE: give mouth_left, mouth_right, eye_left and eye_right as (x, y)
            # where the detector knows them; without them the box decides.
            # KEEP the score in [0, 1].
            faces.append(Face(box, score=float(1 / (1 + np.exp(-weight)))))
        return faces

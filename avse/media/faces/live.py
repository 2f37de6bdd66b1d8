"""Mouth crops from a camera: as `MouthCropper`, from the frames so far alone."""

from __future__ import annotations

import numpy as np

from avse.media.faces.crop import INTERVAL, Frame, MouthCropper


class LiveCropper(MouthCropper):
    """Follows one face, and crops its mouth in each frame as it comes.

    Faces are detected in every fifth frame. The position of the mouth is a mean over the detections so far, so that the
    crop follows a moving head a little late. A face that was missed at the last detection is not valid.

    Arguments
    ---------
    tracker, face :
        See `MouthCropper`.

    Example
    -------
    >>> from avse.mouth_trackers.haar import Haar
    >>> LiveCropper(Haar()).crop(np.zeros((120, 160, 3), dtype=np.uint8)) is None
    True
    """

    _index = -1

    def crop(self, picture: np.ndarray) -> np.ndarray | None:
        """The mouth in the next frame, shape (88, 88), uint8; None if it was not found.

        Arguments
        ---------
        picture : array, shape (height, width, 3), uint8
            RGB; about 25 per second.
        """
        self._index += 1
        frame = Frame.from_array(picture)
        if self._index - self._detected >= INTERVAL:
            self._detect(self._index, frame)
        crop, valid = self._crop(self._index, self._look(frame))
        return crop if valid else None

    def _around(self, index: int) -> slice | None:
        assert self._followed is not None
        last = self._followed.frames[-1]
        return super()._around(last) if last == self._detected else None

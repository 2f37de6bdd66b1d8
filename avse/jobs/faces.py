"""Which of several faces speaks: the model enhances the audio with each, and tells how well its lips fit the audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from avse.media import open_clip
from avse.media.faces.speakers import find_faces, places, relative_box
from avse.overlap import OVERLAP_SECONDS
from avse.synchrony import LONGEST_SECONDS, estimate_offset

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from avse.model import Model
    from avse.sources import Decoding

SPEAKING = "speaking"  # what `--face` is called


@dataclass
class SeenFace:
    """A face in a video, and what a model says of it.

    Arguments
    ---------
    name : str
        Where it is: `left`, `middle`, `right`, or `face1`, `face2`, ... from left to right.
    box : list of float
        The face in a frame of the video: x, y, width, height, relative to its width and height.
    score : float
        Mean over the video frames of the reliability times the probability of speaking; of the reliability alone, if
        the model does not tell who speaks.
    reliability : list of float
        By video frame (25 per second): how far the video of this face was trusted.
    speaking : list of float or None
        By video frame: the probability that this person speaks; None if the model does not tell.
    """

    name: str
    box: list[float]
    score: float
    reliability: list[float]
    speaking: list[float] | None


def seen_faces(
    model: Model,
    source: str | Path,
    offset: float | None,
    *,
    chunk_seconds: float,
    track: int = 0,
    **reading: Unpack[Decoding],
) -> list[SeenFace]:
    """The faces of a video from left to right, none if there are fewer than two.

    Arguments as in `enhance_file`; the offset is in seconds, and estimated for each face where it is None.
    """
    reading["face"] = "largest"
    with open_clip(source, **reading) as reader:
        video = reader.info.video_path
    picture, faces = (None, []) if video is None else find_faces(video, reading.get("tracker"))
    if picture is None or len(faces) < 2:
        return []
    seen = []
    for place, (name, face) in enumerate(zip(places(len(faces)), faces)):
        reading["face"] = place
        with open_clip(source, track=track, **reading) as reader:
            late = estimate_offset(reader.head(LONGEST_SECONDS), model.device).applied if offset is None else offset
            reader.offset = late
            pieces = list(
                model.stream(reader.chunks(chunk_seconds, overlap_seconds=min(OVERLAP_SECONDS, chunk_seconds / 2)))
            )
        reliability = torch.cat([piece.reliability for piece in pieces])
        speaking = torch.cat([piece.speaking for piece in pieces if piece.speaking is not None] or [torch.empty(0)])
        told = len(speaking) == len(reliability)
        score = float((reliability * speaking if told else reliability).mean())
        seen.append(
            SeenFace(
                name,
                relative_box(face.box, picture),
                round(score, 4),
                rounded_frames(reliability),
                rounded_frames(speaking) if told else None,
            )
        )
    return seen


def speaking_face(faces: Sequence[SeenFace]) -> int | str:
    """What `face` of `avse.media.read_clip` follows: the number of the face with the highest score; of none, `largest`.

    Of equal scores, the larger face.

    >>> speaking_face([SeenFace("left", [0, 0, 1, 1], 0.2, [], None), SeenFace("right", [0, 0, 1, 1], 0.4, [], None)])
    1
    """
    rank = lambda place: (faces[place].score, faces[place].box[2] * faces[place].box[3])
    return max(range(len(faces)), key=rank, default="largest")


def rounded_frames(values: torch.Tensor) -> list[float]:
    """Values by video frame as a report states them."""
    return [round(value, 4) for value in values.tolist()]

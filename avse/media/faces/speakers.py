"""Who talks in a sound: a mouth for each talker, from a video of each, or from one video that shows them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.contracts.types import VIDEO_RATE, Clip
from avse.errors import AvseError
from avse.media.decode import VideoSource
from avse.media.faces.crop import INTERVAL
from avse.media.reader import read_clip, tracker_of

_LONGEST = 60 * VIDEO_RATE  # pictures in which faces are counted
_SIDE = 640  # longer side of the picture that is kept
_POSITIONS = {1: ("speaker",), 2: ("left", "right"), 3: ("left", "middle", "right")}
OTHER = "other"


@dataclass
class Talker:
    """One who talks.

    Arguments
    ---------
    name : str
        Of the file of their video; where one video shows several, their place in it; `other` where nobody is seen.
    clip : Clip
        The sound of all, and the mouth of this talker.
    video : path or None
        Where they are seen.
    picture : array, shape (height, width, 3), uint8, or None
        Of this video.
    box : (x, y, width, height) or None
        Their face in this picture, in pixels.
    """

    name: str
    clip: Clip
    video: Path | None = None
    picture: np.ndarray | None = None
    box: tuple[float, ...] | None = None


def find_talkers(
    sound: str | Path,
    videos: Sequence[str | Path] = (),
    *,
    others: int = 0,
    roi: str = "auto",
    tracker: str | MouthTracker | None = None,
) -> list[Talker]:
    """All who talk in a sound.

    Arguments
    ---------
    sound : path
        The mixture: sound alone, or a video with sound.
    videos : sequence of path
        One of each talker, beginning together with the sound; or one that shows several faces. None: the pictures of
        `sound` itself, if it has any.
    others : int
        How many more talk whom no video shows.
    roi, tracker :
        See `avse.media.read_clip`.

    Returns
    -------
    list of Talker
        Those seen, in the order of their videos or from left to right; then the others.

    Raises
    ------
    AvseError
        If a file cannot be read, or nobody is seen and there are no others.

    Example
    -------
    >>> import soundfile, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.wav"
    >>> soundfile.write(path, np.zeros(16000, np.float32), 16000)
    >>> [one.name for one in find_talkers(path, others=2)]
    ['other1', 'other2']
    """
    if others < 0:
        raise AvseError(f"others must not be negative, got {others}.")
    heard = read_clip(sound, use_video=False)
    found = []
    if len(videos) > 1:
        for name, video in zip(_names(videos), videos):
            clip = read_clip(sound, video=video, roi=roi, tracker=tracker)
            picture, faces = _faces(video, tracker, 1)
            largest = max(faces, key=lambda face: face.size, default=None)
            found.append(Talker(name, clip, Path(video), picture, None if largest is None else largest.box))
    else:
        video = videos[0] if videos else sound
        try:
            picture, faces = _faces(video, tracker)
        except AvseError:
            if videos:
                raise
            picture, faces = None, []  # the sound has no pictures
        if len(faces) == 1 or (videos and not faces):
            # One face is followed by its size; pictures without a face may be mouth crops.
            clip = read_clip(sound, video=videos[0] if videos else None, roi=roi, tracker=tracker)
            name = _names(videos)[0] if videos else _POSITIONS[1][0]
            found = [Talker(name, clip, Path(video), picture, faces[0].box if faces else None)]
        for place, (name, face) in enumerate(zip(places(len(faces)), faces)) if len(faces) > 1 else ():
            clip = read_clip(sound, video=videos[0] if videos else None, roi=roi, face=place, tracker=tracker)
            found.append(Talker(name, clip, Path(video), picture, face.box))
    unseen = [OTHER] if others == 1 else [f"{OTHER}{number}" for number in range(1, others + 1)]
    found += [Talker(name, heard) for name in unseen]
    if not found:
        raise AvseError(
            f"{sound}: nobody is seen. Give a video of each talker (--video A.mp4 --video B.mp4), or say how many talk "
            "without one (--others 2)."
        )
    return found


def places(count: int) -> tuple[str, ...]:
    """Names of faces side by side, by their place from left to right.

    >>> places(2), places(4)
    (('left', 'right'), ('face1', 'face2', 'face3', 'face4'))
    """
    return _POSITIONS.get(count) or tuple(f"face{number}" for number in range(1, count + 1))


def _names(videos: Sequence[str | Path]) -> list[str]:
    """Names of files without their suffix, each once."""
    names: list[str] = []
    for video in videos:
        stem = Path(video).stem
        number, name = 2, stem
        while name in (*names, OTHER, "rest"):
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def _faces(
    video: str | Path, tracker: str | MouthTracker | None, enough: int | None = None
) -> tuple[np.ndarray | None, list[Face]]:
    """The picture of a video with most faces that another picture also shows, and these from left to right."""
    source, finder = VideoSource(video), tracker_of(tracker)
    seen: list[tuple[np.ndarray, list[Face]]] = []
    try:
        pictures = islice(source.pictures(source.start), 0, _LONGEST, INTERVAL)
        nothing = 0
        for number, picture in enumerate(pictures):
            if picture is None:
                nothing += 1
                if nothing > 5:  # the pictures have ended, or hold still for a second
                    break
                continue
            nothing = 0
            if number % INTERVAL and len(seen) > 4:
                continue  # once a second will do after the first
            rgb = picture.rgb(_SIDE)
            seen.append((rgb, sorted(finder.detect(rgb), key=lambda face: face.centre)))
            if enough is not None and len(seen[-1][1]) >= enough:
                break
    finally:
        source.container.close()
    counts = [len(faces) for _, faces in seen]
    agreed = [count for count in counts if counts.count(count) > 1 or len(counts) == 1 or enough is not None]
    most = max(agreed, default=0)
    if not most:
        return (seen[0][0] if seen else None), []
    return next((rgb, faces) for rgb, faces in seen if len(faces) == most)

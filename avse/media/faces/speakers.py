"""The speakers of a mixture: a mouth for each, from a video of each, or from one video that shows all of them."""

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

_LONGEST = 60 * VIDEO_RATE  # video frames in which faces are counted
_SIDE = 640  # longer side of the frame that is kept
_POSITIONS = {1: ("speaker",), 2: ("left", "right"), 3: ("left", "middle", "right")}
OTHER = "other"


@dataclass
class Speaker:
    """One speaker of a mixture.

    Arguments
    ---------
    name : str
        The name of the video file; the position in the frame if one video shows several; `other` without a video.
    clip : Clip
        The audio of the mixture, and the mouth of this speaker.
    video : path or None
        The video that shows the speaker.
    picture : array, shape (height, width, 3), uint8, or None
        A frame of this video.
    box : (x, y, width, height) or None
        The face in this frame, in pixels.
    """

    name: str
    clip: Clip
    video: Path | None = None
    picture: np.ndarray | None = None
    box: tuple[float, ...] | None = None


def find_speakers(
    audio: str | Path,
    videos: Sequence[str | Path] = (),
    *,
    others: int = 0,
    roi: str = "auto",
    tracker: str | MouthTracker | None = None,
    track: int = 0,
) -> list[Speaker]:
    """The speakers of a mixture.

    Arguments
    ---------
    audio : path
        The mixture: an audio file, or a video with audio.
    videos : sequence of path
        One of each speaker, with the same start as the audio; or one that shows several faces. None: the video of
        `audio` itself, if it has one.
    others : int
        Number of further speakers whom no video shows.
    roi, tracker, track :
        See `avse.media.read_clip`.

    Returns
    -------
    list of Speaker
        Those with a video, in the order of the videos or from left to right; then the others.

    Raises
    ------
    AvseError
        If a file cannot be read, or there is no speaker.

    Example
    -------
    >>> import soundfile, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.wav"
    >>> soundfile.write(path, np.zeros(16000, np.float32), 16000)
    >>> [speaker.name for speaker in find_speakers(path, others=2)]
    ['other1', 'other2']
    """
    if others < 0:
        raise AvseError(f"others must not be negative, got {others}.")
    speakers = []
    if len(videos) > 1:
        for name, video in zip(_names(videos), videos):
            clip = read_clip(audio, video=video, roi=roi, tracker=tracker, track=track)
            picture, faces = find_faces(video, tracker, 1)
            largest = max(faces, key=lambda face: face.size, default=None)
            speakers.append(Speaker(name, clip, Path(video), picture, None if largest is None else largest.box))
    else:
        video = videos[0] if videos else audio
        try:
            picture, faces = find_faces(video, tracker)
        except AvseError:
            if videos:
                raise
            picture, faces = None, []  # an audio file
        if len(faces) == 1 or (videos and not faces):
            # A single face is the largest; a video without a face may hold mouth crops.
            clip = read_clip(audio, video=videos[0] if videos else None, roi=roi, tracker=tracker, track=track)
            name = _names(videos)[0] if videos else _POSITIONS[1][0]
            speakers = [Speaker(name, clip, Path(video), picture, faces[0].box if faces else None)]
        for place, (name, face) in enumerate(zip(places(len(faces)), faces)) if len(faces) > 1 else ():
            clip = read_clip(
                audio, video=videos[0] if videos else None, roi=roi, face=place, tracker=tracker, track=track
            )
            speakers.append(Speaker(name, clip, Path(video), picture, face.box))
    names = [OTHER] if others == 1 else [f"{OTHER}{number}" for number in range(1, others + 1)]
    speakers += [Speaker(name, read_clip(audio, use_video=False, track=track)) for name in names]
    if not speakers:
        raise AvseError(
            f"{audio}: no video shows a speaker. Give a video of each (--video A.mp4 --video B.mp4), or the number of "
            "speakers without a video (--others 2)."
        )
    return speakers


def places(count: int) -> tuple[str, ...]:
    """Names of faces, from left to right.

    >>> places(2), places(4)
    (('left', 'right'), ('face1', 'face2', 'face3', 'face4'))
    """
    return _POSITIONS.get(count) or tuple(f"face{number}" for number in range(1, count + 1))


def _names(videos: Sequence[str | Path]) -> list[str]:
    """Names of files without suffix, made unique."""
    names: list[str] = []
    for video in videos:
        stem = Path(video).stem
        number, name = 2, stem
        while name in (*names, OTHER, "rest"):
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def relative_box(box: Sequence[float], picture: np.ndarray) -> list[float]:
    """x, y, width and height of a box in a picture, relative to the width and height of the picture.

    >>> relative_box((32, 0, 16, 8), np.zeros((16, 64, 3)))
    [0.5, 0.0, 0.25, 0.5]
    """
    height, width = picture.shape[:2]
    return [round(float(value) / side, 4) for value, side in zip(box, (width, height, width, height))]


def find_faces(
    video: str | Path, tracker: str | MouthTracker | None = None, enough: int | None = None
) -> tuple[np.ndarray | None, list[Face]]:
    """The frame with the largest number of faces that occurs twice, and its faces from left to right.

    Frames of the first minute are looked at, until one has `enough` faces. The frame is in colour, at most 640 pixels
    wide and high; None if the video has none.
    """
    source, finder = VideoSource(video), tracker_of(tracker)
    detections: list[tuple[np.ndarray, list[Face]]] = []
    try:
        frames = islice(source.frames(source.start), 0, _LONGEST, INTERVAL)
        nothing = 0
        for number, frame in enumerate(frames):
            if frame is None:
                nothing += 1
                if nothing > 5:  # the video has ended, or is frozen for a second
                    break
                continue
            nothing = 0
            if number % INTERVAL and len(detections) > 4:
                continue  # after the first, one frame per second is enough
            rgb = frame.rgb(_SIDE)
            detections.append((rgb, sorted(finder.detect(rgb), key=lambda face: face.centre)))
            if enough is not None and len(detections[-1][1]) >= enough:
                break
    finally:
        source.container.close()
    counts = [len(faces) for _, faces in detections]
    agreed = [count for count in counts if counts.count(count) > 1 or len(counts) == 1 or enough is not None]
    most = max(agreed, default=0)
    if not most:
        return (detections[0][0] if detections else None), []
    return next((rgb, faces) for rgb, faces in detections if len(faces) == most)

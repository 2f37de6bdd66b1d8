"""Which of several audio tracks of a file holds the speech: the one of which the model takes most for speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avse.contracts.types import SAMPLE_RATE, Clip, Estimate
from avse.errors import AvseError

AUTO = "auto"
_HEAD_SECONDS, _LISTENED_SECONDS = 60.0, 8.0
_NEARLY = 0.7  # of the best share: of tracks that all hold speech, such as languages, the first is taken


@dataclass
class AudioTrack:
    """An audio track, and what a model says of it.

    Arguments
    ---------
    language, title : str
        By its tags; empty if it has none.
    speech_share : float
        Power of the estimated speech over that of the track, in its loudest 8 s of the first minute.
    """

    language: str
    title: str
    speech_share: float


def audio_tracks(enhance: Callable[[list[Clip]], list[Estimate]], source: str | Path) -> list[AudioTrack]:
    """The audio tracks of a file, none if there are fewer than two; `enhance` is a model's. No video is looked at."""
    from avse.media import open_clip

    with open_clip(source, use_video=False) as reader:
        count = reader.info.tracks
    tracks = []
    for number in range(count) if count > 1 else ():
        try:
            with open_clip(source, use_video=False, track=number) as reader:
                tags, audio = reader.tags(of_file=False), reader.head(_HEAD_SECONDS).audio
        except AvseError:  # a track without samples
            tracks.append(AudioTrack("", "", 0.0))
            continue
        size = round(_LISTENED_SECONDS * SAMPLE_RATE)
        starts = range(0, max(1, len(audio) - size), SAMPLE_RATE)
        start = max(starts, key=lambda start: float(np.square(audio[start : start + size]).sum()))
        audio = audio[start : start + size]
        power = float(np.square(audio).sum())
        speech = enhance([Clip(audio)])[0].speech.numpy() if power else audio
        share = float(np.square(speech).sum()) / power if power else 0.0
        tracks.append(AudioTrack(tags.get("language", ""), tags.get("title", ""), round(share, 4)))
    return tracks


def speech_track(tracks: list[AudioTrack]) -> int:
    """The number of the first track whose share of speech is nearly the largest; 0 of none.

    >>> speech_track([AudioTrack("", "music", 0.01), AudioTrack("eng", "", 0.8), AudioTrack("deu", "", 0.9)])
    1
    """
    best = max((track.speech_share for track in tracks), default=0.0)
    return next((number for number, track in enumerate(tracks) if track.speech_share >= _NEARLY * best), 0)


def parse_track(track: str | int) -> int | None:
    """`--track`: a number from 0, or None for `auto`.

    >>> parse_track("auto"), parse_track("1")
    (None, 1)
    """
    if track == AUTO:
        return None
    try:
        number = int(track)
    except ValueError:
        number = -1
    if number < 0:
        raise AvseError(f"track {track!r}: must be {AUTO}, or the number of an audio track, from 0.")
    return number

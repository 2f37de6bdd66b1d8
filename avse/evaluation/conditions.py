"""What is done to the video in an evaluation: nothing, one corruption, or a sweep over many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avse.contracts.corruption import SEVERITIES
from avse.data.manifest import Utterance
from avse.data.rendering import Mixture
from avse.errors import AvseError
from avse.evaluation.scoring import CLEAN, NO_VIDEO, Condition, Item, video_of

CLEAN_VIDEO, WITHOUT_VIDEO = Condition(CLEAN), Condition(NO_VIDEO)


def one_condition(use_video: bool, corrupt: str | None) -> Condition:
    """The condition of a plain evaluation.

    Raises
    ------
    AvseError
        If `corrupt` is not `NAME=SEVERITY` of a corruption.

    Example
    -------
    >>> one_condition(True, "blur=3")
    Condition(video='blur', severity=3)
    """
    if corrupt is None:
        return CLEAN_VIDEO if use_video else WITHOUT_VIDEO
    name, _, text = corrupt.partition("=")
    try:
        severity = float(text)
    except ValueError:
        raise AvseError(f"corrupt={corrupt!r} is not NAME=SEVERITY; for example blur=3.") from None
    return _checked(name, int(severity) if severity.is_integer() else severity, f"corrupt={corrupt!r}")


def sweep(corruptions: str | Sequence[str], severities: Sequence[int] | None = None) -> list[Condition]:
    """The conditions of a sweep: clean video, no video, and each corruption (or `all`) at each severity (1 to 5).

    Raises
    ------
    AvseError
        If there is no such corruption or severity.

    Example
    -------
    >>> [(one.video, one.severity) for one in sweep(["blur"], [1, 5])]
    [('clean', None), ('no_video', None), ('blur', 1), ('blur', 5)]
    """
    from avse import plugins

    asked = [corruptions] if isinstance(corruptions, str) else list(corruptions)
    names = plugins.names("corruption") if asked == ["all"] else list(dict.fromkeys(asked))
    levels = sorted(set(SEVERITIES if severities is None else severities))
    if not names or not levels:
        raise AvseError("Name at least one corruption, or all, and at least one severity.")
    swept = [_checked(name, level, f"{name}={level}") for name in names for level in levels]
    return [CLEAN_VIDEO, WITHOUT_VIDEO, *swept]


def items_of(mixtures: Sequence[Mixture], conditions: Sequence[Condition], pool: Sequence[Mixture]) -> list[Item]:
    """What is to be scored: every mixture under every condition, with mouths of other speakers from `pool`."""
    corrupts = any(condition.corrupts for condition in conditions)
    utterances, known = ([u for mixture in group for u in mixture.utterances] for group in (mixtures, pool))
    others = {same: _others(utterances, known, same) if corrupts else {} for same in (False, True)}

    def rivals(mixture: Mixture, what: Condition) -> tuple[Utterance | None, ...]:
        from avse import plugins

        same = getattr(plugins.get("corruption", what.video), "same_corpus", False)
        return tuple(others[same].get(utterance.id) for utterance in mixture.utterances)

    return [Item(one, what, rivals(one, what) if what.corrupts else ()) for one in mixtures for what in conditions]


def _others(utterances: Sequence[Utterance], pool: Sequence[Utterance], same_corpus: bool) -> dict[str, Utterance]:
    """For each utterance, by its id, one with the mouth of another speaker; none where there is none.

    All utterances of one video get the same, which depends on names alone, so that it needs to be tracked once.
    """
    videos = {video: utterance for utterance in pool if (video := video_of(utterance)) is not None}
    circle = sorted(((_shuffled(video), video, row) for video, row in videos.items()), key=lambda place: place[0])
    others = {}
    for utterance in utterances:
        video = video_of(utterance)
        if video is None:
            continue
        start = next((at for at, (name, _, _) in enumerate(circle) if name > _shuffled(video)), 0)
        for _, other_video, other in circle[start:] + circle[:start]:
            known = other.speaker and utterance.speaker
            if same_corpus and other.dataset != utterance.dataset:
                continue
            if other.speaker != utterance.speaker if known else other_video != video:
                others[utterance.id] = other
                break
    return others


def _shuffled(video: Path) -> bytes:
    return hashlib.sha256("/".join(video.parts[-3:]).encode()).digest()


def _checked(name: str, severity: Any, asked: str) -> Condition:
    from avse import plugins

    cls = plugins.get("corruption", name)
    try:
        cls(severity)
    except ValueError as error:
        raise AvseError(f"{asked}: {error}") from None
    return Condition(name, severity)

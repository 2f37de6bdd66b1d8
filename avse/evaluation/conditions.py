"""What is done to the video in an evaluation: nothing, one corruption, or a sweep over many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from avse.contracts.corruption import SEVERITIES
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.evaluation.scoring import Condition, Item, film_of

INTACT, NO_VIDEO = Condition("intact"), Condition("no_video")


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
        return INTACT if use_video else NO_VIDEO
    name, _, text = corrupt.partition("=")
    try:
        severity = float(text)
    except ValueError:
        raise AvseError(f"corrupt={corrupt!r} is not NAME=SEVERITY; for example blur=3.") from None
    return _checked(name, int(severity) if severity.is_integer() else severity, f"corrupt={corrupt!r}")


def sweep(corruptions: str | Sequence[str], severities: Sequence[int] | None = None) -> list[Condition]:
    """The conditions of a sweep: intact video, no video, and each corruption at each severity.

    Arguments
    ---------
    corruptions : str or sequence of str
        Names, or `all`.
    severities : sequence of int, optional
        Default: 1 to 5.

    Raises
    ------
    AvseError
        If there is no such corruption or severity.

    Example
    -------
    >>> [(one.video, one.severity) for one in sweep(["blur"], [1, 5])]
    [('intact', None), ('no_video', None), ('blur', 1), ('blur', 5)]
    """
    from avse import plugins

    asked = [corruptions] if isinstance(corruptions, str) else list(corruptions)
    names = plugins.names("corruption") if asked == ["all"] else list(dict.fromkeys(asked))
    levels = sorted(set(SEVERITIES if severities is None else severities))
    if not names or not levels:
        raise AvseError("Name at least one corruption, or all, and at least one severity.")
    return [INTACT, NO_VIDEO, *(_checked(name, level, f"{name}={level}") for name in names for level in levels)]


def items_of(utterances: Sequence[Utterance], conditions: Sequence[Condition], pool: Sequence[Utterance]) -> list[Item]:
    """What is to be scored: every utterance under every condition.

    Arguments
    ---------
    utterances, conditions : sequence
    pool : sequence of Utterance
        Where mouths of other speakers are taken from.
    """
    others = _others(utterances, pool) if any(one.corrupts for one in conditions) else {}
    return [
        Item(utterance, condition, others.get(utterance.id) if condition.corrupts else None)
        for utterance in utterances
        for condition in conditions
    ]


def _others(utterances: Sequence[Utterance], pool: Sequence[Utterance]) -> dict[str, Utterance]:
    """For each utterance, by its id, one with the mouth of another speaker; none where there is none.

    All utterances of one video get the same, which depends on names alone, so that it needs to be tracked once.
    """
    films = {film_of(one): one for one in pool if film_of(one) is not None}
    circle = sorted(films.values(), key=_shuffled)
    found = {}
    for utterance in utterances:
        if film_of(utterance) is None:
            continue
        start = next((at for at, one in enumerate(circle) if _shuffled(one) > _shuffled(utterance)), 0)
        around = circle[start:] + circle[:start]
        other = next((one for one in around if _another(one, utterance)), None)
        if other is not None:
            found[utterance.id] = other
    return found


def _shuffled(utterance: Utterance) -> bytes:
    return hashlib.sha256("/".join(film_of(utterance).parts[-3:]).encode()).digest()


def _another(one: Utterance, utterance: Utterance) -> bool:
    known = one.speaker and utterance.speaker
    return one.speaker != utterance.speaker if known else film_of(one) != film_of(utterance)


def _checked(name: str, severity: Any, asked: str) -> Condition:
    from avse import plugins

    cls = plugins.get("corruption", name)
    try:
        cls(severity)
    except ValueError as error:
        raise AvseError(f"{asked}: {error}") from None
    return Condition(name, severity)

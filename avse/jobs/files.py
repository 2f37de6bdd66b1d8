"""What enhancing and separating files share: which files, names of outputs, timings."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

from avse.errors import AvseError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".wma", ".aiff")
MEDIA_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".ts", ".flv", *AUDIO_SUFFIXES)
_MARK = ".enhanced"
_END = object()
_Piece = TypeVar("_Piece")


def default_output(source: Path) -> Path:
    """Where the enhanced file goes if nobody says.

    >>> default_output(Path("talk.mp4")).name
    'talk.enhanced.mp4'
    """
    return source.with_name(f"{source.stem}{_MARK}{source.suffix}")


def find_media(inputs: Sequence[str | Path]) -> list[Path]:
    """Files that inputs name: themselves, those in folders, those that match patterns; each once, none enhanced.

    Raises
    ------
    AvseError
        If an input matches nothing.
    """
    media: dict[Path, None] = {}
    for item in map(str, inputs):
        path = Path(item)
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES and _MARK not in p.name)
            if not matches:
                raise AvseError(f"{path}: holds no media file ({', '.join(MEDIA_SUFFIXES[:4])}, ...).")
        elif path.exists() or not glob.has_magic(item):
            matches = [path]
        else:
            matches = sorted(Path(name) for name in glob.glob(item, recursive=True) if _MARK not in Path(name).name)
            if not matches:
                raise AvseError(f"{item}: no file matches this pattern.")
        media.update(dict.fromkeys(matches))
    if not media:
        raise AvseError("No input. Give a file, a folder or a pattern.")
    return list(media)


def targets_of(
    sources: Sequence[Path], asked: str | Path | None, name: Callable[[Path], str], option: str
) -> dict[Path, Path]:
    """The file to write for each source: `asked`, or `name(source)` in the folder `asked`.

    Raises
    ------
    AvseError
        If two sources have one target, or a file is asked for several.
    """
    if asked is None:
        return {source: default_output(source) for source in sources}
    asked = Path(asked)
    if len(sources) == 1 and not asked.is_dir() and asked.suffix:
        return {sources[0]: asked}
    if asked.suffix and not asked.is_dir():
        raise AvseError(f"{asked}: for {len(sources)} inputs, --{option} must be a folder.")
    targets = {source: asked / name(source) for source in sources}
    if len(set(targets.values())) < len(sources):
        raise AvseError(f"{asked}: two inputs have the same name. Enhance them into different folders.")
    return targets


@contextmanager
def clock(timings: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that a block takes to `timings[name]`, but for those that it adds to other names."""
    began, before = time.perf_counter(), sum(timings.values())
    try:
        yield
    finally:
        timings[name] = timings.get(name, 0.0) + time.perf_counter() - began - (sum(timings.values()) - before)


def timed(pieces: Iterable[_Piece], timings: dict[str, float], name: str) -> Iterator[_Piece]:
    """Pieces as they come; the seconds they took are added to `timings[name]`, but for those of other names.

    >>> timings = {"read": 0.0, "enhance": 0.0}
    >>> list(timed(timed("ab", timings, "read"), timings, "enhance")), min(timings.values()) > 0
    (['a', 'b'], True)
    """
    iterator = iter(pieces)
    while True:
        with clock(timings, name):
            piece = next(iterator, _END)
        if piece is _END:
            return
        yield cast(_Piece, piece)


def rounded(timings: dict[str, float]) -> dict[str, float]:
    """Timings as a report states them."""
    return {name: round(seconds, 4) for name, seconds in timings.items()}

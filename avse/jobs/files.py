"""What enhancing and separating files share: which files, names of outputs, timings."""

from __future__ import annotations

import glob
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

from avse.errors import AvseError, AvseWarning

# What a folder is searched for: the audio and video files that FFmpeg reads.
_MEDIA = (
    ".mp4 .m4v .mov .mkv .webm .avi .wmv .asf .flv .f4v .mpg .mpeg .m1v .m2v .ts .mts .m2ts .m2t .vob .ogv .3gp .3g2 "
    ".mxf .dv .rm .rmvb .nut .wtv .mk3d .mj2 .gxf "
    ".wav .flac .ogg .oga .opus .spx .mp3 .mp2 .m4a .m4b .aac .ac3 .eac3 .dts .wma .aif .aiff .aifc .au .snd .caf .w64 "
    ".rf64 .amr .ape .wv .tta .mka .voc .gsm .ra .mpc .tak .shn .adx .3ga"
)
MEDIA_SUFFIXES = frozenset(_MEDIA.split())
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
    """Files that inputs name: themselves, those in folders, those that match patterns; each once.

    Files that are enhanced already are passed over, unless nothing else is named, and so are files in folders that are
    no media. A warning says so.

    Raises
    ------
    AvseError
        If an input matches nothing, or is an empty name.
    """
    media: dict[Path, None] = {}
    others: Counter[str] = Counter()
    for item in map(str, inputs):
        path = Path(item)
        if not item.strip():
            raise AvseError("An input is an empty name. Give a file, a folder or a pattern.")
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if not p.name.startswith(".") and p.is_file())
            matches = [file for file in files if file.suffix.lower() in MEDIA_SUFFIXES]
            others.update(kind for file in files if (kind := file.suffix.lower() or file.name) not in MEDIA_SUFFIXES)
            if not matches:
                raise AvseError(f"{path}: holds no media file (.mp4, .mkv, .mov, .wav, ...).")
        elif path.exists() or not glob.has_magic(item):
            matches = [path]
        else:
            matches = sorted(map(Path, glob.glob(item, recursive=True)))
            if not matches:
                raise AvseError(f"{item}: no file matches this pattern.")
        media.update(dict.fromkeys(matches))
    if not media:
        raise AvseError("No input. Give a file, a folder or a pattern.")
    enhanced = [path for path in media if path.stem.endswith(_MARK)]
    if 0 < len(enhanced) < len(media):
        _say_passed_over(len(enhanced), "enhanced already", [path.name for path in enhanced])
        for path in enhanced:
            del media[path]
    if others:
        _say_passed_over(others.total(), "no media", [f"{count} {kind}" for kind, count in others.most_common()])
    return list(media)


def _say_passed_over(count: int, why: str, names: Sequence[str]) -> None:
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    text = f"{count} {'file is' if count == 1 else 'files are'} {why}, and passed over: {listed}"
    warnings.warn(text, AvseWarning, stacklevel=3)


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
    if not str(asked):
        raise AvseError(f"--{option} is an empty name. Give a file or a folder.")
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

"""Writing files so that nothing half-written is left behind."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avse.errors import AvseError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A temporary path beside `target`, renamed to it on success and removed on any failure or interruption.

    Arguments
    ---------
    target : path
        The file to write. Its suffix is kept, so that writers which look at it work.

    Raises
    ------
    AvseError
        If the folder cannot be written to, the disk is full, or `target` is a folder or a device.

    Example
    -------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_path(target) as path:
    ...     _ = path.write_text("whole")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('whole', 1)
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise AvseError(f"{target}: is a folder; name a file to write.")
        if target.exists() and not target.is_file():
            raise AvseError(f"{target}: is a device or a pipe, which would be replaced; name a file to write.")
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise AvseError(f"{target}: cannot write there ({error.strerror}). Choose another output.") from error
    path = Path(name)
    try:
        yield path
        path.chmod(0o666 & ~_umask())
        path.replace(target)
    except OSError as error:
        raise AvseError(f"{target}: writing failed ({error.strerror or error}). Nothing was left behind.") from error
    finally:
        path.unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> None:
    """Write a text file by way of `atomic_path`."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: str | Path, value: Any) -> None:
    """Write plain data as JSON by way of `atomic_path`."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(target: str | Path, rows: Iterable[Sequence[Any]], first_line: str = "") -> None:
    """Write rows, the header among them, as CSV below a first line, by way of `atomic_path`."""
    with atomic_path(target) as path, open(path, "w", newline="", encoding="utf-8") as file:
        file.write(first_line)
        csv.writer(file, lineterminator="\n").writerows(rows)


def shipped_folder(name: str, sign: str) -> Path:
    """A folder that comes with the package, known by a folder inside it: in the package, or beside it in a checkout."""
    package = Path(__file__).parent
    for folder in (package / name, package.parent / name):
        if (folder / sign).is_dir():
            return folder
    raise AvseError(f"{package}: the {name} are missing from this installation. Install avse anew.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

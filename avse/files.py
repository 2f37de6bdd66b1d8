"""Writing files so that no file is lost and nothing half-written is left behind."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from avse.errors import AvseError

_notes: Path | None = None  # folder in which this process notes the temporary files that it writes


def check_apart(inputs: Iterable[str | Path], outputs: Iterable[str | Path]) -> None:
    """Refuse an output that is an input, or another output: by its resolved path, and by its inode where it exists.

    Raises
    ------
    AvseError

    Example
    -------
    >>> check_apart(["talk.mp4"], ["talk.wav", "talk.json"])
    >>> check_apart(["talk.mp4"], ["./talk.mp4"])
    Traceback (most recent call last):
    ...
    avse.errors.AvseError: ./talk.mp4: is the input itself, which would be replaced. Choose another output.
    """
    taken = dict.fromkeys(map(_identity, inputs), "is the input itself, which would be replaced")
    for path in outputs:
        wrong = taken.setdefault(_identity(path), "")
        if wrong:
            raise AvseError(f"{path}: {wrong}. Choose another output.")
        taken[_identity(path)] = "would be written twice, by two options or for two inputs"


def _identity(path: str | Path) -> object:
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return os.path.realpath(path)
    return state.st_dev, state.st_ino


def file_below(folder: Path, name: str, suffix: str) -> Path:
    """`folder/name+suffix`, where the name, such as the id of an utterance, may hold slashes.

    Raises
    ------
    AvseError
        If the name is none of a file in the folder.

    Example
    -------
    >>> file_below(Path("noisy"), "s1/bbaf2n", ".wav").as_posix()
    'noisy/s1/bbaf2n.wav'
    """
    path = folder / f"{name}{suffix}"
    if "\0" in name or not name or name.endswith("/"):
        raise AvseError(f"id {name!r} cannot be the name of a file.")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise AvseError(f"id {name!r} leads out of {folder}.")
    return path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make and hold a folder, so that no second run writes there at the same time; the lock ends with the process.

    Raises
    ------
    AvseError
        If another run holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AvseError(f"{folder}: cannot write there ({error.strerror}). Choose another --output.") from None
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AvseError(
                f"{folder}: another run is writing there. Wait until it has ended, or give another folder."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
        os.close(handle)


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
        handle, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        note = None if _notes is None else _notes / f"{Path(name).name}.note"
        if note is not None:
            note.write_bytes(os.fsencode(os.path.abspath(name)))
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
        if note is not None:
            note.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """A temporary folder beside `target`; its files go there on success, and nowhere on any failure or interruption.

    Other files that `target` holds stay.

    Raises
    ------
    AvseError
        If the folder cannot be written to, the disk is full, or `target` is a file.

    Example
    -------
    >>> target = Path(tempfile.mkdtemp()) / "notes"
    >>> with atomic_folder(target) as folder:
    ...     _ = (folder / "note.txt").write_text("whole")
    >>> [path.name for path in target.iterdir()], len(list(target.parent.iterdir()))
    (['note.txt'], 1)
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise AvseError(f"{target}: is a file; name a folder to write into.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    except OSError as error:
        raise AvseError(f"{target}: cannot write there ({error.strerror}). Choose another folder.") from error
    try:
        yield folder
        if not target.exists():
            folder.chmod(0o777 & ~_umask())
            folder.rename(target)
            return
        for path in folder.iterdir():
            path.replace(target / path.name)
    except OSError as error:
        raise AvseError(f"{target}: writing failed ({error.strerror or error}). Nothing was left behind.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(targets: Iterable[Path]) -> None:
    """Remove what a process that was killed left of `atomic_path`; no other run may be writing these targets.

    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / ".note.k3_x9abc.txt").touch(), (folder / ".other.k3_x9abc.txt").touch()
    (None, None)
    >>> remove_stale([folder / "note.txt"])
    >>> [path.name for path in folder.iterdir()]
    ['.other.k3_x9abc.txt']
    """
    names = {(target.parent, target.stem[:40], target.suffix) for target in targets}
    for folder in {name[0] for name in names}:
        for path in folder.glob(".*"):
            match = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}(\.[^.]+)?", path.name)
            if match and (folder, match[1], match[2] or "") in names:
                path.unlink(missing_ok=True)


def end_by_exception() -> None:
    """Let signals that end a process raise an exception, so that what is half-written is removed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under `nohup`
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def note_temporary_files(folder: Path) -> None:
    """Note in a folder the temporary files that this process writes: `remove_noted` removes them if it is killed."""
    global _notes
    _notes = folder


def remove_noted(folder: Path) -> None:
    """Remove the temporary files that processes noted in a folder and did not remove."""
    for note in folder.glob("*.note"):
        Path(os.fsdecode(note.read_bytes())).unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> None:
    """Write a text file by way of `atomic_path`."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


_shown: dict[str, str] = {}


@contextmanager
def shown_as(path: Path, name: str) -> Iterator[None]:
    """Inside, reports and errors name a temporary file as its user does."""
    _shown[str(path)] = name
    try:
        yield
    except AvseError as error:
        raise AvseError(named(str(error))) from error
    finally:
        del _shown[str(path)]


def named(text: str | Path) -> str:
    """A path, or a message with paths, with the names that users know."""
    text = str(text)
    for path, name in _shown.items():
        text = text.replace(path, name)
    return text


def write_json(target: str | Path, value: Any) -> None:
    """Write plain data as JSON by way of `atomic_path`."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(target: str | Path, rows: Iterable[Sequence[Any]], first_line: str = "") -> None:
    """Write rows, the header among them, as CSV below a first line, by way of `atomic_path`."""
    with atomic_path(target) as path, open(path, "w", newline="", encoding="utf-8") as file:
        file.write(first_line)
        csv.writer(file, lineterminator="\n").writerows(rows)


def append_line(target: str | Path, value: Any) -> None:
    """Append plain data as a line of JSON in one write, so that several processes may append to one file."""
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with open(target, "ab", buffering=0) as file:
            file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise AvseError(f"{target}: cannot be written ({error.strerror}). Name another file.") from error


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """What `append_line` wrote; none where there is no such file. A line that a killed process broke off is left out.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lines.jsonl"
    >>> append_line(path, {"id": 1})
    >>> _ = path.open("a").write('{"id": 2')
    >>> read_lines(path)
    [{'id': 1}]
    """
    rows = []
    for line in Path(path).read_bytes().splitlines() if Path(path).is_file() else ():
        with suppress(ValueError):
            if isinstance(row := json.loads(line), dict):
                rows.append(row)
    return rows


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

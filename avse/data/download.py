"""Fetching a published record: listed with checksums, resumed where it stopped, unpacked with care."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from avse.errors import AvseError
from avse.files import atomic_path

_BLOCK = 1 << 18
_TIMEOUT = 60.0
_TRIES = 6


@dataclass(frozen=True)
class RecordFile:
    """One file of a record: its name, address, size in bytes and MD5 sum."""

    name: str
    url: str
    size: int
    md5: str


def list_record(url: str) -> dict[str, RecordFile]:
    """The files of a record by name.

    Arguments
    ---------
    url : str
        Address of the record's JSON, which holds a list `files` of `{key, size, checksum: "md5:...", links: {self}}`
        as Zenodo gives it. Links may be relative.

    Raises
    ------
    AvseError
        If the record cannot be read.
    """
    try:
        with _open(url) as answer:
            record = json.load(answer)
        return {
            one["key"]: RecordFile(
                name=one["key"],
                url=urllib.parse.urljoin(url.rstrip("/") + "/", one["links"]["self"]),
                size=int(one["size"]),
                md5=one["checksum"].removeprefix("md5:").lower(),
            )
            for one in record["files"]
        }
    except (OSError, http.client.HTTPException) as error:
        raise AvseError(f"{url}: the record cannot be reached ({error}). Check the address and the network.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AvseError(f"{url}: this is no record with files and checksums ({error!r}).") from error


def fetch(
    file: RecordFile,
    target: str | Path,
    on_progress: Callable[[int], None] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download a file and check it.

    What has arrived is kept in `<target>.part`, so that a later call goes on from there, even in another process.

    `on_progress` is called with the bytes there so far, `wait` with the seconds before a broken transfer goes on.

    Raises
    ------
    AvseError
        If the server fails six times in a row, or the file differs from its checksum (it is removed then).
    """
    target = Path(target)
    part = target.with_name(target.name + ".part")
    if target.is_file() and target.stat().st_size == file.size and _md5(target) == file.md5:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AvseError(f"{target.parent}: cannot be made ({error.strerror}). Choose another folder.") from error
    failures = 0
    while (size := _size(part)) < file.size:
        before = max(size, 0)
        problem: object = "the transfer stopped early"
        try:
            _transfer(file, part, before, on_progress)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 416, 429):
                raise AvseError(f"{file.url}: the server refused ({error.code} {error.reason}).") from error
            if error.code == 416:
                part.unlink(missing_ok=True)
            problem = error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = error
        except OSError as error:
            raise AvseError(f"{part}: cannot be written ({error.strerror}). What has arrived is kept.") from error
        now = _size(part)
        if now >= file.size:
            break
        failures = 1 if now > before else failures + 1
        if failures >= _TRIES:
            raise AvseError(
                f"{file.url}: the transfer failed {_TRIES} times ({problem}). "
                "What has arrived is kept; run it again to go on."
            )
        wait(min(2.0 ** (failures - 1), 30.0))
    if _md5(part) != file.md5:
        part.unlink()
        raise AvseError(f"{file.url}: what arrived differs from the published checksum and was removed. Run it again.")
    part.replace(target)
    return target


def unpack(archive: str | Path, folder: str | Path) -> None:
    """Unpack a zip file into a folder, and nowhere else.

    Members outside the folder and links are refused before anything is written. Files that lie in no folder of the
    archive go to a folder named after it.

    Raises
    ------
    AvseError
        If the archive is broken, unsafe, or larger than the room on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [one for one in opened.infolist() if not one.is_dir() and not _is_clutter(one.filename)]
            for one in members:
                mask = PurePosixPath(one.filename.replace("\\", "/"))
                link = (one.external_attr >> 16) & 0o170000 == 0o120000
                if mask.is_absolute() or ".." in mask.parts or ":" in mask.parts[0] or link:
                    raise AvseError(f"{archive}: holds {one.filename!r}, which points outside. Nothing was unpacked.")
            room = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
            size = sum(one.file_size for one in members)
            if size > room:
                raise AvseError(f"{archive}: needs {size >> 20} MiB, and {folder} has room for {room >> 20} MiB.")
            flat = all("/" not in one.filename for one in members)
            into = folder / archive.stem if flat else folder
            for one in members:
                with opened.open(one) as source, atomic_path(into / one.filename) as path, open(path, "wb") as file:
                    shutil.copyfileobj(source, file, _BLOCK)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise AvseError(
            f"{archive}: is no zip file that can be read ({error}). Remove it and fetch it again."
        ) from error


@contextmanager
def opened(url: str, start: int = 0, size: int | None = None) -> Iterator[IO[bytes]]:
    """A file at an address to read from.

    Arguments
    ---------
    url : str
        `http://`, `https://`, `file://`, or `s3://BUCKET/KEY` (needs boto3, which finds keys and `AWS_ENDPOINT_URL`).
    start, size : int
        Part of the file in bytes. Default: all of it.

    Raises
    ------
    AvseError
        If it cannot be read, or the server does not give parts of files.
    """
    parts = urllib.parse.urlsplit(url)
    span = None if size is None else f"bytes={start}-{start + size - 1}"
    if parts.scheme == "s3":
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise AvseError(f"{url}: s3:// needs the package boto3: pip install 'avse[s3]'.") from error
        asked = {"Bucket": parts.netloc, "Key": parts.path.lstrip("/"), **({"Range": span} if span else {})}
        try:
            with _s3(os.getpid()).get_object(**asked)["Body"] as body:
                yield body
        except (BotoCoreError, ClientError, OSError, http.client.HTTPException) as error:
            raise AvseError(f"{url}: cannot be fetched ({error}).") from error
        return
    if parts.scheme not in ("http", "https", "file"):
        raise AvseError(f"{url}: give an address that begins with http://, https://, file:// or s3://.")
    try:
        headers = {"User-Agent": "avse", **({"Range": span} if span else {})}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
            if span and answer.status != 206:
                raise AvseError(f"{url}: the server gives whole files alone. Use avse shards without --remote.")
            yield answer
    except (OSError, http.client.HTTPException) as error:
        raise AvseError(f"{url}: cannot be fetched ({error}).") from error


@cache
def _s3(process: int) -> Any:
    """A client of S3 for a process: one that was forked needs its own."""
    import boto3

    return boto3.client("s3")


def _open(url: str, headers: dict[str, str] | None = None) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise AvseError(f"{url}: give an address that begins with http:// or https://.")
    return urllib.request.urlopen(
        urllib.request.Request(url, headers={"User-Agent": "avse", **(headers or {})}), timeout=_TIMEOUT
    )


def _transfer(file: RecordFile, part: Path, have: int, on_progress: Callable[[int], None] | None) -> None:
    with _open(file.url, {"Range": f"bytes={have}-"} if have else None) as answer:
        resumed = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
        with open(part, "ab" if resumed else "wb") as sink:
            have = have if resumed else 0
            while have <= file.size and (block := answer.read(_BLOCK)):
                sink.write(block)
                have += len(block)
                if on_progress is not None:
                    on_progress(have)


def _size(path: Path) -> int:
    """Bytes of a file; -1 where there is none, since a file may be empty."""
    return path.stat().st_size if path.exists() else -1


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _is_clutter(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith(".")

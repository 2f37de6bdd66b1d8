"""Shards: the decoded clips of a manifest in a few large tar files, for disks and networks that are slow with many.

A shard is a WebDataset tar: each utterance has members `NUMBER.sound.npy` (16-bit samples at 16 kHz) and, with a video,
`NUMBER.mouth.npz` (crops and their validity). `manifest.csv` beside them lists the utterances; its columns `sound` and
`mouth` say where in the tar of a row its members lie (`offset:bytes`), so that any row is read at once, in any order: a
training mixture is a function of seed, epoch and index, and stays the one that the separate files give.
`shards.json` has the size and the SHA-256 of each file, by which `fetch_shards` checks what it copies.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from avse.data.cache import ClipCache, in_shard
from avse.data.download import opened
from avse.data.manifest import Utterance, read_manifest, write_manifest
from avse.errors import AvseError
from avse.files import atomic_path, locked, write_json, write_text

INDEX, MANIFEST = "shards.json", "manifest.csv"


def write_shards(
    manifest: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    cache_folder: str | Path,
    tracker: str | None = None,
    megabytes: float = 1000,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the speech and noise of a manifest as shards.

    Arguments
    ---------
    manifest : path, or a list of them
    folder : path
        A new or empty folder, or one in which an earlier call was interrupted, which starts anew.
    cache_folder : path
        Folder of decoded clips, as of a training; clips that it lacks are decoded.
    tracker : str, optional
        Mouth tracker. Training from shards uses its crops, whatever its recipe says.
    megabytes : float
        Size from which a shard is full.
    on_progress : callable, optional
        Takes the clips done and all.

    Returns
    -------
    path
        The manifest of the shards.

    Raises
    ------
    AvseError
        If the folder holds finished shards, or a clip cannot be read.
    """
    from avse import plugins
    from avse.media.reader import DEFAULT_TRACKER

    folder, rows = Path(folder), read_manifest(manifest)
    cache = ClipCache(cache_folder, plugins.get("mouth_tracker", tracker or DEFAULT_TRACKER)())
    if (folder / INDEX).exists():
        raise AvseError(f"{folder}: holds shards. Choose another folder.")
    done: list[Utterance] = []
    number = -1
    with locked(folder):
        while len(done) < len(rows):
            number += 1
            path = folder / f"{number:06d}.tar"
            with (
                atomic_path(path) as temporary,
                open(temporary, "wb") as file,
                tarfile.open(fileobj=file, mode="w") as tar,
            ):
                while len(done) < len(rows) and (file.tell() < megabytes * 1e6 or not file.tell()):
                    done.append(_add(tar, file, rows[len(done)], len(done), cache, path))
                    if on_progress is not None:
                        on_progress(len(done), len(rows))
        used = sorted({row.audio for row in done})
        for path in folder.glob("*.tar"):  # of a call that was interrupted
            if path not in used:
                path.unlink()
        write_manifest(done, folder / MANIFEST)
        files = [*used, folder / MANIFEST]
        index = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files}
        write_json(folder / INDEX, {"version": 1, "files": index})
    return folder / MANIFEST


def fetch_shards(
    url: str, folder: str | Path, on_progress: Callable[[int, int], None] | None = None, remote: bool = False
) -> Path:
    """Copy shards from an address to a folder, whole files only; those that are there already are checked and stay.

    Arguments
    ---------
    url : str
        `http://`, `https://`, `s3://` or `file://` address of the folder, without a file.
    folder : path
    on_progress : callable, optional
        Takes the files done and all.
    remote : bool
        Copy the manifest alone. For each tar, a file `NAME.tar.url` keeps its address, from which a training reads the
        clips that it draws. The server must give parts of files, as those of buckets do.

    Returns
    -------
    path
        The manifest of the shards.

    Raises
    ------
    AvseError
        If there are no shards, a file differs from its hash, or the server of `remote` shards gives whole files alone.
    """
    folder = Path(folder)
    try:
        index = json.loads(_read(url, INDEX))["files"]
        for number, (name, about) in enumerate(index.items()):
            path = folder / name
            if Path(name).name != name:
                raise AvseError(f"{url}: lists a file outside its folder, {name!r}.")
            if remote and path.suffix == ".tar":
                address = f"{url.rstrip('/')}/{name}"
                with opened(address, size=1):  # what does not give parts of files is told before a training begins
                    pass
                write_text(f"{path}.url", address)
            elif not path.is_file() or _sha256(path) != about["sha256"]:
                with atomic_path(path) as temporary, open(temporary, "wb") as file:
                    _read(url, name, file)
                if _sha256(path) != about["sha256"]:
                    path.unlink()
                    raise AvseError(f"{url}/{name}: differs from its hash in {INDEX}, and was removed. Fetch it again.")
            if on_progress is not None:
                on_progress(number + 1, len(index))
    except (ValueError, KeyError, TypeError) as error:
        raise AvseError(f"{url}/{INDEX}: is no index of shards ({error!r}).") from error
    write_json(folder / INDEX, {"version": 1, "files": index})
    return folder / MANIFEST


def _add(tar: tarfile.TarFile, file: IO[bytes], row: Utterance, number: int, cache: ClipCache, path: Path) -> Utterance:
    """Put the arrays of an utterance into a tar that is being written; its row of the manifest of shards."""
    if in_shard(row):
        raise AvseError(f"{row.place}: {row.id!r} is in a shard already.")

    def put(suffix: str, save: Callable[[io.BytesIO], None]) -> str:
        data = io.BytesIO()
        save(data)
        member = tarfile.TarInfo(f"{number:08d}.{suffix}")
        member.size = data.tell()
        data.seek(0)
        tar.addfile(member, data)
        return f"{file.tell() - member.size - -member.size % tarfile.BLOCKSIZE}:{member.size}"

    extra = {**row.extra, "sound": put("sound.npy", lambda data: np.save(data, cache.sound(row)))}
    if row.video is not None:
        mouth, valid = cache.mouth(replace(row, offset=0.0))
        extra["mouth"] = put("mouth.npz", lambda data: np.savez(data, mouth=mouth, valid=valid))
    one = "clean" if row.clean is not None else "noise" if row.noise is not None else "noisy"
    place: dict[str, Any] = {"clean": None, "noise": None, "noisy": None, one: path}
    return replace(row, **place, video=path if row.video is not None else None, extra=extra)


def _read(url: str, name: str, target: IO[bytes] | None = None) -> bytes:
    """A file of the folder at an address, or, with a target, written there."""
    with opened(f"{url.rstrip('/')}/{name}") as source:
        if target is None:
            return source.read()
        shutil.copyfileobj(source, target, 1 << 20)
        return b""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

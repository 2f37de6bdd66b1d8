"""Shards give what the separate files give, sample for sample, wherever they come from."""

from __future__ import annotations

import contextlib
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from avse import plugins
from avse.data import download
from avse.data.cache import ClipCache
from avse.data.manifest import read_manifest
from avse.data.shards import fetch_shards, write_shards
from avse.data.training_set import MixtureSet
from avse.errors import AvseError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A manifest and the cache of its clips."""
    folder = tmp_path_factory.mktemp("corpus")
    made = plugins.get("dataset", "synthetic")(clips=4, speakers=4, noises=3, seconds=(0.6, 0.7), noise_seconds=0.8)
    return made.prepare(folder), folder / "cache"


def test_equal_to_the_separate_files(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, cache = corpus
    shards = write_shards(manifest, tmp_path / "shards", cache_folder=cache, megabytes=1)
    for tar in (tmp_path / "shards").glob("*.tar"):
        with tarfile.open(tar) as opened:
            names = opened.getnames()
        assert all(name.endswith((".sound.npy", ".mouth.npz")) for name in names), "what WebDataset reads"
    tracker = plugins.get("mouth_tracker", "mtcnn")()
    sets = []
    for path, folder in ((manifest, cache), (shards, tmp_path / "unused")):
        rows = read_manifest(path, splits=["train"])
        assert [row.id for row in rows] == [row.id for row in read_manifest(manifest, splits=["train"])]
        sets.append(MixtureSet(rows, ClipCache(folder, tracker), 6, seconds=0.5, seed=3))
    for index in range(6):
        one, other = sets[0][index], sets[1][index]
        assert np.array_equal(one.clip.audio, other.clip.audio) and np.array_equal(one.clean, other.clean)
        assert np.array_equal(one.clip.mouth, other.clip.mouth) and np.array_equal(one.clip.valid, other.clip.valid)
    assert not (tmp_path / "unused").exists(), "nothing is decoded"
    with pytest.raises(AvseError, match="holds shards"):
        write_shards(manifest, tmp_path / "shards", cache_folder=cache)
    with pytest.raises(AvseError, match="is in a shard already"):
        write_shards(shards, tmp_path / "again", cache_folder=cache)
    assert not list((tmp_path / "again").glob("*.tar"))


class Server(BaseHTTPRequestHandler):
    """Files of a folder by HTTP, and as the buckets of S3 that its subfolders are; parts of files too."""

    folder = Path()
    gives_parts = True
    failures = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        if type(self).failures:
            type(self).failures -= 1
            self.send_error(503)
        elif not path.is_file():
            self.send_error(404)
        else:
            data, span = path.read_bytes(), self.headers.get("Range", "")
            parts = span.startswith("bytes=") and self.gives_parts
            if parts:
                first, last = map(int, span.removeprefix("bytes=").split("-"))
                data = data[first : last + 1]
            self.send_response(206 if parts else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who refuses a whole file does not read it
                self.wfile.write(data)


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Takes a scheme and gives the address of `tmp_path / "served"`."""
    monkeypatch.setattr(Server, "folder", tmp_path / "served")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": here,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    download._s3.cache_clear()
    yield lambda scheme: f"{scheme}:/" if scheme == "s3" else here
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_fetched_checked_and_gone_on(corpus: tuple[Path, Path], tmp_path: Path, address: Callable, scheme: str) -> None:
    if scheme == "s3":
        pytest.importorskip("boto3")
    manifest, cache = corpus
    written = write_shards(manifest, tmp_path / "served" / "bucket" / "x", cache_folder=cache, megabytes=1).parent
    url = f"{address(scheme)}/bucket/x"
    fetched = fetch_shards(url, tmp_path / "fetched").parent
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == {
        path.name: path.read_bytes() for path in written.iterdir() if not path.name.startswith(".")
    }
    tar = sorted(fetched.glob("*.tar"))[0]
    state = sorted(fetched.glob("*.csv"))[0].stat().st_mtime_ns
    tar.write_bytes(tar.read_bytes()[:-1000])
    assert fetch_shards(url, fetched) and tar.read_bytes() == (written / tar.name).read_bytes()
    assert sorted(fetched.glob("*.csv"))[0].stat().st_mtime_ns == state, "what is whole stays"
    index = json.loads((written / "shards.json").read_text())
    index["files"][tar.name]["sha256"] = "0" * 64
    (written / "shards.json").write_text(json.dumps(index))
    with pytest.raises(AvseError, match="differs from its hash"):
        fetch_shards(url, tmp_path / "other")
    assert not (tmp_path / "other" / tar.name).exists()
    with pytest.raises(AvseError, match="cannot be fetched"):
        fetch_shards(f"{url}/nowhere", tmp_path / "none")
    with pytest.raises(AvseError, match="begins with http"):
        fetch_shards("ftp://x/y", tmp_path / "none")


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_read_where_they_are(
    corpus: tuple[Path, Path],
    tmp_path: Path,
    address: Callable,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    avse_command: Callable,
) -> None:
    if scheme == "s3":
        pytest.importorskip("boto3")
    manifest, cache = corpus
    write_shards(manifest, tmp_path / "served" / "bucket" / "x", cache_folder=cache, megabytes=1)
    outcome = avse_command("shards", f"{address(scheme)}/bucket/x", "-o", tmp_path / "here", "--remote")
    assert outcome.status == 0 and not list((tmp_path / "here").glob("*.tar")), outcome.err
    waits: list[float] = []
    monkeypatch.setattr("avse.data.cache.time.sleep", waits.append)
    tracker = plugins.get("mouth_tracker", "mtcnn")()
    sets = [
        MixtureSet(read_manifest(path, splits=["train"]), ClipCache(folder, tracker), 4, seconds=0.5, seed=3)
        for path, folder in ((manifest, cache), (tmp_path / "here" / "manifest.csv", tmp_path / "unused"))
    ]
    Server.failures = 1
    items = [item for batch in DataLoader(sets[1], num_workers=2, collate_fn=list) for item in batch]
    for one, other in zip((sets[0][index] for index in range(4)), items, strict=True):
        assert np.array_equal(one.clip.audio, other.clip.audio) and np.array_equal(one.clip.mouth, other.clip.mouth)
    row = read_manifest(tmp_path / "here" / "manifest.csv")[0]
    if scheme == "http":
        Server.failures = 2
        assert len(ClipCache(tmp_path / "unused").sound(row)) and waits == [0.5, 2.0], "a server that is busy"
        monkeypatch.setattr(Server, "gives_parts", False)
        with pytest.raises(AvseError, match="whole files alone"):
            ClipCache(tmp_path / "unused").sound(row)
        with pytest.raises(AvseError, match="whole files alone"):
            fetch_shards(f"{address(scheme)}/bucket/x", tmp_path / "late", remote=True)
        assert not list((tmp_path / "late").glob("*.url"))
    assert "goes with the address" in avse_command("shards", manifest, "-o", tmp_path / "n", "--remote").message


def test_a_cut_shard_is_told(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, cache = corpus
    shards = write_shards(manifest, tmp_path / "s", cache_folder=cache)
    (tmp_path / "s" / "000000.tar").write_bytes(b"short")
    row = read_manifest(shards)[0]
    with pytest.raises(AvseError, match="does not hold its sound"):
        ClipCache(tmp_path / "c").sound(row)

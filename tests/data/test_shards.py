"""Shards give what the separate files give, sample for sample, wherever they come from."""

from __future__ import annotations

import functools
import json
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from avse import plugins
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


def test_fetched_checked_and_gone_on(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, cache = corpus
    written = write_shards(manifest, tmp_path / "served" / "x", cache_folder=cache, megabytes=1).parent
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/x"
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
    finally:
        server.shutdown()
        server.server_close()


def test_a_cut_shard_is_told(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, cache = corpus
    shards = write_shards(manifest, tmp_path / "s", cache_folder=cache)
    (tmp_path / "s" / "000000.tar").write_bytes(b"short")
    row = read_manifest(shards)[0]
    with pytest.raises(AvseError, match="does not hold its sound"):
        ClipCache(tmp_path / "c").sound(row)

"""Downloading a record from a local server with its layout, and preparing what arrives."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from avse.data.download import RecordFile, fetch, list_record, unpack
from avse.data.manifest import read_manifest
from avse.data.synthetic.recording import write_video
from avse.datasets.grid import Grid
from avse.errors import AvseError


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Record:
    """A record served on loopback: files, the ranges asked for, and what goes wrong."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.published: dict[str, bytes] = {}
        self.ranges: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.cuts = 0
        self.status: int | None = None
        self.ignores_ranges = False
        record = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                record.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/records/1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def listing(self) -> bytes:
        return json.dumps(
            {
                "id": 1,
                "files": [
                    {
                        "key": name,
                        "size": len(content),
                        "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                        "links": {"self": f"{self.url}/files/{name}/content"},
                    }
                    for name, content in (self.published or self.files).items()
                ],
            }
        ).encode()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        match = re.fullmatch(r"/api/records/1/files/(.+)/content", request.path)
        if match is None:
            body, start = self.listing(), 0
        else:
            self.ranges.append((match[1], request.headers.get("Range")))
            if self.status is not None:
                request.send_error(self.status)
                return
            body = self.files[match[1]]
            asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range") or "")
            start = int(asked[1]) if asked and not self.ignores_ranges else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        end = len(body)
        if match is not None and self.cut_after is not None and self.cuts > 0:
            self.cuts -= 1
            end = min(end, start + self.cut_after)
        request.wfile.write(body[start:end])


@pytest.fixture
def record():
    served = Record()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def grid(record, tmp_path):
    """Three speakers of one film each, with GRID's own layout of archives."""
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    alignments = {}
    for speaker in ("s1", "s2", "s3"):
        film = tmp_path / "source" / f"{speaker}.mpg"
        frames = np.repeat(rng.integers(0, 255, (1, 48, 64, 3), dtype=np.uint8), 25, axis=0)
        write_video(film, frames, 0.3 * np.sin(2 * np.pi * 440 * time) * (time > 0.5))
        record.files[f"{speaker}.zip"] = zipped(
            {f"{speaker}/bbaf2n.mpg": film.read_bytes(), f"{speaker}/.DS_Store": b"x"}
        )
        alignments[f"alignments/{speaker}/bbaf2n.align"] = (
            b"0 11000 sil\n11000 20000 bin\n20000 24000 blue\n24000 25000 sp\n"
        )
    record.files["alignments.zip"] = zipped(alignments)
    return record


def test_download_and_prepare(grid, tmp_path):
    folder = tmp_path / "grid"
    corpus = Grid(speakers=["s1", "s2", "s3"], base_url=grid.url)
    assert corpus.download(folder) == folder
    assert (folder / "s2" / "bbaf2n.mpg").is_file() and not list(folder.rglob(".DS_Store"))
    assert not list(folder.rglob("*.zip")) and not list(folder.rglob("*.part"))
    asked = len(grid.ranges)
    corpus.download(folder)
    assert len(grid.ranges) == asked, "what is there is not fetched again"
    rows = read_manifest(corpus.prepare(folder))
    assert {row.text for row in rows} == {"bin blue"} and len({row.split for row in rows}) == 3
    for row in rows:
        sound, rate = soundfile.read(row.clean)
        assert rate == 16000 and len(sound) == 16000
        onset = np.argmax(np.abs(sound) > 0.1) / 16000
        assert onset == pytest.approx(0.5, abs=0.045), "the sound keeps the clock of the picture"
    first = rows[0].clean.stat().st_mtime_ns
    assert corpus.prepare(folder).read_bytes() == (folder / "manifest.csv").read_bytes()
    assert rows[0].clean.stat().st_mtime_ns == first


def test_a_broken_transfer_is_taken_up_where_it_stopped(record, tmp_path):
    record.files["a.bin"] = np.random.default_rng(0).bytes(1_000_000)
    record.cut_after, record.cuts = 300_000, 2
    waits: list[float] = []
    fetch(list_record(record.url)["a.bin"], tmp_path / "a.bin", wait=waits.append)
    assert (tmp_path / "a.bin").read_bytes() == record.files["a.bin"]
    assert (
        record.ranges == [("a.bin", None), ("a.bin", "bytes=300000-"), ("a.bin", "bytes=600000-")] and len(waits) == 2
    )


def test_another_process_goes_on_and_a_server_without_ranges_starts_anew(record, tmp_path):
    record.files["a.bin"] = np.random.default_rng(0).bytes(400_000)
    (tmp_path / "a.bin.part").write_bytes(record.files["a.bin"][:150_000])
    fetch(list_record(record.url)["a.bin"], tmp_path / "a.bin")
    assert record.ranges == [("a.bin", "bytes=150000-")]
    (tmp_path / "b.bin.part").write_bytes(b"z" * 150_000)
    record.ignores_ranges = True
    record.files["b.bin"] = record.files["a.bin"][::-1]
    fetch(list_record(record.url)["b.bin"], tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == record.files["b.bin"]


def test_a_corrupted_file_is_refused_and_removed(record, tmp_path):
    record.files["a.bin"] = b"y" * 1000
    record.published = {"a.bin": b"x" * 1000}
    with pytest.raises(AvseError, match="checksum"):
        fetch(list_record(record.url)["a.bin"], tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())
    record.published = {"a.bin": b"y" * 800}
    with pytest.raises(AvseError, match="checksum|stopped"):
        fetch(list_record(record.url)["a.bin"], tmp_path / "a.bin", wait=lambda _: None)
    assert not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (503, 6)])
def test_servers_that_refuse(record, tmp_path, status, tries):
    record.files["a.bin"] = b"x"
    record.status = status
    with pytest.raises(AvseError, match=str(status)):
        fetch(list_record(record.url)["a.bin"], tmp_path / "a.bin", wait=lambda _: None)
    assert len(record.ranges) == tries


def test_addresses_that_are_no_record(record, tmp_path):
    with pytest.raises(AvseError, match="http"):
        list_record("file:///etc/passwd")
    with pytest.raises(AvseError, match="cannot be reached"):
        list_record("http://127.0.0.1:9/api/records/1")
    record.listing = lambda: b"<html>"
    with pytest.raises(AvseError, match="no record"):
        list_record(record.url)


@pytest.mark.parametrize(
    "name", ["../evil.mpg", "/tmp/evil.mpg", "s1/../../evil.mpg", "C:\\evil.mpg", "s1\\..\\..\\evil"]
)
def test_archives_that_point_outside_are_refused(tmp_path, name):
    (tmp_path / "bad.zip").write_bytes(zipped({"s1/good.mpg": b"x", name: b"x"}))
    with pytest.raises(AvseError, match="points outside"):
        unpack(tmp_path / "bad.zip", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_links_and_broken_archives_are_refused(tmp_path):
    link = zipfile.ZipInfo("s1/link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(AvseError, match="points outside"):
        unpack(tmp_path / "link.zip", tmp_path / "into")
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    with pytest.raises(AvseError, match="no zip file"):
        unpack(tmp_path / "no.zip", tmp_path / "into")
    (tmp_path / "s9.zip").write_bytes(zipped({"bbaf2n.mpg": b"x"}))
    unpack(tmp_path / "s9.zip", tmp_path / "into")
    assert (tmp_path / "into" / "s9" / "bbaf2n.mpg").is_file()


def test_speakers_that_the_record_lacks(grid, tmp_path):
    with pytest.raises(AvseError, match="no video of s21"):
        Grid(speakers=["s21"], base_url=grid.url).download(tmp_path / "grid")
    with pytest.raises(AvseError, match="lacks s4.zip"):
        Grid(speakers=["s4"], base_url=grid.url).download(tmp_path / "grid")


def test_a_file_with_a_wrong_size_in_the_listing_is_not_unpacked(tmp_path, record):
    record.files["a.bin"] = b"x" * 100
    wrong = RecordFile("a.bin", f"{record.url}/files/a.bin/content", 200, hashlib.md5(b"x" * 100).hexdigest())
    with pytest.raises(AvseError, match="6 times"):
        fetch(wrong, tmp_path / "a.bin", wait=lambda _: None)
    assert not (tmp_path / "a.bin").exists()

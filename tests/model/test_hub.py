"""Models of the hub, with a fake of it: what is fetched, pinned, checked and pushed."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import avse
from avse.errors import AvseError
from avse.model import Model

pytest.importorskip("huggingface_hub")


class Hub(BaseHTTPRequestHandler):
    """Repositories by name: commits, each of which holds files; a branch is a name of a commit."""

    commits: dict[str, dict[str, dict[str, bytes]]] = {}
    branches: dict[tuple[str, str], str] = {}

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        name, revision, file = "/".join(parts[:2]), parts[3] if len(parts) > 3 else "", "/".join(parts[4:])
        if name not in self.commits:
            return self.answer(404, X_Error_Code="RepoNotFound")
        commit = self.branches.get((name, revision), revision)
        if commit not in self.commits[name]:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        files = self.commits[name][commit]
        if file not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        tag = hashlib.sha256(files[file]).hexdigest()
        self.answer(200, files[file], ETag=f'"{tag}"', X_Repo_Commit=commit)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.strip("/").split("/")
        if parts[1] == "repos":
            made = json.loads(body)
            name = f"{made['organization']}/{made['name']}" if made.get("organization") else made["name"]
            self.commits.setdefault(name, {})
            return self.answer(200, json.dumps({"url": f"http://{self.headers['Host']}/{name}"}).encode())
        if parts[1] == "validate-yaml":
            return self.answer(200, b'{"errors": [], "warnings": []}')
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self.answer(200, json.dumps({"files": files}).encode())
        if parts[4] == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = hashlib.sha1(body).hexdigest()
            self.commits[name][commit] = files
            self.branches[name, parts[5]] = commit
            url = f"http://{self.headers['Host']}/{name}/commit/{commit}"
            return self.answer(200, json.dumps({"success": True, "commitOid": commit, "commitUrl": url}).encode())
        self.answer(404)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    Hub.commits, Hub.branches = {}, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()
    server.server_close()


def test_pushed_fetched_pinned_and_offline(hub: type[Hub], tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = avse.load(tiny_model)
    first = model.push_to_hub("org/tiny", card="# Tiny", message="first")
    assert set(hub.commits["org/tiny"][first.split("@")[1]]) == {
        "model.json", "model.safetensors", "recipe.yaml", "README.md"
    }  # fmt: skip
    assert str(Model.from_pretrained("org/tiny")) == str(avse.load("hf://org/tiny")) == str(avse.load(first))
    model.name = "other"
    second = model.push_to_hub("org/tiny", message="second")
    assert avse.load("hf://org/tiny").name == "other" and avse.load(first).name != "other" and second != first
    assert Model.from_pretrained("org/tiny", revision=first.split("@")[1]).name == avse.load(tiny_model).name
    for address, told in (
        ("hf://org/none", "no such model"),
        ("hf://org/tiny@v9", "no revision 'v9'"),
        ("hf://tiny", "Write hf://"),
    ):
        with pytest.raises(AvseError, match=told):
            avse.load(address)
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert avse.load("hf://org/tiny").name == "other", "what was fetched is used without a network"
    with pytest.raises(AvseError, match="not fetched before"):
        avse.load("hf://org/unseen")


def test_altered_files_and_code_are_refused(hub: type[Hub], tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(tiny_model if (tiny_model / "model.json").is_file() else tiny_model / "model", folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.commits["org/bad"] = {"a" * 40: {**files, "model.safetensors": files["model.safetensors"][:-1] + b"x"}}
    hub.branches["org/bad", "main"] = "a" * 40
    with pytest.raises(AvseError, match="was altered"):
        avse.load("hf://org/bad")
    code = files["recipe.yaml"] + b"\nmore: !apply:os.system [touch /tmp/avse_was_here]\n"
    about = json.loads(files["model.json"])
    about["sha256"]["recipe.yaml"] = hashlib.sha256(code).hexdigest()
    hub.commits["org/code"] = {"b" * 40: {**files, "recipe.yaml": code, "model.json": json.dumps(about).encode()}}
    hub.branches["org/code", "main"] = "b" * 40
    with pytest.raises(AvseError, match="os.system"):
        avse.load("hf://org/code")
    hub.commits["org/empty"] = {"c" * 40: {"README.md": b"nothing"}}
    hub.branches["org/empty", "main"] = "c" * 40
    with pytest.raises(AvseError, match="is no model of avse"):
        avse.load("hf://org/empty")

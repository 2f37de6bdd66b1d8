"""The page in a real browser: skipped, with the reason, where Gradio, Playwright or Chromium is absent."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
FAKE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
MINUTES, MEGABYTES = 1, 20  # of a clip, at most: a machine at work is slow to end a recording
WAIT = 300_000  # milliseconds for what the page does, at most: the machine may be at work
ENDLESS = '''\
"""An enhancer that never ends, so that it is cancelled in the middle whatever the speed of the machine."""

import threading

from avse.contracts.enhancer import Enhancer
from avse.plugins import register


@register("enhancer", "endless")
class Endless(Enhancer):
    """Waits until its process is killed."""

    def forward(self, batch):
        threading.Event().wait()
'''


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    pytest.importorskip("gradio", reason="the extra web is not installed")
    pytest.importorskip("playwright", reason="Playwright is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(playwright: Any) -> str:
    """Of the system, or of Playwright; one that starts."""
    path = shutil.which("chromium") or shutil.which("google-chrome") or playwright.chromium.executable_path
    if not Path(path).is_file():
        pytest.skip("there is no Chromium")
    try:
        playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=WAIT).close()
    except Exception as error:  # such as a library of the system that is missing
        pytest.skip(f"Chromium does not start: {str(error).splitlines()[0]}")
    return path


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps its files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture
def left_behind(server_folder: Path) -> Callable[[], list[Path]]:
    """Files and folders of results, finished or not, but for the uploads."""
    return lambda: sorted(path for part in ("results", "unfinished") for path in server_folder.rglob(f"{part}/*"))


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A plugin file, and the folder of a model of it."""
    from avse import plugins
    from avse.model import Model
    from avse.recipe import load_recipe

    folder = tmp_path_factory.mktemp("plugin")
    file, recipe = folder / "endless_enhancer.py", folder / "recipe.yaml"
    file.write_text(ENDLESS)
    recipe.write_text("model: !new:avse.plugins.enhancer.endless\n")
    for kind in plugins.KINDS:
        plugins.names(kind)  # known before, so that only the new one is forgotten
    with pytest.MonkeyPatch.context() as patch:  # the tests forget it again
        patch.setattr(plugins, "_REGISTRY", {kind: dict(found) for kind, found in plugins._REGISTRY.items()})
        plugins.load_path(file)
        system = load_recipe(recipe).build("model")["model"]
        return file, Model(system, recipe.read_text(), "endless").save(folder / "endless")


@pytest.fixture(scope="session")
def address(chromium: str, server_folder: Path, endless_model: tuple[Path, Path]) -> Iterator[str]:
    """Of `avse web`, running."""
    folder, (plugin, model) = server_folder, endless_model
    words = [sys.executable, "-m", "avse", "--plugins", plugin, "web", "--port", "0", "--model", model]
    words += ["--max-minutes", str(MINUTES), "--max-mb", str(MEGABYTES)]
    with (folder / "errors.txt").open("w") as errors:
        server = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "TMPDIR": str(folder)}
        )
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "http://127.0.0.1:" in line, (folder / "errors.txt").read_text()
            yield re.findall(r"http://\S+", line)[0]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)
    assert not [*folder.glob("avse-web-*")], "files of visitors are left"
    assert "Traceback" not in (folder / "errors.txt").read_text()


@pytest.fixture
def visit(address: str, chromium: str, playwright: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page in a new browser with an empty profile; fails where the page reports an error of its scripts."""
    browsers, faults = [], []

    def opened(*flags: str, width: int = 1280, height: int = 900, devices: bool = False) -> Any:
        profile = tmp_path / f"profile{len(browsers)}"
        browser = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=chromium,
            args=[*FLAGS, *(FAKE if devices else []), *flags],
            viewport={"width": width, "height": height},
            accept_downloads=True,
            permissions=["camera", "microphone"] if devices else [],
        )
        browsers.append(browser)
        browser.set_default_timeout(WAIT)  # of all its pages
        page = browser.pages[0]
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        page.get_by_role("button", name="Enhance").wait_for()
        return page

    yield opened
    for browser in browsers:
        browser.close()
    assert not faults, faults

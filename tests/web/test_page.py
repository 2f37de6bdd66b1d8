"""The page, as a visitor uses it."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avse
from avse.jobs.enhance import enhance_file
from avse.media import read_clip

from .conftest import MEGABYTES, WAIT

pytestmark = pytest.mark.slow
DONE = ".avse-result[data-ready]"
# What is played, of the players of a result.
PLAYERS = """[...document.querySelectorAll('[data-player]')].map(
    player => [player.currentTime, player.muted, player.paused, player.duration])"""
# Presses "Pause" after 0.3 s; a machine at work may have seen the end before, and plays again.
PAUSED = """() => {
    const [player] = document.querySelectorAll('[data-player]'), button = document.querySelector('.avse-play');
    if (player.ended && button.textContent === 'Play') button.click();
    if (player.ended || player.currentTime < 0.3 || button.textContent !== 'Pause') return false;
    button.click();
    return true;
}"""
# Counts the bytes that were recorded.
COUNTED = """() => {
    const start = MediaRecorder.prototype.start;
    MediaRecorder.prototype.start = function (...given) {
        this.addEventListener("dataavailable", ({ data }) => { window.recorded = (window.recorded || 0) + data.size; });
        return start.apply(this, given);
    };
}"""


def _enhance(page: Any, clip: Path | list[Path], button: str = "Enhance") -> None:
    page.locator("input[type=file]").first.set_input_files(clip)
    page.get_by_role("button", name=button, exact=True).click()


def _choose(page: Any, model: str) -> None:
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name=model).click()


def _download(page: Any, text: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=text).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_a_clip_is_enhanced_played_and_downloaded(visit: Callable, talk: Path, tmp_path: Path) -> None:
    page = visit()
    _enhance(page, talk)
    page.locator(DONE).wait_for()
    assert page.locator("text=mouth seen in 100%").count() == 1
    page.wait_for_function("[...document.querySelectorAll('video')].every(player => player.readyState > 2)")
    picture = page.locator(".avse-spectra img")
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 1000
    assert page.locator(".avse-curve path").count() == 1  # the reliability
    assert page.locator(".avse-box:visible").count() == 2  # the face
    assert page.locator("[data-mouth]").count() == 1

    page.get_by_role("button", name="Play").click()
    page.wait_for_function(PAUSED)
    (before, quiet, *_), (after, heard, _, seconds) = page.evaluate(PLAYERS)
    assert quiet and not heard and abs(before - after) < 0.05
    assert seconds == pytest.approx(1.2, abs=0.05)
    page.get_by_role("button", name="Before").click()
    assert [muted for _, muted, *_ in page.evaluate(PLAYERS)] == [False, True]
    page.get_by_label("Position in seconds").fill("0.5")
    assert [at for at, *_ in page.evaluate(PLAYERS)] == pytest.approx([0.5, 0.5], abs=0.01)

    own = tmp_path / "own"
    report = enhance_file(avse.load("avse-small"), talk, own / "talk.mp4")
    given = _download(page, "Download the result", tmp_path)
    assert given.name == "talk.enhanced.mp4"
    expected, found = (read_clip(path, use_video=False).audio for path in (own / "talk.mp4", given))
    assert np.abs(found - expected).max() < 1e-3 < np.abs(found).max()
    [told] = json.loads(_download(page, "Report", tmp_path).read_text())
    assert told["input"] == "talk.mp4" and told["output"] == "talk.enhanced.mp4" and told["video"] == "talk.mp4"
    assert told["reliability"] == pytest.approx(report.reliability, abs=1e-3)


def test_what_is_chosen_is_used(visit: Callable, talk: Path, tmp_path: Path) -> None:
    """Strength zero gives the clip as it was; what was taken away can be had."""
    page = visit()
    page.get_by_role("button", name="Strength and more").click()
    page.get_by_label("number input for Strength (%)").fill("0")
    page.get_by_label("Also give what was taken away").check()
    _enhance(page, talk)
    page.locator(DONE).wait_for()
    assert page.locator("[data-player]").count() == 3
    with page.expect_download() as waiting:
        page.get_by_role("link", name="What was taken away").click()
    waiting.value.save_as(tmp_path / "rest.wav")
    assert np.abs(read_clip(tmp_path / "rest.wav").audio).max() < 1e-3


@pytest.mark.parametrize("kind", ["broken", "long", "several"])
def test_a_file_that_cannot_be_enhanced_gives_a_message(kind: str, visit: Callable, talk: Path, tmp_path: Path) -> None:
    import soundfile

    page, clip = visit(), tmp_path / "clip.wav"
    if kind == "long":
        soundfile.write(clip, np.zeros(4000 * 70, np.float32), 4000)
    else:
        clip.write_bytes(b"no media at all " * 100)
    _enhance(page, [clip, talk] if kind == "several" else clip)
    message = page.locator("#avse-results .avse-error")
    message.wait_for()
    text = message.inner_text()
    assert "clip.wav" in text and ("page takes" in text if kind == "long" else "not an audio or video file" in text)
    assert "/" not in text.replace("and/or", "")
    if kind == "several":
        page.locator(DONE).wait_for()  # the other one is enhanced all the same


def test_a_picture_of_the_page(visit: Callable, tmp_path: Path) -> None:
    """Nothing is wider than the window. `AVSE_PICTURES=docs/images` has the picture of the README written there."""
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    audio, frames, _ = synthesize_clip(seed=5, speaker=12, seconds=4.0)
    frames[45:70] = 0  # no mouth is seen
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(audio))
    write_video(tmp_path / "noisy.mp4", frames, (audio + noise).astype(np.float32))
    page = visit()
    _enhance(page, tmp_path / "noisy.mp4")
    page.locator(DONE).wait_for()
    page.get_by_role("button", name="What the noise is").click()
    page.get_by_role("button", name="Cancel").wait_for(state="hidden")
    page.wait_for_function("[...document.querySelectorAll('video')].every(player => player.readyState > 2)")
    page.get_by_label("Position in seconds").fill("1.4")
    folder = Path(os.environ.get("AVSE_PICTURES", tmp_path))
    for width, name in ((390, "narrow.png"), (1280, "web.png")):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("[...document.querySelectorAll('video')].every(player => !player.seeking)")
        page.screenshot(path=(folder if width > 390 else tmp_path) / name, full_page=True)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_what_the_noise_is_can_be_said(visit: Callable, talk: Path, tmp_path: Path) -> None:
    """A model that cannot be told says so in words; one that can tells what it understood."""
    import soundfile

    soundfile.write(tmp_path / "hiss.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    page = visit()
    page.get_by_role("button", name="What the noise is").click()
    page.get_by_text("A picture, a sound or a film of it").wait_for()  # the box is put together when it is opened
    page.locator("input[type=file]").last.set_input_files(tmp_path / "hiss.wav")
    page.locator("text=hiss.wav").wait_for()
    _enhance(page, talk)
    message = page.locator("#avse-results .avse-error")
    message.wait_for()
    assert "avse-small has no noise model that could be told" in message.inner_text()
    _choose(page, "av-vae")
    page.get_by_role("button", name="Enhance", exact=True).click()
    page.locator(DONE).wait_for()
    assert "noise like whitenoise" in page.locator(".avse-outcome summary").inner_text()


def test_cancel_ends_the_work(visit: Callable, talk: Path, left_behind: Callable) -> None:
    """At once, of one who works and of one who waits; and nothing is left behind."""
    before = left_behind()
    first = visit()
    second = first.context.new_page()
    second.goto(first.url)
    for page in (first, second):
        _choose(page, "endless")
        _enhance(page, talk)
        page.get_by_role("button", name="Cancel").wait_for()
    first.locator("text=Loading the model").first.wait_for()  # of the one who works
    for page in (second, first):
        page.get_by_role("button", name="Cancel").click()
        page.locator("text=Cancelled.").wait_for()
        page.get_by_role("button", name="Cancel").wait_for(state="hidden")
    until = time.monotonic() + WAIT / 1000  # the page does not wait for the end of the process
    while left_behind() != before and time.monotonic() < until:
        first.wait_for_timeout(100)
    assert left_behind() == before


def test_two_visitors_at_once(visit: Callable, talk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    shutil.copy(talk, other)
    first = visit()
    second = first.context.new_page()
    second.goto(first.url)
    second.get_by_role("button", name="Enhance").wait_for()
    _enhance(first, talk)
    _enhance(second, other)
    for page, name in ((second, "other.mp4"), (first, "talk.mp4")):
        page.locator(DONE).wait_for()
        assert page.locator(".avse-outcome summary b").inner_text() == name


def test_the_keyboard_alone_is_enough(visit: Callable, talk: Path) -> None:
    from playwright.sync_api import TimeoutError

    page = visit()

    def go_to(reached: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const it = document.activeElement; return {reached}; }})()"):
                return
        raise AssertionError(reached)

    for _ in range(20):  # a key that comes while the page is still put together has no effect
        go_to("it.tagName === 'BUTTON' && /Drop File Here/.test(it.innerText)")
        try:
            with page.expect_file_chooser(timeout=5_000) as waiting:
                page.keyboard.press("Enter")
            break
        except TimeoutError:
            continue
    waiting.value.set_files(talk)
    page.locator("button:enabled", has_text="Enhance").wait_for()
    go_to("it.innerText === 'Enhance'")
    page.keyboard.press("Enter")
    page.locator(DONE).wait_for()
    go_to("it.className === 'avse-play'")
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('[data-player]').currentTime > 0.2")
    go_to("it.className === 'avse-listen' && it.innerText === 'Before'")
    page.keyboard.press("Enter")
    assert [muted for _, muted, *_ in page.evaluate(PLAYERS)] == [False, True]
    go_to("it.innerText === 'Download the result'")
    with page.expect_download() as waiting_file:
        page.keyboard.press("Enter")
    assert waiting_file.value.suggested_filename == "talk.enhanced.mp4"


def test_every_speaker_has_a_row(visit: Callable, tmp_path: Path) -> None:
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    (audio, left, _), (other, right, _) = (synthesize_clip(seed=seed, speaker=seed, seconds=1.2) for seed in (5, 6))
    write_video(tmp_path / "two.mp4", np.concatenate([left, right], axis=2), (audio + other) / 2)
    page = visit(width=390, height=844)
    page.get_by_label("Every speaker").check()
    page.get_by_role("button", name="Separate").wait_for()
    _enhance(page, tmp_path / "two.mp4", "Separate")
    page.locator(DONE).wait_for()
    rows = page.locator(".avse-row")
    assert [rows.nth(row).locator("button").inner_text() for row in range(4)] == ["Mixture", "left", "right", "rest"]
    assert rows.locator("img").count() == 2 and page.locator(".avse-row .avse-curve path").count() == 2
    page.get_by_role("button", name="right", exact=True).click()
    assert [muted for _, muted, *_ in page.evaluate(PLAYERS)] == [True, True, False, True]
    with page.expect_download() as waiting:
        rows.nth(1).get_by_role("link").click()
    waiting.value.save_as(tmp_path / "left.wav")
    assert len(read_clip(tmp_path / "left.wav").audio) == pytest.approx(19200, abs=1024)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_one_of_two_faces_is_clicked(visit: Callable, tmp_path: Path) -> None:
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    (audio, left, _), (_, right, _) = (synthesize_clip(seed=seed, speaker=seed, seconds=1.2) for seed in (5, 6))
    write_video(tmp_path / "two.mp4", np.concatenate([left, right], axis=2), audio)
    page = visit()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "two.mp4")
    page.get_by_label("right", exact=True).wait_for()
    page.locator("button.thumbnail-item, .thumbnail-item").nth(1).click()
    page.wait_for_function("document.querySelector('input[type=radio][value=\"1\"]').checked")
    page.get_by_role("button", name="Enhance", exact=True).click()
    page.locator(DONE).wait_for()
    [told] = json.loads(_download(page, "Report", tmp_path).read_text())
    assert all(box[0] > 0.5 for box in told["boxes"] if box)


def test_a_recording_is_enhanced(visit: Callable) -> None:
    page = visit(devices=True)
    page.get_by_role("tab", name="Record").click()
    page.get_by_role("button", name="Click to Access Webcam").click()
    page.wait_for_function("[...document.querySelectorAll('video')].some(shown => shown.videoWidth && !shown.paused)")
    record = page.get_by_label("start recording")
    page.evaluate(COUNTED)
    record.click()
    page.wait_for_function("window.recorded > 20000")  # an encoder is slow on a machine at work
    record.click()  # its text is now "Stop"
    page.get_by_role("button", name="Enhance", exact=True).click()
    page.locator(f"{DONE}, #avse-results .avse-error").first.wait_for()
    assert page.locator(DONE).count(), page.locator("#avse-results").inner_text()
    assert page.locator("[data-player]").count() == 2


def test_nothing_of_the_server_can_be_read(address: str, chromium: str) -> None:
    secret = Path(__file__).resolve()
    for place in (
        f"gradio_api/file={secret}",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=setup.py",
        "avse/results/../../../etc/passwd",
        "avse/results/%2e%2e/uploads",
        "avse/results/..%2f..%2fetc/passwd",
        "avse/static/../page.py",
        "avse/static/..%2fpage.py",
        "docs",
    ):
        try:
            with urllib.request.urlopen(f"{address}/{place}") as answer:
                raise AssertionError(f"{place}: {answer.status} {answer.read()[:80]!r}")
        except urllib.error.HTTPError as error:
            assert error.code in (403, 404, 405), place


def test_an_upload_that_is_too_large_is_refused(visit: Callable, tmp_path: Path) -> None:
    (tmp_path / "large.wav").write_bytes(bytes(MEGABYTES * 1_100_000))
    page = visit()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "large.wav")
    page.locator("text=/maximum allowed size|too large|exceeds/i").first.wait_for()

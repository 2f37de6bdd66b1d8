"""What is done with the files of visitors, without a browser."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse.contracts.types import Clip
from avse.errors import AvseError
from avse.jobs.enhance import enhance_file
from avse.media import read_clip
from avse.media.decode import VideoSource
from avse.model import load
from avse.web.jobs import Room, Told, faces_of
from avse.web.media import write_player
from avse.web.server import application, serve
from avse.web.worker import Worker


@pytest.fixture
def room(tmp_path: Path, tiny_model: Path) -> Room:
    return Room(tmp_path / "room", models={"tiny": str(tiny_model)}, longest=10.0)


def test_a_result_is_that_of_the_command(room: Room, talk: Path, tiny_model: Path, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    outcome = room.enhance(talk, "tiny", lambda share, text: told.append((share, text)), rest=True, mix=0.5)
    assert not outcome.message and outcome.film and outcome.mouth
    report = enhance_file(load(tiny_model), talk, tmp_path / "own.mp4", mix=0.5)
    files = [outcome.plot, outcome.report, outcome.mouth]
    files += [name for player in outcome.players for name in (player.file, player.download) if name]
    assert all(room.find(outcome.token, name) for name in files)
    text = (room.results / outcome.token / outcome.report).read_text()
    [found] = json.loads(text)
    assert str(talk.parent) not in text and str(room.root) not in text
    assert found["reliability"] == report.reliability and found["rest"] == "talk.rest.wav"
    given = room.results / outcome.token / "talk.enhanced.mp4"
    assert np.array_equal(*(read_clip(path).audio for path in (tmp_path / "own.mp4", given)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] < 1 and len({text for _, text in told}) == 3
    frames = VideoSource(room.results / outcome.token / "mouth.mp4").frames(0.0)
    mouth = np.stack([frame.rgb(88) for frame in islice(frames, 25) if frame is not None])
    assert np.abs(mouth[..., 0].astype(float) - read_clip(talk).mouth[:25]).mean() < 6  # as lossy as its codec


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm", ".mov", ".ts"])
def test_every_container_becomes_one_that_browsers_play(suffix: str, tmp_path: Path) -> None:
    """The video begins with the audio, and both are as long as the audio."""
    import av

    source, rate = tmp_path / f"clip{suffix}", 44_100
    codecs = {".avi": ("mpeg4", "mp3"), ".webm": ("libvpx", "libopus")}.get(suffix, ("libx264", "aac"))
    seconds, fps = 2.0, 30
    with av.open(str(source), "w") as container:
        video = container.add_stream(codecs[0], rate=fps)
        video.width, video.height, video.pix_fmt = 96, 66, "yuv420p"
        audio = container.add_stream(codecs[1], rate=48_000 if codecs[1] == "libopus" else rate, layout="stereo")
        for index in range(round(seconds * fps)):  # white in the second second
            pixels = np.full((66, 96, 3), 255 * (index >= fps), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = np.zeros((2, round(seconds * rate)), np.float32)
        wave[:, rate:] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        resampler = av.AudioResampler(audio.format.name, "stereo", audio.rate)
        block = av.AudioFrame.from_ndarray(wave, "fltp", "stereo")
        block.sample_rate, block.pts = rate, 0
        for piece in [*resampler.resample(block), *resampler.resample(None)]:
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    write_player(tmp_path / "before.mp4", source, video=source)
    write_player(tmp_path / "after.mp4", source, film=tmp_path / "before.mp4")
    for name in ("before.mp4", "after.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
            assert container.streams.video[0].pix_fmt == "yuv420p"
            white = [frame.time for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 128]
        assert min(white) == pytest.approx(1.0, abs=0.081)
        sound = read_clip(tmp_path / name, use_video=False).audio
        assert len(sound) / 16000 == pytest.approx(seconds, abs=0.06)
        loud = np.flatnonzero(np.abs(sound) > 0.1)
        assert loud[0] / 16000 == pytest.approx(1.0, abs=0.06)


def test_what_is_wrong_is_told_without_a_path(room: Room, tmp_path: Path) -> None:
    broken, long = tmp_path / "broken.mp4", tmp_path / "long.wav"
    broken.write_bytes(b"nothing" * 100)
    soundfile.write(long, np.zeros(11 * 8000), 8000)
    for source, said in ((broken, "not an audio or video file"), (long, "this page takes")):
        for outcome in (room.enhance(source, "tiny", lambda *_: None), room.separate(source, "tiny", lambda *_: None)):
            assert outcome.message.startswith(source.name) and said in outcome.message
            assert str(tmp_path) not in outcome.message
    assert not [*room.results.iterdir()] and not [*room.unfinished.iterdir()]


def test_a_model_that_cannot_be_told_of_the_noise_says_so(room: Room, talk: Path, tmp_path: Path) -> None:
    torn = room.uploads / "a1b2" / "torn picture.png"
    torn.parent.mkdir()
    torn.write_bytes(b"no picture")
    for told, said in (
        (Told(itself=True), "cannot be told|has no noise model"),
        (Told(words=" ?! "), "says nothing"),
        (Told(file=torn), "^torn picture.png: "),
    ):
        outcome = room.enhance(talk, "avse-small", lambda *_: None, told=told)
        assert re.search(said, outcome.message) and str(tmp_path) not in outcome.message, outcome.message


def test_what_is_said_of_the_noise_is_used(room: Room, talk: Path, tmp_path: Path) -> None:
    """Words are words even where there is a file of that name."""
    pytest.importorskip("wordllama", reason="the extra scene is not installed")
    hiss = room.uploads / "hiss.wav"
    soundfile.write(hiss, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    (heard,), (read,) = (told.read()["noise"] for told in (Told(file=hiss), Told(words=str(hiss))))
    assert float(heard @ read) < 0.9
    outcome = room.enhance(talk, "av-vae", lambda *_: None, told=Told("rain on a roof", "music", hiss, itself=True))
    assert not outcome.message and any(fact.startswith("noise like ") for fact in outcome.facts), outcome
    [report] = json.loads((room.results / outcome.token / outcome.report).read_text())
    assert "rain" in [name for name, _ in report["noise"]["nearest"]]


def test_a_visitor_who_cancels_or_leaves_ends_the_work(room: Room, talk: Path) -> None:
    """The process ends in the middle of the work, and leaves no file; the next visitor gets another."""

    async def visits() -> None:
        worker = Worker(room)
        told: list[tuple[float, str]] = []
        begun = asyncio.Event()

        def tell(share: float, text: str) -> None:
            told.append((share, text))
            begun.set()

        outcome = await worker.run("first", "enhance", talk, "tiny", tell)
        assert not outcome.message and room.find(outcome.token, "talk.enhanced.mp4")
        assert told[-1][1] == "Making what the browser plays" and not [*room.unfinished.iterdir()]
        for leaves in (False, True):
            begun.clear()
            work = asyncio.create_task(worker.run("first", "enhance", talk, "tiny", tell))
            await begun.wait()
            assert [*room.unfinished.iterdir()]
            process = worker._process
            worker.leave("another")
            assert process.is_alive()
            if leaves:
                worker.leave("first")
                assert "has ended" in (await work).message
            else:
                work.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await work
            assert not process.is_alive()
            assert not [*room.unfinished.iterdir()] and [*room.results.iterdir()] == [room.results / outcome.token]
        worker.end()

    asyncio.run(visits())


def test_only_files_of_results_are_found(room: Room) -> None:
    folder = room.results / "token"
    folder.mkdir()
    (folder / "there.txt").write_text("")
    (folder / "link.txt").symlink_to("/etc/hostname")
    (room.uploads / "upload.txt").write_text("")
    assert room.find("token", "there.txt") == folder / "there.txt"
    for token, name in (
        ("token", "gone.txt"), ("token", "link.txt"), ("token", "../../uploads/upload.txt"), ("..", "uploads"),
        ("../uploads", "upload.txt"), ("token", ""), ("", "token"), ("token", "there.txt\0"),
        ("token", "/etc/hostname"),
    ):  # fmt: skip
        assert room.find(token, name) is None, (token, name)


def test_files_are_deleted_after_their_time(room: Room) -> None:
    old, young = room.results / "old" / "a.mp4", room.uploads / "young" / "b.mp4"
    for path in (old, young):
        path.parent.mkdir()
        path.write_text("")
    for path in (old, old.parent):
        os.utime(path, (time.time() - 3700,) * 2)
    room.sweep()
    assert not old.exists() and young.exists()
    room.sweep(time.time() + 3700)  # files first: their folders are young again
    room.sweep(time.time() + 7400)
    assert not young.parent.exists() and room.uploads.is_dir() and room.results.is_dir()


def test_what_keeps_the_page_from_starting_is_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(AvseError, match=r"pip install 'avse\[web\]'"):
        application(room, {})
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AvseError, match="another --port"):
        serve(port=taken.getsockname()[1])


def test_faces_are_found_in_videos_alone(talk: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", np.zeros(8000), 8000)
    assert faces_of(tmp_path / "talk.wav") == ()
    [(name, picture)] = faces_of(talk)
    assert name == "speaker" and picture.shape == (160, 160, 3)


def test_a_live_stream_is_that_of_the_whole_clip() -> None:
    """Audio at another rate, and pictures as JPEG, in which no mouth is seen."""
    import io

    from PIL import Image

    from avse.web.live import LiveStream

    model = load("avse-live")
    audio = 0.1 * np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 48)).save(jpeg, "JPEG")
    stream = LiveStream(model, 16000)
    found, reliability = [], []
    for start in range(0, len(audio), 320):
        if start % 640 == 0:
            stream.see(jpeg.getvalue(), start / 16000)
        speech, told = stream.hear(audio[start : start + 320])
        found.append(speech)
        reliability += told["reliability"]
    speech, told = stream.hear(audio[:0], last=True)
    whole = model.enhance(Clip(audio))
    assert np.abs(np.concatenate([*found, speech]) - whole.speech.numpy()).max() < 1e-4
    assert len(reliability + told["reliability"]) == 50 and stream.report()["seconds"] == 2.0

"""Clocks that jump, overlap or are missing; files that end before their end; names that look like addresses."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from avse.contracts.types import Clip
from avse.errors import AvseError
from avse.media import open_clip, read_clip, write_enhanced
from avse.media.decode import AudioSource

RATE = 16_000
_BLOCK = 1600


def _read(path: Path, **options: object) -> tuple[Clip, list[str]]:
    with open_clip(path, **options) as reader:
        chunks = list(reader.chunks(60.0))
        return Clip(np.concatenate([chunk.clip.audio for chunk in chunks]), chunks[0].clip.mouth), reader.info.warnings


def _stamped(path: Path, jumps: Mapping[int, float], blocks: int = 40) -> Path:
    """Blocks of 0.1 s, the level of each its number; before some the clock jumps by so many seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        position = 0.0
        for block in range(blocks):
            position += jumps.get(block, 0.0) * RATE
            samples = np.full((1, _BLOCK), (block + 1) * 100, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, round(position), Fraction(1, RATE)
            container.mux(stream.encode(frame))
            position += _BLOCK
    return path


def _copy(source: Path, target: Path, kind: str = "") -> Path:
    """The streams of a file (or those of a kind) in another container."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        streams = [stream for stream in given.streams if not kind or stream.type == kind]
        copies = {stream.index: made.add_stream_from_template(stream) for stream in streams}
        for packet in given.demux(*streams):
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                made.mux(packet)
    return target


def test_a_long_gap_is_silence(tmp_path: Path) -> None:
    clip, warnings = _read(_stamped(tmp_path / "gap.mkv", {20: 700.0}))
    assert len(clip.audio) == 704 * RATE and not clip.audio[2 * RATE : 702 * RATE].any()
    assert clip.audio[-1] == pytest.approx(4000 / 32768) and "700.00 s of audio missing at 2.00 s" in warnings


def test_audio_that_overlaps_is_left_out_so_that_the_rest_is_in_time(tmp_path: Path) -> None:
    clip, warnings = _read(_stamped(tmp_path / "overlap.mkv", {block: -0.05 for block in range(10, 30)}))
    assert len(clip.audio) == 3 * RATE and "audio whose time stamps overlap those before it was left out" in warnings
    assert clip.audio[-_BLOCK // 2] == pytest.approx(4000 / 32768)


def test_a_clock_that_is_wrong_by_days_is_not_followed(tmp_path: Path) -> None:
    clip, warnings = _read(_stamped(tmp_path / "wrong.mkv", {20: 100_000.0}))
    assert len(clip.audio) == 4 * RATE and "the time stamps jump by 100000 s at 2.00 s" in warnings


def test_transport_streams_one_after_the_other(talk: Path, tmp_path: Path) -> None:
    """As `cat a.ts b.ts`: audio and mouths of all, in sync."""
    one = _copy(talk, tmp_path / "one.ts")
    (tmp_path / "three.ts").write_bytes(3 * one.read_bytes())
    (single, _), (clip, _) = _read(one), _read(tmp_path / "three.ts")
    assert len(clip.audio) == pytest.approx(3 * len(single.audio), abs=0.1 * RATE)
    with open_clip(tmp_path / "three.ts") as reader:
        [chunk] = reader.chunks()
    assert chunk.clip.valid.mean() > 0.9
    last = slice(len(single.audio) // 2, len(single.audio) - 2000)
    shifts = [
        np.corrcoef(single.audio[last], np.roll(clip.audio, shift)[last])[0, 1] for shift in range(-36000, -40500, -1)
    ]
    assert max(shifts) > 0.95


@pytest.mark.parametrize("name", ["cut.wav", "cut.mkv", "cut.ts", "cut.mp3", "cut.flac"])
def test_a_file_cut_short_is_told(name: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{Path(name).suffix}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(6 * RATE)
    if whole.suffix in (".mkv", ".ts"):
        soundfile.write(tmp_path / "noise.wav", noise, RATE)
        with av.open(str(tmp_path / "noise.wav")) as given, av.open(str(whole), "w") as made:
            stream = made.add_stream("aac", rate=RATE, layout="mono")
            for frame in given.decode(audio=0):
                made.mux(stream.encode(frame))
            made.mux(stream.encode(None))
    else:
        soundfile.write(whole, noise, RATE)
    content = whole.read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 3 // 5 + 1])
    assert not _read(whole)[1]
    warnings = _read(tmp_path / name)[1]
    assert any("cut short" in one or "the audio ends at" in one or "damaged" in one for one in warnings), warnings


def test_a_transport_stream_cut_between_its_packets_is_told(talk: Path, tmp_path: Path) -> None:
    whole = _copy(talk, tmp_path / "whole.ts")
    assert not _read(whole)[1]
    content, cut = whole.read_bytes(), tmp_path / "cut.ts"
    packets, told, starts = len(content) // 188, 0, 0
    places = np.linspace(packets // 3, packets - 2, 60).astype(int).tolist()
    for place in places:
        cut.write_bytes(content[: place * 188])
        starts += bool(content[place * 188 + 1] & 0x40)  # what comes before is whole
        told += any("cut short" in warning for warning in AudioSource(cut).warnings)
    assert told == len(places) - starts > 20


def test_raw_video_has_the_times_of_its_frame_rate(talk: Path, tmp_path: Path) -> None:
    sound = tmp_path / "talk.wav"
    soundfile.write(sound, _read(talk)[0].audio, RATE)
    raw = _copy(talk, tmp_path / "raw.h264", "video")
    with open_clip(sound, video=raw) as reader:
        [chunk] = reader.chunks()
    assert chunk.clip.valid.mean() > 0.9
    assert "the video has no time stamps; 25 frames per second are assumed" in reader.info.warnings


@pytest.mark.parametrize("name", ["raw.h264", "broadcast.webm"])
def test_a_video_without_audio_or_a_stated_length_is_as_long_as_its_frames(
    name: str, talk: Path, tmp_path: Path
) -> None:
    """As speech is drawn for it: raw video, and a recording of a browser, whose header is written before its end."""
    if name.endswith("h264"):
        path = _copy(talk, tmp_path / name, "video")
    else:
        path = tmp_path / name
        with av.open(str(path), "w", options={"live": "1"}) as container:
            stream = container.add_stream("libvpx", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(40):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video[0].duration is None and not container.duration
        frames = sum(1 for _ in container.decode(video=0))
    clip = read_clip(path, silent=True)
    assert len(clip.audio) == pytest.approx(frames * RATE / 25, abs=RATE / 25) and not clip.audio.any()
    assert not name.endswith("h264") or clip.valid.mean() > 0.9


def test_a_video_in_the_place_of_the_audio_is_told(talk: Path, tmp_path: Path) -> None:
    raw = _copy(talk, tmp_path / "raw.h264", "video")
    with pytest.raises(
        AvseError, match=r"is in .*talk.*, give that file first and pair this one with --video raw\.h264"
    ):
        read_clip(raw, video=talk)
    with pytest.raises(AvseError, match=r"is in another file, give that file and pair this one with --video raw\.h264"):
        read_clip(raw)


def test_video_that_ends_early_or_shows_nobody_is_told(talk: Path, tmp_path: Path) -> None:
    from avse.data.synthetic.recording import write_video

    sound = tmp_path / "long.wav"
    soundfile.write(sound, np.zeros(8 * RATE), RATE)
    warnings = _read(sound, video=talk)[1]
    assert any("ends 6." in one and "before the audio" in one for one in warnings), warnings
    wall = tmp_path / "wall.mp4"
    write_video(wall, np.full((25, 256, 256, 3), 120, np.uint8), np.zeros(RATE, np.float32))
    assert any("no mouth is seen in any of the frames of wall.mp4" in one for one in _read(wall)[1])
    assert not _read(wall, use_video=False)[1]
    assert _read(sound, face=1)[1] == ["face 1 was asked for, but there is no video"]


@pytest.mark.parametrize("name", ["2024-01-01T10:30:00.mp4", "http:x.mp4", "concat:a|b.mp4", "50%d.mp4"])
def test_names_that_look_like_addresses_are_files(
    name: str, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(talk, name)
    assert len(_read(Path(name))[0].audio) > RATE
    with open_clip(name) as reader:
        write_enhanced(reader, f"voice:{name}", (chunk.clip.audio for chunk in reader.chunks(0.4)))
    assert len(_read(Path(f"voice:{name}"))[0].audio) > RATE


def _enhanced(source: Path, target: Path) -> Path:
    with open_clip(source) as reader:
        write_enhanced(reader, target, (chunk.clip.audio for chunk in reader.chunks(0.4)))
    return target


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_transport_streams_and_films_in_other_containers(suffix: str, talk: Path, tmp_path: Path) -> None:
    """Of three recordings in one file every frame is copied, on one clock; AVI gets what it holds of MP4 and TS."""
    one = _copy(talk, tmp_path / "one.ts")
    (tmp_path / "three.ts").write_bytes(3 * one.read_bytes())
    for source, times in ((talk, 1), (tmp_path / "three.ts", 3)):
        out = _enhanced(source, tmp_path / f"{source.stem}.out{suffix}")
        with av.open(str(out)) as made, av.open(str(talk)) as given:
            frames = [frame.time for frame in made.decode(video=0)]
            assert len(frames) == times * sum(1 for _ in given.decode(video=0))
            assert made.streams.video[0].average_rate == pytest.approx(25, rel=0.1)
            # AVI has no times of display, so that of a reordered frame is that of its decoding.
            assert (suffix == ".avi" or np.all(np.diff(frames) > 0)) and max(frames) < times * 1.4 + 2
        with open_clip(out) as reader:
            [chunk] = reader.chunks()
        assert chunk.clip.valid.mean() > 0.9


@pytest.mark.parametrize("suffix", [".m3u8", ".mpd", ".png", ".webp", ".srt", ".xyz"])
def test_what_is_no_single_file_of_audio_is_refused(suffix: str, talk: Path, tmp_path: Path) -> None:
    with pytest.raises(AvseError, match="no kind of media file"):
        _enhanced(talk, tmp_path / f"out{suffix}")
    assert not list(tmp_path.iterdir())

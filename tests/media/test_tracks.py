"""Everything of a file but the audio track that is enhanced stays: other tracks, subtitles, chapters, tags, cover."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from avse.contracts.types import Estimate
from avse.errors import AvseError
from avse.media import ClipWriter, open_clip, read_clip
from avse.tracks import audio_tracks

RATE = 48_000
SUBTITLES = "1\n00:00:00,100 --> 00:00:00,400\nGood morning.\n\n2\n00:00:00,500 --> 00:00:00,900\nGood night.\n"


def film(path: Path, *, subtitles: bool = True, cover: bool = True) -> Path:
    """A second of film with music and speech on two tracks, and all that a container may hold beside them."""
    import av
    import cv2

    suffix, folder = path.suffix, path.parent
    (folder / "words.srt").write_text(SUBTITLES)
    cv2.imwrite(str(folder / "cover.png"), np.full((16, 16, 3), 200, np.uint8))
    words, front = (av.open(str(folder / name)) for name in ("words.srt", "cover.png"))
    with words, front, av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.thread_count = 1
        audio = []
        for language, title in (("eng", "music"), ("deu", "speech")):
            stream = container.add_stream("aac" if suffix == ".mp4" else "flac", rate=RATE, layout="stereo")
            stream.metadata.update({"language": language, "title": title})
            stream.disposition = av.stream.Disposition.default if title == "music" else av.stream.Disposition(0)
            audio.append(stream)
        text = front_stream = None
        if subtitles:
            text = container.add_stream_from_template(words.streams[0])
            text.metadata["language"] = "fra"
        if cover and suffix == ".mkv":
            container.add_attachment("cover.png", "image/png", (folder / "cover.png").read_bytes())
            container.add_attachment("font.ttf", "font/ttf", b"letters")
        elif cover:
            front_stream = container.add_stream_from_template(front.streams.video[0])
            front_stream.disposition = av.stream.Disposition.attached_pic
        container.metadata.update({"title": "A film", "comment": "Kept", "location": "+12.5000+012.0000/"})
        half = {"start": 500, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "second"}}
        container.set_chapters([{"id": 1, **half, "start": 0, "end": 500}, {"id": 2, **half}])
        container.start_encoding()
        if front_stream is not None:
            for packet in front.demux():
                if packet.size:
                    packet.stream = front_stream
                    container.mux(packet)
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        rng = np.random.default_rng(0)
        for stream, loud in zip(audio, (0.05, 0.2)):
            samples = loud * np.clip(rng.normal(0, 1, (2, RATE)), -3, 3).astype(np.float32)
            for at in range(0, RATE, 1000):
                block = np.ascontiguousarray(samples[:, at : at + 1000])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for packet in words.demux() if text is not None else ():
            if packet.size:
                packet.stream = text
                container.mux(packet)
    return path


def content(path: Path) -> dict[str, Any]:
    """What a file holds, by the kind and number of its streams."""
    import av

    with av.open(str(path)) as container:
        packets: dict[int, list[bytes]] = {stream.index: [] for stream in container.streams}
        for packet in container.demux([stream for stream in container.streams if stream.type != "attachment"]):
            packets[packet.stream.index] += [bytes(packet)] if packet.size else []
        streams = [
            (stream.type, stream.metadata.get("language"), stream.disposition, packets[stream.index])
            for stream in container.streams
        ]
        chapters = [
            (round(float(one["start"] * one["time_base"]), 3), one["metadata"].get("title"))
            for one in container.chapters()
        ]
        tags = {key.lower(): value for key, value in container.metadata.items()}
    return {"streams": streams, "chapters": chapters, "tags": tags}


def through(source: Path, output: Path, *, track: int = 1, **options: Any) -> list[str]:
    """Copy the film with silence in the place of a track; the warnings."""
    with open_clip(source, use_video=False, track=track) as reader, ClipWriter(output, reader, **options) as writer:
        for chunk in reader.chunks(0.36):
            writer.write(np.zeros((options.get("channels", 1), len(chunk.clip.audio))))
    return reader.info.warnings


@pytest.mark.parametrize("name", ["talk.mkv", "talk.mp4"])
def test_all_but_one_track_is_copied(name: str, tmp_path: Path) -> None:
    import av

    source = film(tmp_path / name, subtitles=name.endswith("mkv"))
    output = tmp_path / f"out{source.suffix}"
    assert through(source, output, channels=2) == []
    before, after = content(source), content(output)
    assert [one[:2] for one in after["streams"]] == [one[:2] for one in before["streams"]]
    default = av.stream.Disposition.default
    assert before["streams"][1][2] & default  # music, as players would choose
    for number, (one, other) in enumerate(zip(before["streams"], after["streams"])):
        flags = {1: one[2] & ~default, 2: one[2] | default}.get(number, one[2])
        assert other[2] == flags, number
    for number, (one, other) in enumerate(zip(before["streams"], after["streams"])):
        assert (one[3] == other[3]) == (number != 2), number
    assert after["chapters"] == before["chapters"] == [(0.0, "second"), (0.5, "second")]
    for key in ("title", "comment", "location"):
        assert after["tags"][key] == before["tags"][key]
    music, silence = (read_clip(output, use_video=False, track=track).audio for track in (0, 1))
    assert music.std() > 0.01 and silence.std() < 1e-4
    with open_clip(output, track=1) as reader:
        assert (reader.info.channels, reader.info.sample_rate, reader.info.tracks) == (2, RATE, 2)


@pytest.mark.parametrize("name", ["talk.mkv", "talk.mp4"])
def test_a_track_is_told_by_its_own_tags(name: str, tmp_path: Path) -> None:
    """Not by the title of the film."""
    import av
    import torch

    silence = lambda clips: [Estimate(*[torch.zeros(len(clip.audio))] * 3) for clip in clips]
    source = film(tmp_path / name, subtitles=False)
    found = audio_tracks(silence, source)
    with av.open(str(source)) as container:
        titles = [stream.metadata.get("title", "") for stream in container.streams.audio]
    assert [track.language for track in found] == ["eng", "deu"]
    assert [track.title for track in found] == titles != ["A film"] * 2


def test_what_cannot_be_copied_is_named(tmp_path: Path) -> None:
    source = film(tmp_path / "talk.mkv")
    told = " ".join(through(source, tmp_path / "out.mp4"))
    for lost in ("the subtitle (", "fra) cannot be copied into a .mp4 file", "the attachment"):
        assert lost in told
    told = " ".join(through(source, tmp_path / "out.ts"))
    assert "the chapters" in told and "tags that a .ts file does not keep: " in told and "title" in told


def test_tags_of_a_phone_are_kept(tmp_path: Path) -> None:
    import av

    tags = {"com.apple.quicktime.make": "Maker", "com.apple.quicktime.location.ISO6709": "+12.5+012.0/"}
    with av.open(str(tmp_path / "in.mov"), "w", options={"movflags": "use_metadata_tags"}) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        container.metadata.update(tags)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert through(tmp_path / "in.mov", tmp_path / "out.mov", track=0) == []
    kept = content(tmp_path / "out.mov")["tags"]
    assert all(kept[key.lower()] == value for key, value in tags.items())


def test_an_audio_file_keeps_tags_and_cover(tmp_path: Path) -> None:
    source = film(tmp_path / "talk.mp4", subtitles=False)
    for suffix in ("flac", "mp3", "m4a"):
        told = through(source, tmp_path / f"out.{suffix}")
        kept = content(tmp_path / f"out.{suffix}")
        assert kept["tags"]["title"] == "A film" and not any("cover" in one for one in told), (suffix, told)
        assert sorted({one[0] for one in kept["streams"]} - {"data"}) == ["audio", "video"]  # chapters of .m4a are data
        again = through(tmp_path / f"out.{suffix}", tmp_path / f"again.{suffix}", track=0)
        assert again == [] and content(tmp_path / f"again.{suffix}")["tags"]["title"] == "A film"
    through(source, tmp_path / "out.wav")
    assert content(tmp_path / "out.wav")["tags"]["title"] == "A film"


def test_a_track_that_is_not_there(tmp_path: Path) -> None:
    source = film(tmp_path / "talk.mkv", subtitles=False, cover=False)
    with pytest.raises(AvseError, match=r"talk\.mkv: has no audio track 2; its 2 count from 0"):
        read_clip(source, track=2)
    with pytest.raises(AvseError, match="count from 0"):
        read_clip(source, track=-1)


@pytest.mark.parametrize(("subtype", "peak"), [("PCM_16", 1.0), ("PCM_24", 1.0), ("FLOAT", 3.0)])
def test_a_wav_keeps_its_bits_and_says_what_is_clipped(subtype: str, peak: float, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((1000, 2)), RATE, subtype=subtype)
    with (
        open_clip(tmp_path / "in.wav") as reader,
        ClipWriter(tmp_path / "out.wav", reader, channels=2, given_rate=RATE) as writer,
    ):
        writer.write(np.full((2, 1000), 3.0))
        reader.skip()
    assert soundfile.info(tmp_path / "out.wav").subtype == subtype
    assert soundfile.read(tmp_path / "out.wav")[0].max() == pytest.approx(peak, abs=1e-4)
    said = [one for one in reader.info.warnings if "2000 samples above full scale" in one]
    assert bool(said) == (subtype != "FLOAT")


def test_one_clipped_sample_is_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(100), RATE)
    with open_clip(tmp_path / "in.wav") as reader, ClipWriter(tmp_path / "out.wav", reader, given_rate=RATE) as writer:
        writer.write(np.where(np.arange(100) == 50, 2.0, 0.0))
        reader.skip()
    assert "1 sample above full scale was clipped in out.wav" in reader.info.warnings[0]


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mkv", "mp4", "mp3"])
def test_channels_are_kept_or_refused(channels: int, suffix: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((4000, channels)), RATE)
    with open_clip(tmp_path / "in.wav") as reader:
        try:
            with ClipWriter(tmp_path / f"out.{suffix}", reader, channels=channels, given_rate=RATE) as writer:
                writer.write(np.zeros((channels, 4000)))
                reader.skip()
        except AvseError as error:
            assert suffix == "mp3" and channels > 2
            assert f"a .mp3 file does not hold {channels} channels. Write .mkv or .flac, or use --mono" in str(error)
            return
    with open_clip(tmp_path / f"out.{suffix}") as reader:
        assert reader.info.channels == channels

"""Any container, codec, rate, layout and clock; damaged files; what is no video."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse.errors import AvseError
from avse.media import open_clip, read_clip
from avse.media.decode import VideoSource

CONTAINERS = [
    ("talk.mp4", "h264", "aac", 48_000),
    ("talk.mov", "mpeg4", "pcm_s16le", 44_100),
    ("talk.mkv", "ffv1", "flac", 96_000),
    ("talk.webm", "libvpx", "libopus", 48_000),
    ("talk.avi", "mjpeg", "pcm_s16le", 8_000),
    ("talk.ts", "mpeg2video", "mp2", 44_100),
]


def tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def flat_frames(levels: Sequence[int], height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Pictures of one grey level each, which tells them apart after any codec."""
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def levels(path: Path, zero: float | None = None, count: int = 25) -> list[int | None]:
    """Mean grey of the pictures at 25 per second."""
    source = VideoSource(path)
    pictures = source.frames(source.zero if zero is None else zero)
    return [None if p is None else round(float(p.grey.mean())) for p, _ in zip(pictures, range(count))]


def frequency(audio: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 16))
    return float(spectrum.argmax() * 16_000 / (1 << 16))


@pytest.mark.parametrize(("name", "video_codec", "audio_codec", "rate"), CONTAINERS)
def test_containers_and_codecs(
    name: str, video_codec: str, audio_codec: str, rate: int, make_media: Callable[..., Path]
) -> None:
    path = make_media(
        name, tone(0.8, rate), rate, flat_frames(range(40, 240, 10)), audio_codec=audio_codec, video_codec=video_codec
    )
    with open_clip(path, roi="mouth") as reader:
        clip = next(reader.chunks()).clip
    assert reader.info.sample_rate == rate and reader.info.size == (64, 48)
    assert len(clip.audio) == pytest.approx(12_800, abs=1300)  # lossy codecs pad to whole packets
    assert frequency(clip.audio) == pytest.approx(440, abs=1)
    assert np.std(clip.audio[2000:10_000]) == pytest.approx(0.5 / np.sqrt(2), abs=0.02)
    shift = round(25 * (reader.info.video_start - reader.info.audio_start))
    shown = clip.mouth[max(shift, 0) :][:19, 20:60, 20:60].mean(axis=(1, 2))
    assert shown == pytest.approx(np.arange(40, 230, 10) - 10 * min(shift, 0), abs=6)
    assert reader.info.warnings == []


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000])
def test_sample_rates_keep_pitch_level_and_length(rate: int, tmp_path: Path) -> None:
    samples = tone(0.5, rate)
    soundfile.write(tmp_path / "tone.wav", samples, rate, subtype="FLOAT")
    clip = read_clip(tmp_path / "tone.wav")
    assert len(clip.audio) == round(len(samples) * 16_000 / rate) and not clip.valid.any()
    expected = tone(0.5, 16_000)[: len(clip.audio)]
    assert clip.audio[400:-400] == pytest.approx(expected[400:-400], abs=2e-3)


def test_resampling_does_not_fold_what_16_khz_cannot_hold(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "high.wav", tone(0.5, 48_000, 12_000.0), 48_000, subtype="FLOAT")
    assert np.abs(read_clip(tmp_path / "high.wav").audio[400:-400]).max() < 1e-3


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_channels_of_one_level_give_their_sum_at_that_level(channels: int, suffix: str, tmp_path: Path) -> None:
    sound = np.stack([tone(0.1, 16_000, 200.0 * (channel + 1)) for channel in range(channels)], axis=1)
    path = tmp_path / f"many.{suffix}"
    soundfile.write(path, sound, 16_000, subtype="PCM_24")
    with open_clip(path) as reader:
        audio = next(reader.chunks()).clip.audio
        layout = [channel.name for channel in reader._audio.stream.layout.channels]
    heard = [channel for channel in range(channels) if channels <= 2 or layout[channel] != "LFE"]
    assert reader.info.channels == channels
    assert audio == pytest.approx(sound[:, heard].sum(axis=1) / np.sqrt(len(heard)), abs=1e-4)


@pytest.mark.parametrize(
    ("subtype", "error"), [("PCM_U8", 1e-2), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-7), ("DOUBLE", 1e-7)]
)
def test_sample_formats_have_one_full_scale(subtype: str, error: float, tmp_path: Path) -> None:
    samples = tone(0.1, 16_000)
    soundfile.write(tmp_path / "tone.wav", samples, 16_000, subtype=subtype)
    assert read_clip(tmp_path / "tone.wav").audio == pytest.approx(samples, abs=error)


@pytest.mark.parametrize("fps", [5, 12.5, 24, 25, 30, 50, 60, 120])
def test_frame_rates(fps: float, make_media: Callable[..., Path]) -> None:
    count = round(fps)
    shades = np.linspace(40, 220, count).round().astype(int)
    path = make_media("talk.mkv", tone(1.0, 16_000), frames=flat_frames(shades), fps=fps, video_codec="mpeg4")
    stated = np.round(np.arange(count + 1) / fps, 3)  # Matroska counts milliseconds
    middle = (np.arange(25) + 0.5) / 25
    naive = [int(shades[min(int(np.sum(stated <= at + 1e-9)) - 1, count - 1)]) for at in middle]
    assert levels(path) == pytest.approx(naive, abs=4)


def test_variable_frame_rate_follows_the_time_stamps(make_media: Callable[..., Path]) -> None:
    times = [0.0, 0.03, 0.05, 0.15, 0.3, 0.32, 0.5, 0.7, 0.72, 0.9]
    shades = [40, 60, 80, 100, 120, 140, 160, 180, 200, 220]
    path = make_media("talk.mkv", tone(1.0, 16_000), frames=flat_frames(shades), times=times)
    naive = [max((t, s) for t, s in zip(times, shades) if t <= (n + 0.5) / 25)[1] for n in range(24)]
    assert levels(path)[:24] == pytest.approx(naive, abs=4)


def test_a_picture_that_stands_too_long_is_missing(make_media: Callable[..., Path]) -> None:
    path = make_media("talk.mkv", tone(2.0, 16_000), frames=flat_frames([50, 100, 150]), times=[0.0, 0.04, 1.5])
    shown = levels(path, count=50)
    assert shown[1] is not None and all(level is None for level in shown[10:37]) and shown[38] is not None


@pytest.mark.parametrize("audio_start", [0.0, 0.4])
def test_sound_that_starts_later_than_the_pictures(audio_start: float, make_media: Callable[..., Path]) -> None:
    shades = range(40, 240, 10)
    path = make_media("talk.mkv", tone(0.4, 16_000), frames=flat_frames(shades), audio_start=audio_start)
    clip = read_clip(path, roi="mouth")
    first = shades[round(audio_start * 25)]
    assert clip.valid.all() and len(clip.valid) == 10
    assert clip.mouth[:, 40, 40] == pytest.approx(np.arange(first, first + 100, 10), abs=6)


def test_pictures_that_start_later_and_end_earlier_than_the_sound(make_media: Callable[..., Path]) -> None:
    path = make_media(
        "talk.mkv", tone(2.0, 16_000), frames=flat_frames([100] * 20), times=[0.4 + n / 25 for n in range(20)]
    )
    valid = read_clip(path, roi="mouth").valid
    assert not valid[:10].any() and valid[10:30].all() and not valid[31:].any() and len(valid) == 50


@pytest.mark.parametrize(("degrees", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_rotation_by_metadata(degrees: int, matrix: tuple[int, ...], make_media: Callable[..., Path]) -> None:
    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:, :16] = 220  # the left edge as stored
    path = make_media("talk.mp4", tone(0.2, 16_000), frames=[picture] * 5, video_codec="h264", audio_codec="aac")
    content = bytearray(path.read_bytes())
    header = next(at for at in _boxes(content, b"tkhd") if struct.unpack_from(">I", content, at + 76)[0])
    for place, value in zip((0, 1, 3, 4), matrix):
        struct.pack_into(">i", content, header + 40 + 4 * place, value << 16)
    path.write_bytes(content)
    source = VideoSource(path)
    grey = next(source.frames(source.zero)).grey
    assert source.rotation == degrees
    edge = {90: grey[:12], 180: grey[:, -12:], 270: grey[-12:]}[degrees]
    assert grey.shape == ((48, 64) if degrees == 180 else (64, 48))
    assert edge.mean() > 200 and grey.mean() < 100


def _boxes(content: bytes, name: bytes) -> list[int]:
    """Where the contents of boxes of one name begin."""
    found, at = [], content.find(name)
    while at >= 0:
        found.append(at + 4)
        at = content.find(name, at + 4)
    return found


def test_large_pictures_are_reduced_and_colour_is_full_range(make_media: Callable[..., Path]) -> None:
    picture = np.zeros((2160, 3840, 3), np.uint8)
    picture[:, 1920:] = 255
    path = make_media("large.mkv", tone(0.04, 16_000), frames=[picture], video_codec="mjpeg")
    shown = next(VideoSource(path).frames(0.0))
    assert shown.grey.shape == (1080, 1920) and shown.scale == 0.5
    assert shown.rgb(640).shape == (360, 640, 3)
    assert shown.grey[:, :900].max() < 8 and shown.grey[:, 1000:].min() > 247


def test_separate_video(make_media: Callable[..., Path], tmp_path: Path) -> None:
    film = make_media("silent.mp4", frames=flat_frames(range(40, 240, 10)))
    soundfile.write(tmp_path / "voice.wav", tone(0.8, 16_000), 16_000)
    clip = read_clip(tmp_path / "voice.wav", video=film, roi="mouth")
    assert clip.valid.all() and clip.mouth[:, 40, 40] == pytest.approx(np.arange(40, 240, 10), abs=6)
    assert not read_clip(tmp_path / "voice.wav", video=film, roi="mouth", use_video=False).valid.any()
    with pytest.raises(AvseError, match=r"voice\.wav: has no video"):
        read_clip(tmp_path / "voice.wav", video=tmp_path / "voice.wav")
    with pytest.raises(AvseError, match=r"silent\.mp4: has no audio.*--video silent\.mp4"):
        read_clip(film)


def test_cover_art_and_stills_are_no_video(make_media: Callable[..., Path], tmp_path: Path) -> None:
    import av
    import cv2

    plain = make_media("plain.m4a", tone(0.2, 44_100), 44_100, audio_codec="aac")
    art = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    covered = tmp_path / "covered.mp4"
    with av.open(str(plain)) as source, av.open(str(covered), "w") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        cover = target.add_stream("png", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        target.start_encoding()
        picture = av.Packet(art)
        picture.stream = cover
        target.mux(picture)
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
    with av.open(str(covered)) as made:
        assert len(made.streams.video) == 1
    with open_clip(covered) as reader:
        assert reader.info.video_path is None
    (tmp_path / "still.png").write_bytes(art)
    with pytest.raises(AvseError, match="has no video"):
        read_clip(plain, video=tmp_path / "still.png")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_become_silence(value: float, tmp_path: Path) -> None:
    samples = np.full(1000, 0.25, np.float32)
    samples[10:20] = value
    soundfile.write(tmp_path / "broken.wav", samples, 16_000, subtype="FLOAT")
    with open_clip(tmp_path / "broken.wav") as reader:
        audio = next(reader.chunks()).clip.audio
    assert not audio[10:20].any() and (audio[20:] == 0.25).all()
    assert any("not finite" in warning for warning in reader.info.warnings)


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000, 192_000])
def test_one_sample(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.full(1, 0.5), rate)
    clip = read_clip(tmp_path / "one.wav")
    assert len(clip.audio) == (2 if rate == 8000 else 1) and clip.valid.shape == (1,)


def test_files_that_cannot_be_read(make_media: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    whole = make_media("talk.mp4", tone(0.5, 44_100), 44_100, flat_frames([90] * 12), audio_codec="aac")
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 16_000)
    (tmp_path / "folder.mp4").mkdir()
    for name, words in {
        "empty.mp4": r"empty \(0 bytes\)",
        "text.mp4": "not an audio or video file",
        "cut.mp4": "cut short",
        "nothing.wav": "audio is empty",
        "folder.mp4": "is a folder",
        "missing.mp4": "no such file",
    }.items():
        with pytest.raises(AvseError, match=words) as caught:
            read_clip(tmp_path / name)
        assert name in str(caught.value)


def test_damaged_in_the_middle_gives_the_rest(make_media: Callable[..., Path]) -> None:
    """Sound stays on its clock: what is missing becomes silence, with a warning."""
    path = make_media(
        "talk.ts", tone(4.0, 44_100), 44_100, flat_frames([90] * 100), audio_codec="mp2", video_codec="mpeg2video"
    )
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = np.random.default_rng(0).bytes(third)
    path.write_bytes(content)
    with open_clip(path, roi="mouth") as reader:
        clip = next(reader.chunks()).clip
    assert 3.5 < len(clip.audio) / 16_000 < 4.2
    assert reader.info.warnings
    assert np.abs(clip.audio[:8000]).max() > 0.4 and np.abs(clip.audio[-8000:]).max() > 0.4


def test_truncated_sound_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "voice.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000)
    content = (tmp_path / "voice.flac").read_bytes()
    (tmp_path / "voice.flac").write_bytes(content[: len(content) // 2])
    assert 12_000 < len(read_clip(tmp_path / "voice.flac").audio) < 20_000


def test_a_film_cut_short_behind_its_index_gives_what_is_there(make_media: Callable[..., Path]) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 44_100)
    path = make_media("talk.mp4", noise, 44_100, flat_frames([90] * 75), audio_codec="aac", faststart=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with open_clip(path, roi="mouth") as reader:
        clip = next(reader.chunks()).clip
    assert 1.0 < len(clip.audio) / 16_000 < 2.5 and clip.valid[:20].all()
    assert any("the audio ends at" in warning for warning in reader.info.warnings)

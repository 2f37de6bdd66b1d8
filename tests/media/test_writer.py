"""The video is copied untouched, the sound keeps its rate, start and length; nothing half-written is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse.errors import AvseError
from avse.media import ClipWriter, open_clip, write_enhanced


def flat_frames(count: int) -> list[np.ndarray]:
    return [np.full((48, 64, 3), 40 + 5 * (n % 40), np.uint8) for n in range(count)]


def noise(seconds: float, rate: int) -> np.ndarray:
    """Noise below 3 kHz, which every rate and codec here keeps."""
    from scipy.signal import firwin, lfilter

    samples = np.random.default_rng(0).standard_normal(round(seconds * rate))
    return np.clip(0.2 * lfilter(firwin(201, 3000, fs=rate), 1, samples) * np.sqrt(rate / 6000), -0.9, 0.9)


def copy(source: Path, output: Path, **options: object) -> None:
    """Through reader and writer in uneven blocks."""
    with open_clip(source, roi="mouth", **options) as reader:
        write_enhanced(reader, output, (chunk.clip.audio for chunk in reader.chunks(0.36)))


def packets(path: Path) -> list[bytes]:
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def times(path: Path) -> list[float]:
    """When each picture is shown, after the first."""
    import av

    with av.open(str(path)) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    return [time - shown[0] for time in shown]


def sound(path: Path) -> tuple[np.ndarray, int, float]:
    """Decoded samples, their rate, and the time of the first."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([f.to_ndarray().astype(float).mean(axis=0) for f in frames]), frames[0].rate, frames[0].time


def delay(one: np.ndarray, other: np.ndarray) -> int:
    """Samples by which the second lags behind the first."""
    size = min(len(one), len(other))
    spectrum = np.fft.rfft(other[:size], 2 * size) * np.fft.rfft(one[:size], 2 * size).conj()
    lag = int(np.fft.irfft(spectrum).argmax())
    return lag if lag < size else lag - 2 * size


@pytest.mark.parametrize(
    ("name", "rate", "video_codec", "audio_codec", "output"),
    [
        ("talk.mp4", 44_100, "h264", "aac", "voice.mp4"),
        ("talk.mp4", 48_000, "h264", "aac", "voice.mkv"),
        ("talk.mov", 48_000, "mpeg4", "pcm_s16le", "voice.mov"),
        ("talk.mkv", 22_050, "h264", "flac", "voice.mkv"),
        ("talk.webm", 48_000, "libvpx", "libopus", "voice.webm"),
        ("talk.avi", 8_000, "mjpeg", "pcm_s16le", "voice.avi"),
        ("talk.ts", 44_100, "mpeg2video", "mp2", "voice.ts"),
    ],
)
def test_video_is_copied_and_sound_stays_in_time(
    name: str, rate: int, video_codec: str, audio_codec: str, output: str, make_media: Callable, tmp_path: Path
) -> None:
    source = make_media(name, noise(1.2, rate), rate, flat_frames(30), video_codec=video_codec, audio_codec=audio_codec)
    target = tmp_path / output
    copy(source, target)
    assert packets(target) == packets(source)
    assert times(target) == pytest.approx(times(source), abs=2e-3)
    (before, _, start), (after, after_rate, after_start) = sound(source), sound(target)
    assert after_rate == rate
    if output.endswith(("mkv", "avi")):
        assert len(after) == len(before)
    else:
        assert -10 <= len(after) - len(before) <= 2400  # whole packets
    with open_clip(source) as one, open_clip(target) as other:
        apart = (one.info.video_start - start) - (other.info.video_start - after_start)
    assert abs(delay(before, after) / rate + apart) < 1.5 / rate + 0.002 * target.suffix.endswith(("mkv", "webm"))


@pytest.mark.parametrize("output", ["voice.mp4", "voice.mkv"])
@pytest.mark.parametrize("start", [0.2, 0.52])
def test_sound_that_starts_later(start: float, output: str, make_media: Callable, tmp_path: Path) -> None:
    source = make_media("talk.mkv", noise(0.8, 16_000), 16_000, flat_frames(40), video_codec="h264", audio_start=start)
    copy(source, tmp_path / output)
    with open_clip(tmp_path / output) as reader:
        heard = reader.info.audio_start - reader.info.video_start
    heard += delay(sound(source)[0], sound(tmp_path / output)[0]) / 16_000  # AAC begins with silence, and earlier
    assert heard == pytest.approx(start, abs=0.002)
    assert packets(tmp_path / output) == packets(source) and len(packets(source)) == 40
    assert times(tmp_path / output) == pytest.approx(times(source), abs=2e-3)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_sound_alone_has_the_rate_and_the_samples_of_the_input(rate: int, suffix: str, tmp_path: Path) -> None:
    for count in (1, 7, rate // 3 + 5):
        original = noise(count / rate, rate)
        soundfile.write(tmp_path / "in.wav", np.stack([original, original], axis=1), rate, subtype="FLOAT")
        copy(tmp_path / "in.wav", tmp_path / f"out.{suffix}")
        written, written_rate = soundfile.read(tmp_path / f"out.{suffix}")
        assert written_rate == rate and written.shape == (count,)
        if count > 1000 and rate > 8000:
            assert written[200:-200] == pytest.approx(original[200:-200], abs=3e-3)


def test_two_of_the_three_lossy_sound_formats_know_few_rates(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(0.5, 44_100), 44_100)
    for suffix, rate in (("ogg", 44_100), ("opus", 48_000), ("mp3", 44_100)):
        copy(tmp_path / "in.wav", tmp_path / f"out.{suffix}")
        info = soundfile.info(tmp_path / f"out.{suffix}")
        assert info.samplerate == rate and info.duration == pytest.approx(0.5, abs=0.06)


def test_a_paired_video_is_the_one_that_is_copied(make_media: Callable, tmp_path: Path) -> None:
    film = make_media("silent.mp4", frames=flat_frames(25), video_codec="h264")
    soundfile.write(tmp_path / "voice.wav", noise(1.0, 32_000), 32_000)
    copy(tmp_path / "voice.wav", tmp_path / "out.mp4", video=film)
    assert packets(tmp_path / "out.mp4") == packets(film)
    assert sound(tmp_path / "out.mp4")[1] == 32_000


def test_the_video_is_copied_even_if_it_was_not_used(make_media: Callable, tmp_path: Path) -> None:
    film = make_media("talk.mp4", noise(1.0, 48_000), 48_000, flat_frames(25), audio_codec="aac")
    copy(film, tmp_path / "out.mp4", use_video=False)
    assert packets(tmp_path / "out.mp4") == packets(film)


@pytest.mark.parametrize("level", [1.0, 0.03])
def test_aac_keeps_speech_in_two_equal_channels(level: float, tmp_path: Path) -> None:
    """The defaults of FFmpeg reach 54 and 43 dB, and 39 and 40 dB without mid/side coding."""
    at = np.arange(2 * 48_000) / 48_000
    voice = sum(np.sin(2 * np.pi * 110 * n * at + n**2) / n for n in range(1, 60)) * np.sin(np.pi * 2 * at) ** 2
    stereo = np.tile((0.25 * level * voice).astype(np.float32), (2, 1))
    soundfile.write(tmp_path / "in.wav", stereo.T, 48_000, subtype="FLOAT")
    with open_clip(tmp_path / "in.wav") as reader:
        write_enhanced(reader, tmp_path / "out.m4a", [stereo], channels=2, given_rate=48_000)
    written = sound(tmp_path / "out.m4a")[0]
    lag = delay(stereo[0], written)
    assert lag >= 0
    size = min(len(written) - lag, stereo.shape[1])
    error = written[lag : lag + size] - stereo[0, :size]
    assert 10 * np.log10(np.square(stereo[0, :size]).sum() / np.square(error).sum()) > 45


def turned(film: Path) -> Path:
    """The film with the matrix of a phone that was held upright: a quarter turn, clockwise."""
    import struct

    content = bytearray(film.read_bytes())
    header = content.find(b"tkhd") + 4
    for place, value in zip((0, 1, 3, 4), (0, 1, -1, 0)):
        struct.pack_into(">i", content, header + 40 + 4 * place, value << 16)
    film.write_bytes(content)
    return film


def test_rotation_survives(make_media: Callable, tmp_path: Path) -> None:
    made = make_media("talk.mp4", noise(0.2, 16_000), frames=flat_frames(5), video_codec="h264", audio_codec="aac")
    film = turned(made)
    copy(film, tmp_path / "out.mp4")
    with open_clip(film) as before, open_clip(tmp_path / "out.mp4") as after:
        assert before.info.rotation == after.info.rotation == 90


@pytest.mark.parametrize("suffix", ["ogv", "webm"])
def test_a_film_that_a_format_cannot_hold_is_encoded_anew(suffix: str, make_media: Callable, tmp_path: Path) -> None:
    """Upright, in time, and with a warning; what it can hold is copied."""
    import av

    frames = flat_frames(30)
    for frame in frames:
        frame[:24] //= 2  # the upper half is darker
    film = make_media("talk.mp4", noise(1.2, 48_000), 48_000, frames, video_codec="h264", audio_codec="aac")
    shown = times(film)
    target, again = tmp_path / f"out.{suffix}", tmp_path / f"again.{suffix}"
    for is_turned in (False, True):
        film = turned(film) if is_turned else film
        with open_clip(film, roi="mouth") as reader:
            write_enhanced(reader, target, (chunk.clip.audio for chunk in reader.chunks(0.36)))
        assert any("encoded anew as" in one and "cannot hold h264" in one for one in reader.info.warnings), reader.info
        with av.open(str(target)) as container:
            pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        assert len(pictures) == 30 and times(target) == pytest.approx(shown, abs=2e-3)
        for number in (0, 15, 29):
            expected = np.rot90(frames[number], -1) if is_turned else frames[number]
            assert pictures[number].shape == expected.shape
            assert np.abs(pictures[number] - expected).mean() < 6
    copy(target, again)
    assert packets(again) == packets(target)
    (before, *_), (after, rate, _) = sound(film), sound(target)
    assert rate == 48_000 and abs(delay(before, after)) < 0.003 * rate


def test_too_loud_speech_is_clipped_and_too_short_speech_is_filled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(1000), 16_000)
    with open_clip(tmp_path / "in.wav") as reader:
        write_enhanced(reader, tmp_path / "out.wav", [np.full(500, 3.0), np.full(100, -3.0)])
    written = soundfile.read(tmp_path / "out.wav")[0]
    assert len(written) == 1000 and (written[:500] > 0.999).all() and (written[500:600] == -1).all()
    assert not written[600:].any()


def test_a_container_that_cannot_hold_the_video(make_media: Callable, tmp_path: Path) -> None:
    film = make_media("talk.mp4", noise(0.2, 48_000), 48_000, flat_frames(5), video_codec="mjpeg", audio_codec="aac")
    with pytest.raises(AvseError, match=r"cannot hold the video of talk\.mp4 \(mjpeg\).*Write out\.mkv instead"):
        copy(film, tmp_path / "out.flv")
    with pytest.raises(AvseError, match=r"no kind of media file, .* Use \.mp4"):
        copy(film, tmp_path / "out.xyz")
    with pytest.raises(AvseError, match="is the input itself"):
        copy(film, tmp_path / "talk.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mp4"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "wav", "flac"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, AvseError])
def test_an_interruption_leaves_nothing(
    suffix: str, error: type[BaseException], make_media: Callable, tmp_path: Path
) -> None:
    film = make_media("talk.mkv", noise(1.0, 48_000), 48_000, flat_frames(25))
    (tmp_path / f"out.{suffix}").write_bytes(b"from yesterday")
    with pytest.raises(error), open_clip(film) as reader, ClipWriter(tmp_path / f"out.{suffix}", reader) as writer:
        writer.write(np.zeros(8000))
        raise error("stop")
    assert (tmp_path / f"out.{suffix}").read_bytes() == b"from yesterday"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "wav", "flac", "ogg"])
@pytest.mark.parametrize("room", [100, 20_000])
def test_a_full_disk_leaves_nothing(suffix: str, room: int, make_media: Callable, tmp_path: Path) -> None:
    """A limit on file sizes is met as a full disk is: by a write that fails."""
    import resource

    film = make_media("talk.mkv", noise(4.0, 48_000), 48_000, flat_frames(100))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        with pytest.raises(AvseError, match=rf"out\.{suffix}: writing failed"):
            copy(film, tmp_path / f"out.{suffix}", use_video=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mkv"]

"""Chunks are the file: same sound, same crops, exact bookkeeping."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse.contracts.mouth_tracker import Face, MouthTracker
from avse.errors import AvseError
from avse.media import open_clip, read_clip
from avse.media.reader import parse_face


@pytest.fixture
def film(make_media: Callable[..., Path]) -> Path:
    """Four seconds of a bright square that moves, leaves, and comes back, with noise at 44.1 kHz."""
    frames = []
    for n in range(100):
        picture = np.full((96, 160, 3), 20, np.uint8)
        if not 40 <= n < 60:
            picture[30:70, 20 + n // 2 : 60 + n // 2] = 180 + n // 4
        frames.append(picture)
    rng = np.random.default_rng(0)
    return make_media("film.mkv", rng.uniform(-0.5, 0.5, 4 * 44_100), 44_100, frames, video_codec="ffv1")


@pytest.mark.parametrize(("seconds", "overlap"), [(0.4, 0.0), (1.0, 0.48), (1.52, 0.2), (3.96, 0.04), (2.0, 0.0)])
def test_chunks_tile_the_clip(seconds: float, overlap: float, film: Path, squares: MouthTracker) -> None:
    whole = read_clip(film, tracker=squares)
    assert 50 < whole.valid.sum() < 80
    with open_clip(film, tracker=squares) as reader:
        chunks = list(reader.chunks(seconds, overlap))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    end = 0
    for chunk in chunks:
        size = len(chunk.clip.audio)
        assert chunk.start == (0 if chunk.index == 0 else end - round(overlap * 16_000))
        assert chunk.overlap == end - chunk.start and chunk.start % 640 == 0
        assert size == round(seconds * 16_000) or chunk.is_last and size > chunk.overlap
        frames = slice(chunk.start // 640, chunk.start // 640 + len(chunk.clip.valid))
        np.testing.assert_array_equal(chunk.clip.audio, whole.audio[chunk.start : chunk.start + size])
        np.testing.assert_array_equal(chunk.clip.mouth, whole.mouth[frames])
        np.testing.assert_array_equal(chunk.clip.valid, whole.valid[frames])
        end = chunk.start + size
    assert end == len(whole.audio) and reader.samples == 4 * 44_100


@pytest.mark.parametrize("seconds", [4.0, 4.04, 60.0, None])
def test_one_chunk_is_the_clip(seconds: float | None, film: Path, squares: MouthTracker) -> None:
    whole = read_clip(film, tracker=squares)
    with open_clip(film, tracker=squares) as reader:
        [chunk] = reader.chunks(seconds, 0.2)
    assert chunk.is_last and chunk.start == chunk.overlap == 0 and chunk.clip.clip_id == "film"
    np.testing.assert_array_equal(chunk.clip.audio, whole.audio)
    np.testing.assert_array_equal(chunk.clip.mouth, whole.mouth)
    np.testing.assert_array_equal(chunk.clip.valid, whole.valid)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    import tracemalloc

    with soundfile.SoundFile(tmp_path / "long.flac", "w", 8000, 1) as file:
        for _ in range(5):
            file.write(np.zeros(8000 * 60))
    tracemalloc.start()
    with open_clip(tmp_path / "long.flac") as reader:
        samples = sum(len(chunk.clip.audio) - chunk.overlap for chunk in reader.chunks(4.0, 1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples == 5 * 60 * 16_000
    assert peak < 9e6  # five minutes are 19 MB of samples and 58 MB of crops


def test_what_is_known_of_a_file(film: Path, tmp_path: Path) -> None:
    with open_clip(film) as reader:
        info = reader.info
    assert (info.path, info.video_path, info.sample_rate, info.channels) == (film, film, 44_100, 1)
    assert info.duration == pytest.approx(4.0, abs=0.05)
    assert (info.fps, info.size, info.rotation) == (25, (160, 96), 0)
    soundfile.write(tmp_path / "voice.wav", np.zeros((800, 2)), 8000)
    with open_clip(tmp_path / "voice.wav") as reader:
        assert (reader.info.video_path, reader.info.channels, reader.info.duration) == (None, 2, 0.1)


def test_a_reader_reads_once_and_says_no_to_nonsense(film: Path) -> None:
    with open_clip(film, use_video=False) as reader:
        list(reader.chunks())
        with pytest.raises(AvseError, match="already read"):
            next(reader.chunks())
    with open_clip(film, use_video=False) as reader, pytest.raises(ValueError, match="overlap_seconds"):
        next(reader.chunks(1.0, 1.0))
    with pytest.raises(AvseError, match="roi 'lips': must be auto, face, or mouth"):
        open_clip(film, roi="lips")


@pytest.mark.parametrize("face", ["left", "-1", "1.5", "1,2,3", "1,2,0,4", "nan,0,1,1", -1, (1.0, 2.0)])
def test_faces_that_make_no_sense(face: object) -> None:
    with pytest.raises(AvseError, match="must be largest, an index"):
        parse_face(face)


def test_a_face_asked_for_in_vain_names_the_file(film: Path, squares: MouthTracker) -> None:
    with pytest.raises(AvseError, match=r"film\.mkv: face 1 does not appear: at most 1 face .*first at 0\.00 s"):
        read_clip(film, tracker=squares, face=1)


def test_memory_does_not_grow_with_the_video(make_media: Callable[..., Path], squares: MouthTracker) -> None:
    import tracemalloc

    face = np.zeros((120, 160, 3), np.uint8)
    face[40:90, 60:110] = 200
    peaks = []
    for count in (400, 1200):
        film = make_media(f"{count}.mp4", np.zeros(count * 640), frames=[face] * count, audio_codec="aac")
        tracemalloc.start()
        with open_clip(film, tracker=squares) as reader:
            assert all(chunk.clip.valid.all() for chunk in reader.chunks(2.0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A thread is up to 250 crops ahead, or none; 800 more frames have 6.2 MB of crops.
    assert peaks[1] < peaks[0] + 1.3 * 250 * 88 * 88


def test_a_reader_that_is_closed_early_ends_its_thread(make_media: Callable[..., Path], squares: MouthTracker) -> None:
    film = make_media("film.mp4", np.zeros(16_000), frames=[np.zeros((120, 160, 3), np.uint8)] * 25, audio_codec="aac")
    before = threading.active_count()
    with open_clip(film, tracker=squares) as reader:
        next(reader.chunks(0.2))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_an_error_of_a_tracker_comes_where_the_clip_is_read(make_media: Callable[..., Path]) -> None:
    class Broken(MouthTracker):
        def detect(self, frame: np.ndarray, min_size: float = 0.0) -> list[Face]:
            raise KeyError("broken")

    film = make_media("film.mp4", np.zeros(16_000), frames=[np.zeros((120, 160, 3), np.uint8)] * 25, audio_codec="aac")
    with pytest.raises(KeyError, match="broken"):
        read_clip(film, tracker=Broken())

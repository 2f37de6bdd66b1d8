"""Clean speech for priors: levels, what an item depends on, and short clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from avse.data.cache import ClipCache
from avse.data.manifest import Utterance
from avse.data.speech_set import Pool, SpeechSet
from avse.errors import AvseError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Utterance], ClipCache]:
    """Two clips of one speaker with a face, 0.5 s each, a voice of 2 s without one, and a noise."""
    folder = tmp_path_factory.mktemp("tones")
    cache = ClipCache(folder / "cache")
    utterances = []
    for name, hertz, seconds in (("face1", 300, 0.5), ("face2", 700, 0.5), ("voice", 1500, 2.0), ("noise", 3000, 2.0)):
        path = folder / f"{name}.wav"
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(16000 * seconds)) / 16000), 16000)
        if name == "noise":
            utterances.append(Utterance(name, noise=path, kind="noise"))
            continue
        video = folder / f"{name}.mp4" if name.startswith("face") else None
        utterances.append(Utterance(name, clean=path, video=video, speaker=name.rstrip("12")))
        if video is not None:
            video.write_text(video.name)
            target = cache._path(video, cache._crops)
            target.parent.mkdir(parents=True, exist_ok=True)
            np.savez(target, mouth=np.full((13, 88, 88), hertz % 251, np.uint8), valid=np.ones(13, bool))
    return utterances, cache


def test_items_are_clean_speech_at_levels_in_range_with_its_mouth(corpus) -> None:
    speech = SpeechSet(*corpus, size=24, seconds=0.4, video_share=0.5)
    levels, faces = [], 0
    for index in range(24):
        clip = speech[index].clip
        assert len(clip.audio) == 6400
        levels.append(20 * np.log10(np.sqrt(np.mean(clip.audio**2))))
        hertz = 2.5 * np.abs(np.fft.rfft(clip.audio)).argmax()
        face = abs(hertz - 1500) > 100
        assert bool(clip.valid.all()) is bool(clip.valid.any()) is bool(face)
        faces += bool(face)
    assert -35.1 < min(levels) < -30 and -20 < max(levels) < -14.9
    assert 4 < faces < 20


def test_an_item_depends_on_seed_epoch_and_index_alone(corpus) -> None:
    one, other = SpeechSet(*corpus, size=9, seed=5), SpeechSet(*corpus, size=30, seed=5)
    other[0], other[4]
    assert np.array_equal(one[7].clean, other[7].clean)
    other.set_epoch(1)
    assert not np.array_equal(one[7].clean, other[7].clean)


def test_a_short_clip_is_continued_by_its_speaker_sound_and_mouth_together(corpus) -> None:
    speech = SpeechSet(*corpus, size=4, seconds=1.4, video_share=1.0)
    clip = speech[0].clip
    assert clip.valid.sum() >= 30
    for half in np.split(clip.audio[: 2 * 8000], 2):
        assert np.sqrt(np.mean(half**2)) > 0.005


def test_a_batch_holds_the_same_sound_as_noisy_and_clean(corpus) -> None:
    speech = SpeechSet(*corpus, size=4, use_video=False)
    batch = speech.collate([speech[0], speech[1]])
    assert np.array_equal(batch.noisy, batch.clean) and not bool(batch.valid.any())
    assert [one.id for one in speech.utterances] == ["face1", "face2", "voice"]


def test_a_manifest_without_clean_speech_is_refused(corpus) -> None:
    with pytest.raises(AvseError, match="no clean speech"):
        SpeechSet([one for one in corpus[0] if one.kind == "noise"], corpus[1], size=1)


def test_clips_kept_in_memory_are_those_of_the_folder(corpus) -> None:
    utterances, cache = corpus
    in_memory = ClipCache(cache.folder, in_memory=True)
    in_memory.fill(utterances, progress=False)
    sets = [SpeechSet(utterances, source, size=6, seconds=0.4, video_share=0.5) for source in (cache, in_memory)]
    for index in range(6):
        mapped, held = (speech_set[index].clip for speech_set in sets)
        assert np.array_equal(mapped.audio, held.audio)
        assert np.array_equal(mapped.mouth, held.mouth)


def test_speakers_and_corpora_are_drawn_as_often_as_asked(corpus) -> None:
    utterances, _ = corpus
    speech = [replace(u, dataset=u.speaker, duration=1.0) for u in utterances[:3]]  # face1, face2, voice
    assert np.allclose(Pool(speech).shares, 1 / 3)
    assert np.allclose(Pool(speech, balance=1.0).shares, [0.25, 0.25, 0.5])
    assert np.allclose(Pool(speech, {"voice": 3.0}, balance=1.0).shares, [0.125, 0.125, 0.75])

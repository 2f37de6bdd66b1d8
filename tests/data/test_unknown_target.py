"""Training mixtures whose wanted speaker is silent, or is told by nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from avse.data.audio import write_audio
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance
from avse.data.separation_set import SeparationSet
from avse.data.training_set import MixtureSet, VideoDegradation

FRAMES = 40


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Utterance], ClipCache]:
    """Four speakers with a video who are silent in its last third, where the mouth is dark; and a noise."""
    folder = tmp_path_factory.mktemp("corpus")
    cache, rng, rows = ClipCache(folder / "cache"), np.random.default_rng(1), []
    for speaker in "abcd":
        path, video = folder / f"{speaker}.wav", folder / f"{speaker}.mp4"
        audio = 0.1 * rng.standard_normal(FRAMES * 640)
        audio[27 * 640 :] = 0.0
        write_audio(path, audio)
        video.write_text(speaker)
        target = cache._path(video, cache._crops)
        target.parent.mkdir(parents=True, exist_ok=True)
        mouth = np.full((FRAMES, 88, 88), 200, dtype=np.uint8)
        mouth[28:] = 10
        np.savez(target, mouth=mouth, valid=np.ones(FRAMES, dtype=bool))
        rows.append(Utterance(speaker, clean=path, video=video, speaker=speaker, dataset="toy", duration=1.6))
    path = folder / "noise.wav"
    write_audio(path, 0.1 * rng.standard_normal(30000))
    return [*rows, Utterance("noise", noise=path, kind="noise", recording="n")], cache


def mixtures(corpus: tuple[list[Utterance], ClipCache], **options: Any) -> list[Any]:
    options = {"conditions": {"babble": 1.0}, "interfering_speakers": [1.0], "snr": (-5, 5), "seconds": 1.0} | options
    made = MixtureSet(*corpus, size=12, video_share=1.0, seed=2, **options)
    return [made[index] for index in range(12)]


def test_a_silent_speaker_is_seen_at_rest_and_has_no_speech(corpus: tuple[list[Utterance], ClipCache]) -> None:
    for item in mixtures(corpus, silent_share=1.0, degradation=None):
        assert not item.clean.any()
        np.testing.assert_array_equal(item.clip.audio, item.noise)
        assert np.square(item.clip.audio).mean() > 0
        assert item.clip.mouth.max() == 10
        assert item.clip.video_is_clean.all()


def test_share_of_silent_speakers(corpus: tuple[list[Utterance], ClipCache]) -> None:
    silent = [not item.clean.any() for item in mixtures(corpus, silent_share=0.5)]
    assert 2 <= sum(silent) <= 10


@pytest.mark.parametrize("beside", [0.0, 1.0])
def test_all_speech_is_kept_where_nothing_tells_the_speaker(
    corpus: tuple[list[Utterance], ClipCache], beside: float
) -> None:
    unseen = VideoDegradation(drop_clip=1.0)
    options = {"all_speech_below": 6.0, "noise_beside": beside, "degradation": unseen}
    plain = mixtures(corpus, degradation=unseen, noise_beside=beside)
    for item, wanted in zip(mixtures(corpus, **options), plain):
        np.testing.assert_array_equal(item.clip.audio, wanted.clip.audio)
        np.testing.assert_allclose(item.clean + item.noise, item.clip.audio, atol=1e-6)
        others = item.clean - wanted.clean
        assert np.square(others).mean() > 0.1 * np.square(wanted.clean).mean()
        left = np.square(item.noise).mean() / np.square(others).mean()
        assert left < 1e-9 if beside == 0 else 0.005 < left < 2


def test_a_speaker_who_is_much_louder_or_seen_is_still_the_target(corpus: tuple[list[Utterance], ClipCache]) -> None:
    unseen = VideoDegradation(drop_clip=1.0)
    for options in ({"snr": (8, 12), "degradation": unseen}, {"degradation": None}):
        for item, wanted in zip(mixtures(corpus, all_speech_below=6.0, **options), mixtures(corpus, **options)):
            np.testing.assert_array_equal(item.clean, wanted.clean)


def test_noise_that_is_no_speech_is_never_kept(corpus: tuple[list[Utterance], ClipCache]) -> None:
    unseen = VideoDegradation(drop_clip=1.0)
    options = {"conditions": {"recorded": 1.0}, "degradation": unseen}
    for item, wanted in zip(mixtures(corpus, all_speech_below=6.0, **options), mixtures(corpus, **options)):
        np.testing.assert_array_equal(item.clean, wanted.clean)


def test_groups_show_each_speaker_of_a_mixture(corpus: tuple[list[Utterance], ClipCache]) -> None:
    items = mixtures(
        corpus, groups=partial(SeparationSet, seconds=1.0, interfering_speakers=[0.0, 1.0]), group_share=0.5
    )
    groups = [item for item in items if isinstance(item, list)]
    assert 2 <= len(groups) <= 10
    for group in groups:
        assert len({row.clip.clip_id for row in group}) == len(group) == 3
        assert all((row.clip.audio == group[0].clip.audio).all() for row in group)
    assert MixtureSet.collate(items).mixture is None
    assert len(MixtureSet.collate(items)) == len(items) + 2 * len(groups)
    assert MixtureSet.collate(groups).mixture is not None

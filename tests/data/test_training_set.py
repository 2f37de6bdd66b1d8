"""Training mixtures: what they hold, that they depend on seed, epoch and index alone, and what the video loses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avse.data.cache import ClipCache
from avse.data.channels import Channel
from avse.data.manifest import Utterance
from avse.data.mixing import active_samples, mix_at_snr
from avse.data.rooms import Rooms
from avse.data.training_set import MixtureSet, VideoDegradation
from avse.errors import AvseError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Utterance], ClipCache]:
    """Three speakers (one with a face) and one noise, each a tone of its own."""
    folder = tmp_path_factory.mktemp("tones")
    cache = ClipCache(folder / "cache")
    utterances = []
    for index, name in enumerate(("face", "voice", "other", "noise")):
        time = np.arange(24000) / 16000
        soundfile.write(folder / f"{name}.wav", 0.3 * np.sin(2 * np.pi * 200 * 2**index * time), 16000)
        kind = {"noise": folder / f"{name}.wav"} if name == "noise" else {"clean": folder / f"{name}.wav"}
        video = folder / f"{name}.mp4" if name == "face" else None
        utterances.append(
            Utterance(name, **kind, video=video, speaker=name, kind="noise" if name == "noise" else "speech")
        )
        if video is not None:
            video.write_text(video.name)
            target = cache._path(video, cache._crops)
            target.parent.mkdir(parents=True, exist_ok=True)
            mouth = np.repeat(np.arange(38, dtype=np.uint8), 88 * 88).reshape(38, 88, 88)
            np.savez(target, mouth=mouth, valid=np.ones(38, bool))
    return utterances, cache


def _power_at(signal: np.ndarray, hertz: float) -> float:
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(signal), 1 / 16000) - hertz) < 15
    return float(spectrum[near].sum() / spectrum.sum())


def test_mixtures_are_the_sum_of_their_parts_at_an_snr_in_range(corpus) -> None:
    mixtures = MixtureSet(*corpus, size=20, seconds=0.8, snr=(-3.0, 4.0), seed=1)
    for index in range(20):
        clip, clean, noise, _ = mixtures[index]
        np.testing.assert_allclose(clip.audio, clean + noise, atol=1e-6)
        active = active_samples(clean)
        snr = 10 * np.log10(np.mean(clean[active] ** 2) / np.mean(noise[active] ** 2))
        assert -3.01 <= snr <= 4.01


def test_a_mixture_depends_on_seed_epoch_and_index_alone(corpus) -> None:
    one, other = MixtureSet(*corpus, size=9, seed=5), MixtureSet(*corpus, size=30, seed=5)
    other[0], other[4]
    assert np.array_equal(one[7][0].audio, other[7][0].audio)
    other.set_epoch(1)
    assert not np.array_equal(one[7][0].audio, other[7][0].audio)
    assert not np.array_equal(one[7][0].audio, MixtureSet(*corpus, size=9, seed=6)[7][0].audio)


def test_rooms_and_channels_change_nothing_but_the_acoustics(corpus) -> None:
    arguments = {"size": 24, "seconds": 0.8, "snr": (5.0, 5.0), "seed": 3, "speed": (0.9, 1.1)}
    dry = MixtureSet(*corpus, **arguments)
    none = MixtureSet(*corpus, **arguments, rooms=Rooms(share=0.0), channel=Channel(share=0.0))
    some = MixtureSet(*corpus, **arguments, rooms=Rooms(share=0.4), channel=Channel(share=0.4))
    again = MixtureSet(*corpus, **arguments, rooms=Rooms(share=0.4), channel=Channel(share=0.4))
    changed = 0
    for index in range(24):
        before, after = dry[index], some[index]
        assert np.array_equal(before.clip.audio, none[index].clip.audio)
        assert np.array_equal(after.clip.audio, again[index].clip.audio)
        np.testing.assert_allclose(after.clip.audio, after.clean + after.noise, atol=1e-6)
        changed += not np.array_equal(before.clip.audio, after.clip.audio)
        if before.clip.mouth is not None:
            assert np.array_equal(before.clip.mouth, after.clip.mouth)
    assert 8 <= changed <= 22


def test_in_a_room_the_snr_counts_all_reverberation_and_clean_is_the_early_part(corpus) -> None:
    arguments = {"size": 8, "seconds": 0.8, "snr": (300.0, 300.0), "seed": 3, "conditions": {"recorded": 1.0}}
    dry = MixtureSet(*corpus, **arguments)
    wet = MixtureSet(*corpus, **arguments, rooms=Rooms(share=1.0, rt60=(0.5, 0.8), distance=(1.0, 2.0)))
    for index in range(8):
        speech, (clip, early, late, _) = dry[index].clean, wet[index]
        np.testing.assert_allclose(early[:800], clip.audio[:800], atol=1e-4)  # nothing is late yet
        assert np.sum(late**2) > 1e-4 * np.sum(early**2)
        start = np.flatnonzero(np.abs(speech) > 0.05 * np.abs(speech).max())[0]
        assert np.abs(early[: max(0, start - 40)]).max(initial=0.0) < 0.1 * np.abs(early).max()


def test_the_mouth_is_cut_where_the_sound_is(corpus) -> None:
    mixtures = MixtureSet(*corpus, size=12, seconds=0.4, video_share=1.0)
    for index in range(12):
        clip = mixtures[index].clip
        first = int(clip.mouth[0, 0, 0])
        assert clip.valid.all()
        assert clip.mouth[:, 0, 0].tolist() == list(range(first, first + 10))


def test_babble_without_a_face_is_replaced_unless_asked_for(corpus) -> None:
    utterances, cache = corpus
    arguments = {
        "size": 12,
        "seconds": 0.8,
        "conditions": {"babble": 1.0},
        "interfering_speakers": [1.0],
        "video_share": 0.0,
    }
    for index in range(12):
        noise = MixtureSet(utterances, cache, **arguments)[index][2]
        assert _power_at(noise, 1600) > 0.8
        babble = MixtureSet(utterances, cache, babble_without_video=True, **arguments)[index][2]
        assert _power_at(babble, 1600) < 0.2


def test_a_rival_share_of_one_draws_talkers_with_a_face_alone(corpus) -> None:
    utterances, cache = corpus
    arguments = {
        "size": 8,
        "seconds": 0.8,
        "conditions": {"babble": 1.0},
        "interfering_speakers": [1.0],
        "video_share": 0.0,
    }
    mixtures = MixtureSet(utterances, cache, babble_without_video=True, rival_share=1.0, **arguments)
    assert all(_power_at(mixtures[index][2], 200) > 0.8 for index in range(8))


def test_babble_of_the_same_corpus_has_speakers_of_the_same_corpus_with_a_face(corpus) -> None:
    utterances, cache = corpus
    face, voice, other = (replace(u, dataset=name) for u, name in zip(utterances, ("near", "near", "far")))
    voice = replace(voice, video=face.video)
    arguments = {"size": 8, "seconds": 0.8, "conditions": {"babble": 1.0}, "interfering_speakers": [1.0]}
    arguments |= {"corpora": {"near": 9.0}, "same_corpus": 1.0, "video_share": 1.0}
    mixtures = MixtureSet([face, voice, other], cache, **arguments)
    for index in range(8):
        clip, clean, noise, _ = mixtures[index]
        assert _power_at(noise, 400 if clip.clip_id == "face" else 200) > 0.8
    alone = MixtureSet([face, other], cache, **arguments)
    assert all(_power_at(alone[index][2], 800) > 0.8 for index in range(8))  # nobody else is in its corpus


def test_short_utterances_stay_short_where_they_are_not_joined(corpus) -> None:
    mixtures = MixtureSet(*corpus, size=8, seconds=4.0, video_share=1.0, joined=False)
    for index in range(8):
        clip, clean, noise, _ = mixtures[index]
        assert len(clip.audio) == len(clean) == len(noise) == 37 * 640  # of 1.5 s
        assert clip.valid.all() and clip.mouth[:, 0, 0].tolist() == list(range(37))
    batch = mixtures.collate([mixtures[0], mixtures[1]])
    assert batch.lengths.tolist() == [37 * 640] * 2


def test_nothing_to_train_on_is_said(corpus) -> None:
    utterances, cache = corpus
    with pytest.raises(AvseError, match="no clean speech"):
        MixtureSet([u for u in utterances if u.kind == "noise"], cache, size=1)
    with pytest.raises(AvseError, match="No training condition"):
        MixtureSet([u for u in utterances if u.kind != "noise"], cache, size=1, conditions={"recorded": 1.0})
    with pytest.raises(AvseError, match="recorded, babble and coloured"):
        MixtureSet(utterances, cache, size=1, conditions={"cafe": 1.0})[0]


@pytest.mark.parametrize(
    ("name", "share"), [("drop_clip", 0.0), ("drop_frames", 0.9), ("drop_span", None), ("wrong_clip", 1.0)]
)
def test_each_way_to_lose_the_video(name: str, share: float | None) -> None:
    never = {"drop_clip": 0.0, "drop_span": 0.0, "drop_frames": 0.0, "wrong_clip": 0.0, "corrupt": 0.0}
    degradation = VideoDegradation(**{**never, name: 1.0}, augment=False)
    mouth, valid = np.full((200, 88, 88), 7, np.uint8), np.ones(200, bool)
    other = lambda: (np.full((200, 88, 88), 9, np.uint8), np.ones(200, bool))
    given = mouth.copy()
    seen, kept, clean = degradation(mouth, valid, other, np.random.default_rng(0))
    assert np.array_equal(clean, kept if name != "wrong_clip" else np.zeros(200, bool))
    assert np.array_equal(mouth, given) and valid.all()
    assert np.all(seen == (9 if name == "wrong_clip" else 7))
    if share is None:
        lost = np.flatnonzero(~kept)
        assert 0 < len(lost) < 200 and lost[-1] - lost[0] + 1 == len(lost)
    else:
        assert abs(kept.mean() - share) < 0.07


def test_mouths_are_turned_zoomed_and_blurred_and_stay_where_they_are() -> None:
    never = {"drop_clip": 0.0, "drop_span": 0.0, "drop_frames": 0.0, "wrong_clip": 0.0, "corrupt": 0.0}
    degradation = VideoDegradation(**never, zoom=0.2, turn=20.0, blur=2.0)
    mouth = np.full((3, 88, 88), 40, np.uint8)
    mouth[:, 38:50, 30:58] = 200
    shown = []
    for seed in range(20):
        turned, valid, clean = degradation(mouth, np.ones(3, bool), lambda: None, np.random.default_rng(seed))
        assert turned.shape == mouth.shape and turned.dtype == np.uint8 and valid.all() and clean.all()
        assert np.array_equal(turned[0], turned[2])
        bright = np.argwhere(turned[0] > (int(turned[0].min()) + int(turned[0].max())) / 2)
        np.testing.assert_allclose(bright.mean(axis=0), 43.5, atol=7.5)
        shown.append((len(bright), np.ptp(bright[:, 0])))
    assert len(set(shown)) > 10


def test_a_corruption_that_shows_another_speaker_gets_the_other_clip() -> None:
    from avse import plugins

    never = {"drop_clip": 0.0, "drop_span": 0.0, "drop_frames": 0.0, "wrong_clip": 0.0, "corrupt": 1.0}
    swap = plugins.get("corruption", "wrong_speaker")(2)
    degradation = VideoDegradation(**never, corruptions=[swap], augment=False)
    other = lambda: (np.full((50, 88, 88), 9, np.uint8), np.ones(50, bool))
    given = np.full((50, 88, 88), 7, np.uint8), np.ones(50, bool)
    seen, kept, clean = degradation(*given, other, np.random.default_rng(0))
    assert np.array_equal(clean, seen[:, 0, 0] == 7)
    assert kept.all() and (seen[:, 0, 0] == 9).sum() == 20 and (seen[:, 0, 0] == 7).sum() == 30


def test_severities_are_drawn_from_the_range() -> None:
    from avse import plugins

    never = {"drop_clip": 0.0, "drop_span": 0.0, "drop_frames": 0.0, "wrong_clip": 0.0, "corrupt": 1.0}
    frozen = plugins.get("corruption", "missing")(5)
    degradation = VideoDegradation(**never, corruptions=[frozen], severities=(1, 3), augment=False)
    given, rng = (np.full((50, 88, 88), 7, np.uint8), np.ones(50, bool)), np.random.default_rng(0)
    lost = {int((~degradation(*given, lambda: given, rng)[2]).sum()) for _ in range(40)}
    assert lost == {10, 20, 30} and frozen.severity == 5


def test_a_mixture_as_recorded_is_played_at_its_own_speed(corpus) -> None:
    mixtures = MixtureSet(*corpus, size=12, seconds=0.4, video_share=1.0, as_recorded=1.0, speed=(0.5, 0.6))
    for index in range(12):
        clip, clean, *_ = mixtures[index]
        assert clip.video_is_clean.all() and np.diff(clip.mouth[:, 0, 0].astype(int)).tolist() == [1] * 9
        assert _power_at(clean, 200) > 0.8


def test_silence_stays_finite() -> None:
    for speech, noise in ((np.zeros(1600), np.ones(1600)), (np.ones(1600), np.zeros(1600))):
        noisy, scaled = mix_at_snr(speech, noise, 0.0)
        assert np.isfinite(noisy).all() and np.isfinite(scaled).all()


def test_a_decoded_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    cache, path = ClipCache(tmp_path / "cache"), tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1000), 16000)
    assert len(cache.sound(Utterance("a", clean=path))) == 1000
    soundfile.write(path, np.zeros(4000), 8000)
    assert len(cache.sound(Utterance("a", clean=path))) == 8000


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_is_shown_only_where_asked_for(progress: bool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16000)
    cache = ClipCache(tmp_path / "cache")
    cache.fill([Utterance("a", clean=tmp_path / "a.wav")], progress=progress)
    shown = capsys.readouterr()
    assert shown.out == "" and ("Decoding 1 clips" in shown.err) == progress
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1


def test_mouth_and_sound_are_sped_up_together(corpus) -> None:
    mixtures = MixtureSet(*corpus, size=6, seconds=0.8, video_share=1.0, speed=(1.5, 1.5))
    for index in range(6):
        clip, clean, *_ = mixtures[index]
        assert _power_at(clean, 300) > 0.9  # the tone of 200 Hz
        rows = clip.mouth[:, 0, 0].astype(int)
        assert clip.valid.all() and rows[-1] - rows[0] in (28, 29)


def test_a_short_target_goes_on_with_its_speaker(corpus) -> None:
    mixtures = MixtureSet(*corpus, size=4, seconds=4.0, video_share=1.0)
    for index in range(4):
        clip, clean, *_ = mixtures[index]
        assert clip.valid.all()
        assert all(np.abs(part).max() > 0.001 for part in np.split(clean, 100))


def test_crops_of_each_tracker_are_kept_apart(tmp_path: Path) -> None:
    from avse import plugins

    film = tmp_path / "film.mp4"
    film.touch()
    face = Utterance("face", video=film)
    mtcnn, haar = plugins.get("mouth_tracker", "mtcnn"), plugins.get("mouth_tracker", "haar")
    caches = [ClipCache(tmp_path, tracker) for tracker in (None, "haar", haar(), mtcnn(), mtcnn(min_face=0.3))]
    for mark, cache in enumerate(caches):
        path = cache._path(film, cache._crops)
        path.parent.mkdir(exist_ok=True)
        np.savez(path, mouth=np.full((1, 88, 88), mark), valid=np.ones(1, bool))
    assert [int(cache.mouth(face)[0].max()) for cache in caches] == [0, 1, 2, 3, 4]


def test_crops_belong_to_what_a_file_holds_not_to_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import avse.media
    from avse.contracts.types import Clip

    tracked: list[Path] = []

    def read_clip(path: Path, video: Path, **options: object) -> Clip:
        tracked.append(video)
        return Clip(np.zeros(640), np.full((1, 88, 88), len(tracked), np.uint8))

    monkeypatch.setattr(avse.media, "read_clip", read_clip)
    for name, content in (("one", "first"), ("other", "second"), ("copy", "first")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_text(content)
    utterances = [Utterance("clip", clean=tmp_path / name / "clip.mp4", video=tmp_path / name / "clip.mp4")
                  for name in ("one", "other", "copy")]  # fmt: skip
    seen = [int(ClipCache(tmp_path / "cache").mouth(utterance)[0].max()) for utterance in utterances]
    assert seen == [1, 2, 1] and len(tracked) == 2


def test_what_is_told_of_the_noise_is_of_its_recordings_and_changes_no_audio(corpus) -> None:
    told: list[list[str]] = []

    def scenes(noises, folder):
        assert [row.id for row in noises] == ["noise"] and folder == corpus[1].folder

        def draw(recordings, noisy, rng):
            assert noisy.shape == (6400,)
            told.append([row.id for row in recordings])
            return rng.standard_normal(3).astype(np.float32)

        return draw

    common = {"size": 12, "seconds": 0.4, "seed": 3, "conditions": {"recorded": 0.5, "babble": 0.5}}
    plain, mixtures = MixtureSet(*corpus, **common), MixtureSet(*corpus, **common, scenes=scenes)
    items = [mixtures[index] for index in range(12)]
    assert {tuple(one) for one in told} >= {(), ("noise",)}
    for index, item in enumerate(items):
        np.testing.assert_array_equal(item.clip.audio, plain[index].clip.audio)
        np.testing.assert_array_equal(item.scene, mixtures[index].scene)
    batch = MixtureSet.collate([items[0], plain[1]])
    np.testing.assert_array_equal(batch.scene, np.stack([items[0].scene, np.zeros(3)]))
    assert MixtureSet.collate([plain[0]]).scene is None

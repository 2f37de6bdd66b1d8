"""Scene files and their mixtures, noises and rooms."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import welch

from avse.contracts.types import Clip
from avse.data.audio import read_audio, write_audio
from avse.data.manifest import Utterance, read_manifest, write_manifest
from avse.data.mixing import active_samples, sum_at_one_level
from avse.data.noises import coloured_noise, cut_or_loop, draw_offset
from avse.data.rendering import read_mixtures, render_scenes
from avse.data.rooms import reverberate, room_response
from avse.data.scenes import Scene, Source, Span, make_scene_file, make_scenes, read_scenes, write_scenes
from avse.errors import AvseError

HEAD = '# avse-scenes {"version": 1, "split": "test"}\nid,target,condition,snr,sources,seed,rt60,direct\n'


@pytest.fixture
def corpus(tmp_path):
    """Three speakers of two clips each with a "video", one without, and three recordings, all in `test`."""
    rng = np.random.default_rng(3)
    rows = []
    for speaker, utterance in [(s, u) for s in "abcd" for u in range(2)]:
        name = f"{speaker}/{utterance}"
        samples = rng.integers(8000, 14000)
        envelope = np.sin(np.linspace(0, np.pi, samples))
        write_audio(tmp_path / f"{name}.flac", 0.2 * envelope * rng.standard_normal(samples))
        video = tmp_path / f"{name}.mp4" if speaker != "d" else None
        if video:
            video.touch()
        rows.append(Utterance(name, clean=tmp_path / f"{name}.flac", video=video, speaker=speaker, dataset="toy"))
    for index in range(3):
        write_audio(tmp_path / f"n{index}.flac", 0.1 * rng.standard_normal(5000 * (index + 1)))
        rows.append(Utterance(f"n{index}", noise=tmp_path / f"n{index}.flac", kind="noise", recording=f"r{index}"))
    write_manifest(rows, tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def test_mixtures_are_the_same_on_every_run_and_have_their_snr(corpus, tmp_path):
    scene_file = tmp_path / "scenes.csv"
    conditions = ["recorded", "babble", "pink"]
    scenes = make_scene_file(corpus, "test", scene_file, conditions=conditions, per_condition=3, seed=5)
    assert len(scenes) == 27 and {scene.target for scene in scenes if scene.snr == 5} <= {
        "a/0",
        "a/1",
        "b/0",
        "b/1",
        "c/0",
        "c/1",
    }
    steps = []
    rows = read_manifest(
        render_scenes(scene_file, corpus, tmp_path / "one", on_progress=lambda *now: steps.append(now))
    )
    again = read_manifest(render_scenes(scene_file, corpus, tmp_path / "two", jobs=4))
    assert steps[-1] == (27, 27) and [row.id for row in rows] == [scene.id for scene in scenes]
    for row, other in zip(rows, again):
        clean, noise, noisy = (soundfile.read(path)[0] for path in (row.clean, row.noise, row.noisy))
        assert np.array_equal(noisy, soundfile.read(other.noisy)[0])
        assert np.abs(noisy - clean - noise).max() < 2**-22
        active = active_samples(clean)
        assert 10 * np.log10((clean[active] ** 2).mean() / (noise[active] ** 2).mean()) == pytest.approx(
            row.snr, abs=1e-3
        )
        assert np.abs(noisy).max() < 1 and row.video.is_file() and row.extra["condition"] in conditions


def test_one_noise_for_all_snrs_and_every_recording_in_turn(corpus):
    rows = read_manifest(corpus)
    speech = [row for row in rows if row.kind == "speech"]
    noises = [row for row in rows if row.kind == "noise"]
    scenes = make_scenes(speech, noises, snrs=[-5, 5], conditions=["recorded"], per_condition=6, seed=1)
    by_target = {}
    for scene in scenes:
        by_target.setdefault(scene.target, set()).add(scene.sources)
    assert all(len(sources) == 1 for sources in by_target.values()) and len(by_target) == 6
    used = [scene.sources[0].ids[0] for scene in scenes if scene.snr == 5]
    assert {used.count(f"n{index}") for index in range(3)} == {2}
    assert scenes == make_scenes(
        speech[::-1], noises[::-1], snrs=[-5, 5], conditions=["recorded"], per_condition=6, seed=1
    )


def test_targets_are_balanced_over_speakers_and_babble_leaves_the_target_out(corpus):
    speech = [row for row in read_manifest(corpus) if row.kind == "speech"]
    scenes = make_scenes(speech, snrs=[0], conditions=["babble"], per_condition={"toy": 3}, seed=2)
    assert sorted(scene.target[0] for scene in scenes) == ["a", "b", "c"]
    for scene in scenes:
        talkers = [source.ids[0][0] for source in scene.sources]
        assert len(set(talkers)) == 2 and scene.target[0] not in talkers
    with pytest.raises(AvseError, match="3 |7 targets"):
        make_scenes(speech, conditions=["babble"], per_condition=7)
    with pytest.raises(AvseError, match="Babble of 9"):
        make_scenes(speech, conditions=["babble9"])
    with pytest.raises(AvseError, match="no condition 'bable'"):
        make_scenes(speech, conditions=["bable"])
    with pytest.raises(AvseError, match="needs noise"):
        make_scenes(speech, conditions=["recorded"])


def test_a_room_adds_late_reflections_to_the_noise(corpus, tmp_path):
    make_scene_file(
        corpus, "test", tmp_path / "s.csv", snrs=[40], conditions=["white"], per_condition=1, reverb=(0.5, 0.5)
    )
    [row] = read_manifest(render_scenes(tmp_path / "s.csv", corpus, tmp_path / "out"))
    clean, noise = (read_audio(path) for path in (row.clean, row.noise))
    assert 3 < 10 * np.log10((clean**2).mean() / (noise**2).mean()) < 30


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,target\n", "is no scene file"),
        ('# avse-scenes {"version": 99, "split": "test"}\n', "version 99"),
        ('# avse-scenes {"version": 1, "split": "test"}\nid,target\n', "columns must be"),
        (HEAD, "no scenes"),
        (HEAD + "m,a,babble,-5,b @ 0,1,,\n", ":3: "),
        (HEAD + "m,a,recorded,nan,b @ 0,1,,\n", ":3: "),
        (HEAD + "m,a,recorded,0,b @ x,1,,\n", ":3: "),
    ],
)
def test_wrong_scene_files_are_refused(tmp_path, text, words):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(AvseError) as caught:
        read_scenes(tmp_path / "s.csv")
    assert words in str(caught.value)


def test_scenes_that_do_not_fit_the_manifest_are_refused(corpus, tmp_path):
    speech = [row for row in read_manifest(corpus) if row.kind == "speech"]
    [first, second, *_] = make_scenes(speech, snrs=[0], conditions=["babble"], seed=2)
    own = Source((first.target,), 0)
    wrong = [type(first)("x", ("nobody",), "white", 0.0), type(first)("y", first.targets, "babble", 0.0, (own, own))]
    write_scenes([*wrong, second], tmp_path / "s.csv")
    with pytest.raises(AvseError) as caught:
        render_scenes(tmp_path / "s.csv", corpus, tmp_path / "out")
    assert "s.csv:3: " in str(caught.value) and "'nobody'" in str(caught.value)
    assert "s.csv:4: the babble holds speech of its target" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../esc", "/tmp/esc", "", "a/"])
def test_an_id_names_a_file_in_the_folder(name, corpus, tmp_path):
    write_scenes([Scene(name, ("a/0",), "white", 0.0)], tmp_path / "s.csv")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AvseError, match="id '"):
        render_scenes(tmp_path / "s.csv", corpus, tmp_path / "deep" / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mixture_never_replaces_what_it_is_made_of(corpus, tmp_path):
    """Neither the manifest, whose folder is named, nor audio of the corpus in the folder of the mixtures."""
    write_scenes([Scene("m", ("a/0",), "white", 0.0)], tmp_path / "s.csv")
    with pytest.raises(AvseError, match="manifest.csv: is the input itself"):
        render_scenes(tmp_path / "s.csv", corpus, tmp_path)
    speech = [row for row in read_manifest(corpus) if row.kind == "speech"]
    (tmp_path / "out").mkdir()
    shutil.copytree(tmp_path / "a", tmp_path / "out" / "clean" / "a")
    moved = [replace(row, clean=tmp_path / "out" / "clean" / f"{row.id}.flac") for row in speech if row.speaker == "a"]
    write_manifest(moved, tmp_path / "moved.csv")
    write_scenes([Scene("a/1", ("a/0",), "white", 0.0)], tmp_path / "s.csv")
    with pytest.raises(AvseError, match="1.flac: is the input itself"):
        render_scenes(tmp_path / "s.csv", tmp_path / "moved.csv", tmp_path / "out")


def test_the_committed_scenes_fit_the_real_manifest(data_folder, tmp_path):
    for split, count in (("dev", 48), ("test", 80)):
        scenes, header = read_scenes(Path(__file__).parents[2] / "recipes" / "Manifest" / "scenes" / f"{split}.csv")
        assert header["split"] == split
        for condition in ("recorded", "babble"):
            for snr in (-5, 0, 5):
                targets = {s.target for s in scenes if s.condition == condition and s.snr == snr}
                assert len(targets) == count
        write_scenes(scenes[:: len(scenes) // 4], tmp_path / "few.csv", split=split)
        render_scenes(tmp_path / "few.csv", data_folder / "manifest.csv", tmp_path / split)


@pytest.mark.parametrize(("colour", "gradient"), [("white", 0), ("pink", -3.01), ("brown", -6.02), ("blue", 3.01)])
def test_coloured_noise_falls_by_its_slope(colour, gradient):
    noise = coloured_noise(colour, 160_000, np.random.default_rng(0))
    frequency, power = welch(noise, 16000, nperseg=2048)
    band = (frequency > 100) & (frequency < 6000)
    fitted = np.polyfit(np.log2(frequency[band]), 10 * np.log10(power[band]), 1)[0]
    assert fitted == pytest.approx(gradient, abs=0.25)
    assert np.array_equal(noise, coloured_noise(colour, 160_000, np.random.default_rng(0)))


def test_a_loop_has_no_clicks():
    tone = np.sin(2 * np.pi * 101.3 * np.arange(5000) / 16000)
    looped = cut_or_loop(tone, 30000, 4321)
    assert np.abs(np.diff(looped)).max() < 1.5 * np.abs(np.diff(tone)).max()
    assert np.array_equal(cut_or_loop(tone, 100, 50), tone[50:150])


def test_offsets_avoid_silence():
    sound = np.r_[np.zeros(90_000), np.ones(30_000)]
    rng = np.random.default_rng(0)
    cuts = [cut_or_loop(sound, 4000, draw_offset(sound, 4000, rng)) for _ in range(50)]
    assert np.mean([cut.mean() > 0.05 for cut in cuts]) > 0.8


def test_babble_has_talkers_at_one_level():
    low, high = np.zeros(16000), np.zeros(16000)
    low[:8000], high[8000:] = 0.01 * np.sin(np.arange(8000)), 5.0 * np.sin(np.arange(8000))
    both = sum_at_one_level([low, high])
    assert (both[:7900] ** 2).mean() == pytest.approx((both[8100:] ** 2).mean(), rel=0.05)


def test_a_room_decays_by_60_db_in_its_time():
    response = room_response(0.4, 0.0, np.random.default_rng(0))
    energy = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])
    start, end = 800, 4000
    gradient = (energy[end] - energy[start]) / ((end - start) / 16000)
    assert gradient == pytest.approx(-60 / 0.4, rel=0.1)
    speech = np.random.default_rng(1).standard_normal(16000)
    reverberant, early = reverberate(speech, response)
    naive = np.convolve(speech, response)[:16000]
    assert np.abs(reverberant - naive).max() < 1e-4 and np.abs(early - reverberant).max() > 0.1


@pytest.fixture
def two_corpora(tmp_path):
    """Corpus `big` of four speakers, `small` of two, each with a clip of 2 s that ends in 0.6 s of silence."""
    rng = np.random.default_rng(7)
    rows = []
    for speaker in ("b1", "b2", "b3", "b4", "s1", "s2"):
        audio = 0.05 * rng.standard_normal(32000)
        audio[22400:] = 0
        write_audio(tmp_path / f"{speaker}.flac", audio)
        (tmp_path / f"{speaker}.mp4").write_text(speaker)
        files = {"clean": tmp_path / f"{speaker}.flac", "video": tmp_path / f"{speaker}.mp4"}
        rows.append(Utterance(speaker, **files, speaker=speaker, dataset="big" if speaker[0] == "b" else "small"))
    rows.append(Utterance("known", clean=tmp_path / "b1.flac", speaker="b4", split="train"))
    write_manifest(rows, tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def test_babble_of_one_corpus_and_speakers_in_turn(two_corpora, tmp_path):
    asked = {"conditions": ["babble"], "per_corpus": 5, "snrs": [-5], "same_corpus": True, "seconds": 1.0}
    with pytest.warns(UserWarning, match="small: too few speakers"):
        scenes = make_scene_file(two_corpora, "test", tmp_path / "s.csv", **asked)
    assert len(scenes) == len({scene.id for scene in scenes}) == 10
    counts = {name: sum(scene.target == name for scene in scenes) for name in ("b1", "b2", "b3", "b4", "s1", "s2")}
    assert sorted(counts.values()) == [1, 1, 1, 2, 2, 3]
    for scene in scenes:
        interfering = [source.ids[0] for source in scene.sources]
        assert scene.target not in interfering and len(set(interfering)) == 2
        assert scene.target[0] == "s" or {name[0] for name in interfering} == {"b"}
        [span] = scene.spans
        assert len(span) == 25 and span.first >= 0 and span.last <= 50
    assert read_scenes(tmp_path / "s.csv")[0] == scenes
    with pytest.warns(UserWarning):
        scenes = make_scene_file(two_corpora, "test", tmp_path / "s.csv", **asked, unseen=True)
    assert "b4" not in str(scenes)


def test_a_span_of_a_clip_is_heard_and_seen(two_corpora, tmp_path):
    make_scene_file(
        two_corpora, "test", tmp_path / "s.csv", conditions=["clean", "white"], per_corpus=1, snrs=[0], seconds=0.8
    )
    rows = read_manifest(render_scenes(tmp_path / "s.csv", two_corpora, tmp_path / "out"))
    assert [row.extra["condition"] for row in rows] == ["clean"] * 2 + ["white"] * 2
    for row in rows:
        span = Span.of(row)
        whole = read_audio(two_corpora.with_name(f"{row.extra['target']}.flac"))
        clean = read_audio(row.clean)
        assert np.allclose(clean, whole[640 * span.first : 640 * span.last], atol=1e-6) and len(clean) == 12800
        assert (row.snr is None) == np.array_equal(clean, read_audio(row.noisy)) == (row.label == "clean")


def test_a_silent_target_is_a_mouth_at_rest(two_corpora, tmp_path, monkeypatch):
    import avse.media

    def read_clip(path, video=None, **kwargs):
        mouth = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None], (50, 88, 88))
        return Clip(np.zeros(32000, np.float32), mouth)

    monkeypatch.setattr(avse.media, "read_clip", read_clip)
    scenes = make_scene_file(two_corpora, "test", tmp_path / "s.csv", conditions=["silent"], per_corpus=1, seconds=3.0)
    assert all(scene.is_silent and scene.snr is None and len(scene.sources) == 2 for scene in scenes)
    rows = read_manifest(render_scenes(tmp_path / "s.csv", two_corpora, tmp_path / "out"))
    for row in rows:
        shown = Span.of(row).rows()
        assert shown.min() >= 36 and len(shown) == 75 and np.abs(np.diff(shown)).max() == 1  # the pause is from 35 on
        clean, noisy = read_audio(row.clean), read_audio(row.noisy)
        assert not clean.any() and len(noisy) == 48000 and np.sqrt((noisy**2).mean()) > 0.01
    with pytest.raises(AvseError, match="seen and silent"):
        make_scenes([row for row in read_manifest(two_corpora) if row.split == "test"], conditions=["silent"])


def test_several_speakers_of_each_corpus_are_cut(two_corpora, tmp_path):
    asked = {"conditions": ["separation2", "separation3"], "per_corpus": 2, "snrs": [], "seconds": 1.0}
    scenes = make_scene_file(two_corpora, "test", tmp_path / "s.csv", **asked)
    assert [scene.targets[0][0] for scene in scenes] == ["b", "b", "s", "s", "b", "b"]
    [first, *_] = mixtures = read_mixtures(render_scenes(tmp_path / "s.csv", two_corpora, tmp_path / "out"))
    assert [mixture.first.dataset for mixture in mixtures] == ["big"] * 2 + ["small"] * 2 + ["big"] * 2
    assert [Span.of(row) for row in first.utterances] == list(scenes[0].spans)
    assert len(read_audio(first.first.noisy)) == 16000

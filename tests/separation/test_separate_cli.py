"""`avse separate` from end to end: one film with two faces, or a film of each; scenes, mixtures and their scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import avse
from avse import plugins
from avse.contracts.types import Clip, Estimate
from avse.data.mixing import speakers_at_one_level
from avse.data.rendering import read_mixtures
from avse.data.scenes import read_scenes
from avse.data.synthetic.recording import write_video
from avse.datasets.synthetic import synthesize_clip
from avse.errors import AvseError
from avse.evaluation.separation import METRICS, separation_scores, switch_accuracy
from avse.jobs.separate import quantised
from avse.media import find_speakers
from avse.overlap import concatenate, overlap_add

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
model: !new:avse.plugins.prior.speaker_vae
    speakers: [ann, bob]
    visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp {output_dim: 6, hidden_dim: 8, size: 11}
    fusion: !new:avse.plugins.fusion.concat {audio_dim: 8, video_dim: 6}
    latent_dim: 4
    hidden_dim: 8
    fft_size: 640
inference: !new:avse.plugins.inference.vem
    prior: !ref <model>
    noise_model: !new:avse.plugins.noise_model.nmf {rank: 2}
    iterations: 3
"""


@pytest.fixture(scope="module")
def speakers_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small random prior that knows two speakers."""
    import torch

    from avse.model import Model
    from avse.recipe import load_recipe

    folder = tmp_path_factory.mktemp("speakers")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = load_recipe(folder / "recipe.yaml").build("inference")["inference"]
    return Model(system, RECIPE, "speakers").save(folder / "model")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`ann` and `bob` on a film each, `both` side by side on one with the sound of both; `mix` is this sound alone."""
    folder = tmp_path_factory.mktemp("films")
    made = {name: synthesize_clip(seed=7, speaker=speaker, seconds=1.2) for name, speaker in (("ann", 3), ("bob", 8))}
    sound = made["ann"][0] + made["bob"][0]
    files = {name: folder / f"{name}.mp4" for name in ("ann", "bob", "both")}
    for name, (audio, frames, _) in made.items():
        write_video(files[name], frames, audio)
    count = min(len(one[1]) for one in made.values())
    write_video(files["both"], np.concatenate([one[1][:count] for one in made.values()], axis=2), sound)
    soundfile.write(folder / "mix.wav", sound, 16_000)
    return {**files, "mix": folder / "mix.wav"}


def test_a_film_of_each(films: dict, speakers_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    words = ["separate", films["mix"], "--video", films["ann"], "--video", films["bob"], "--others", 1]
    files = {name: tmp_path / name for name in ("found.json", "who.png")}
    options = ["--json", files["found.json"], "--plot", files["who.png"], "--model", speakers_model, "-o", tmp_path]
    outcome = avse_command(*words, *options, "--inference.iterations", 2)
    assert outcome.status == 0, outcome.err
    assert "ann -> " in outcome.out and "mouth seen in" in outcome.out
    sounds = {name: soundfile.read(tmp_path / f"mix.{name}.wav", dtype="int16")[0].astype(int)
              for name in ("ann", "bob", "other", "rest")}  # fmt: skip
    mixture = soundfile.read(films["mix"], dtype="float32")[0]
    np.testing.assert_array_equal(sum(sounds.values()), np.rint(np.clip(mixture, -1, 1) * 32_767).astype(int))
    report = json.loads(files["found.json"].read_text())
    assert [one["name"] for one in report["talkers"]] == ["ann", "bob", "other"]
    ann = report["talkers"][0]
    assert ann["valid_share"] > 0.9 and len(ann["box"]) == 4 and set(ann["voices"]) <= {"anybody", "ann", "bob"}
    assert report["talkers"][2]["video"] is None and files["who.png"].read_bytes().startswith(b"\x89PNG")


def test_one_film_of_both(films: dict, speakers_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    talkers = find_speakers(films["both"])
    assert [one.name for one in talkers] == ["left", "right"]
    assert talkers[0].box[0] < talkers[1].box[0] and talkers[0].clip.valid.mean() > 0.9
    assert not np.array_equal(talkers[0].clip.mouth[8], talkers[1].clip.mouth[8])
    # The faces are those of the films of each.
    for one, name in zip(talkers, ("ann", "bob")):
        [alone] = find_speakers(films["mix"], [films[name]])
        near = np.abs(one.clip.mouth[8].astype(int) - alone.clip.mouth[8]).mean()
        other = np.abs(one.clip.mouth[8].astype(int) - talkers[1 - talkers.index(one)].clip.mouth[8]).mean()
        assert near < 0.5 * other
    outcome = avse_command("separate", films["both"], "--model", speakers_model, "-o", tmp_path, "--speaker", "ann",
                           "--speaker", "anybody")  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"both.left.wav", "both.right.wav", "both.rest.wav"}


def test_python_and_long_clips(films: dict, speakers_model: Path) -> None:
    found = avse.separate(films["mix"], [films["ann"], films["bob"]], model=speakers_model)
    assert found.states == ("anybody", "ann", "bob") and found.responsibility.shape == (
        2,
        found.reliability.shape[1],
        3,
    )
    clips = [one.clip for one in find_speakers(films["mix"], [films["ann"], films["bob"]])]
    again = avse.load(speakers_model).separate(clips[0].audio, clips)
    np.testing.assert_array_equal(found.speech.numpy(), again.speech.numpy())
    long = [Clip(np.tile(one.audio, 20), np.tile(one.mouth, (20, 1, 1)), np.tile(one.valid, 20)) for one in clips]
    pieces = avse.load(speakers_model).separate_clips(long, chunk_seconds=6.0)
    np.testing.assert_allclose(pieces.speech.sum(0) + pieces.noise, long[0].audio, atol=1e-5)
    assert pieces.speech.shape[1] == len(long[0].audio) and bool(pieces.speech[:, -1600:].any())


def test_chunks_that_agree_are_joined_without_a_trace() -> None:
    import torch

    whole = torch.randn(2, 640 * 10), torch.rand(2, 10)
    mixture = torch.randn(640 * 10)
    noise = mixture - whole[0].sum(dim=0)
    parts = [
        (640 * a, Estimate(whole[0][:, 640 * a : 640 * b], noise[640 * a : 640 * b], whole[1][:, a:b]))
        for a, b in ((0, 5), (3, 8), (6, 10))
    ]
    found = concatenate(list(overlap_add(parts)))
    torch.testing.assert_close(found.speech, whole[0])
    torch.testing.assert_close(found.reliability, whole[1])
    torch.testing.assert_close(found.noise, mixture - whole[0].sum(dim=0))


def test_voices_in_16_bits_add_up_even_where_they_clip() -> None:
    rng = np.random.default_rng(0)
    mixture, voices = rng.uniform(-1, 1, 500), rng.uniform(-1.5, 1.5, (2, 500))
    found = quantised(mixture, voices).astype(int)
    mask = np.abs(np.rint(mixture * 32_767) - found[:2].sum(axis=0)) <= 32_767
    np.testing.assert_array_equal(found.sum(axis=0)[mask], np.rint(mixture * 32_767)[mask])
    assert np.abs(found).max() == 32_767


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MIX"], "no video shows a speaker"),
        (["MIX", "--video", "nowhere.mp4"], "nowhere.mp4"),
        (["nothing.wav", "--others", "2"], "nothing.wav"),
        (["MIX", "--video", "MIX"], "has no video"),
        (["MIX", "--others", "2", "--speaker", "carl", "--speaker", "ann"], "carl"),
        (["MIX", "--others", "2", "--speaker", "ann"], "1 of 2 speakers are named"),
        (["MIX", "--others", "2", "--plot", "who.xyz"], "who.xyz"),
        (["MIX", "--others", "2", "-o", "MIX"], "is the input itself"),
        (["MIX", "BOB", "--others", "2"], "One mixture"),
        (["MIX", "--others", "2", "--vidio", "BOB"], "--video"),
        (["BROKEN", "--others", "2"], "broken.mp4"),
    ],
)  # fmt: skip
def test_mistakes_leave_nothing_behind(
    words: list[str], message: str, films: dict, speakers_model: Path, tmp_path: Path, avse_command: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(films["bob"].read_bytes()[:900])
    names = {"MIX": films["mix"], "BOB": films["bob"], "BROKEN": tmp_path / "broken.mp4"}
    given = [names.get(word, word) for word in words]
    output = [] if "-o" in words else ["-o", tmp_path / "out"]
    outcome = avse_command("separate", *given, *output, "--model", speakers_model)
    assert message in outcome.message
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "broken.mp4"]


def test_without_any_video_it_says_so(
    films: dict, speakers_model: Path, tmp_path: Path, avse_command: Callable
) -> None:
    outcome = avse_command("separate", films["mix"], "--others", 2, "-o", tmp_path, "--model", speakers_model)
    assert outcome.status == 0 and "who is who is unknown" in " ".join(outcome.err.split())
    assert (tmp_path / "mix.other2.wav").is_file()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    synthetic = plugins.get("dataset", "synthetic")
    made = synthetic(clips=24, speakers=6, noises=3, seconds=(0.7, 0.9), noise_seconds=1.0)
    return made.prepare(tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
def test_from_scenes_to_scores(corpus: Path, speakers_model: Path, tmp_path: Path, avse_command: Callable) -> None:
    scenes, out = tmp_path / "scenes.csv", tmp_path / "mixtures"
    words = ["scenes", corpus, "--split", "train", "-o", scenes, "--condition", "separation2", "--per-condition", 2]
    assert avse_command(*words, "--condition", "separation3", "--leave-out", 2).status == 0
    written = scenes.read_bytes()
    assert avse_command(*words, "--condition", "separation3", "--leave-out", 2).status == 0
    assert scenes.read_bytes() == written
    drawn, header = read_scenes(scenes)
    assert [(len(one.targets), one.snr) for one in drawn] == [(2, None), (2, 5.0)] * 2 + [(3, None), (3, 5.0)] * 2
    assert header["split"] == "train"
    assert avse_command("mix", scenes, "--manifest", corpus, "-o", out).status == 0
    mixtures = read_mixtures(out)
    for one in mixtures[:2]:
        sounds = [soundfile.read(path)[0] for path in (one.first.noisy, *(row.clean for row in one.utterances))]
        rest = sounds[0] - sum(sounds[1:])
        ratio = 10 * np.log10(np.mean(sum(sounds[1:]) ** 2) / (np.mean(rest**2) + 1e-12))
        assert ratio > 80 if one.first.snr is None else abs(ratio - 5) < 1.5
        assert len({row.speaker for row in one.utterances}) == 2
        assert all(row.video is not None and row.video.is_file() for row in one.utterances)
    scores = tmp_path / "scores"
    words = ["evaluate-separation", "--manifest", out, "--limit", 5, "--seed", 1]
    options = ["--model", speakers_model, "--crops", tmp_path / "crops", "--keep", "--voices", "free"]
    outcome = avse_command(*words, "-o", scores, *options)
    assert "lack scores" in outcome.err and "is now called avse evaluate" in outcome.err, outcome.err
    rows = list(csv.DictReader((scores / "scores.csv").read_text().splitlines()))
    assert len(rows) == 4 * 2 + 3 and all(row["sir"] and row["wrong_speaker"] for row in rows)
    summary = json.loads((scores / "summary.json").read_text())
    assert summary["n"] == 11 and set(summary["groups"]["all"]) == set(METRICS)
    assert summary["groups"]["3 talkers"]["sdr"]["n"] == 3 and "| 2 talkers |" in (scores / "table.md").read_text()
    assert len(list((scores / "voices").glob("*.wav"))) == 11
    words[0] = "evaluate"
    nothing = avse_command(*words, "-o", tmp_path / "none", "--model", "mixture")
    assert "| mixture | 3 talkers |" in nothing.out
    found = json.loads((tmp_path / "none" / "summary.json").read_text())["groups"]["all"]
    assert found["si_sdr_improvement"]["mean"] == pytest.approx(0.0, abs=1e-6)
    wrong = avse_command(*words, "-o", tmp_path / "wrong", "--model", speakers_model, "--speakers", "oracle")
    assert "none of the speakers" in wrong.message
    again = avse_command(*words, "-o", tmp_path / "again", "--model", "mixture", "--jobs", 2, "--no-estimates")
    assert again.status == nothing.status
    before, after = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("none", "again"))
    assert before["groups"] == after["groups"]
    kept = (tmp_path / "again" / "scores.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "again" / "scores.csv").write_bytes(b"".join(kept[:4]))  # one mixture, and half of the next
    avse_command(*words, "-o", tmp_path / "again", "--model", "mixture", "--no-estimates")
    assert [line.split(b",")[:12] for line in (tmp_path / "again" / "scores.csv").read_bytes().splitlines()] == [
        line.split(b",")[:12] for line in kept
    ]
    both = avse_command("compare", tmp_path / "again", scores, "-o", tmp_path / "compared")
    assert both.status == 0, both.err
    compared = json.loads((tmp_path / "compared" / "compare.json").read_text())
    [differences] = compared["metrics"]["si_sdr_improvement"]["differences"].values()
    mean = summary["groups"]["all"]["si_sdr_improvement"]["mean"]
    assert differences["overall"]["mean"] == pytest.approx(mean, abs=1e-4) and differences["overall"]["n"] == 11
    assert set(differences["by_condition"]) == {"2 talkers", "3 talkers"}
    mixed = avse_command("scenes", corpus, "-o", scenes, "--condition", "separation", "--condition", "babble")
    assert "of their own" in mixed.message
    few = avse_command("scenes", corpus, "-o", scenes, "--split", "test", "--condition", "separation4")
    assert "needs as many speakers" in few.message


def test_scores_of_a_known_case() -> None:
    import torch

    rng = np.random.default_rng(0)
    clean = speakers_at_one_level(list(rng.standard_normal((2, 16_000))))
    states = torch.zeros(2, 25, 2)
    states[0, :, 0], states[1, :20, 0], states[1, 20:, 1] = 1.0, 1.0, 1.0
    swapped = clean[[1, 0]] + 0.01 * clean
    found = Estimate(
        torch.from_numpy(swapped), torch.zeros(16_000), torch.zeros(2, 25), responsibility=states, states=("a", "b")
    )
    rows = separation_scores(swapped, clean)
    assert [row["wrong_speaker"] for row in rows] == [1.0, 1.0]
    assert [switch_accuracy(found, place, name, clean[place]) for place, name in enumerate("ab")] == [1.0, 0.2]
    assert all(row["sir"] < -10 for row in rows)
    right = clean + 0.1 * clean[::-1]
    assert [round(row["sir"]) for row in separation_scores(right, clean)] == [20, 20]
    improvement = plugins.get("metric", "si_sdr_improvement")()
    assert improvement(right[0], clean[0], clean.sum(axis=0)) > 15
    assert switch_accuracy(Estimate(found.speech, found.noise, found.reliability), 0, "a", clean[0]) is None


def test_the_baseline_knows_voices_by_their_spectra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avse.data.audio import write_audio

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from nmf_separation import NMFBaseline

    rng = np.random.default_rng(0)
    low, high = (np.fft.irfft(np.fft.rfft(rng.standard_normal((4, 16_000))) * band, 16_000)
                 for band in (np.arange(8001) < 3000, np.arange(8001) > 3000))  # fmt: skip
    lines = ["id,clean,speaker,split,kind"]
    for name, sounds in (("low", low), ("high", high)):
        for number in (0, 1):
            write_audio(tmp_path / f"{name}{number}.wav", sounds[number].astype(np.float32))
            lines.append(f"{name}{number},{name}{number}.wav,{name},test,speech")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    clean = speakers_at_one_level([low[2], high[2]])
    mixture = clean.sum(axis=0)
    baseline = NMFBaseline(tmp_path / "manifest.csv", rank=4, iterations=30)
    found = baseline.separate_clips([Clip(mixture, clip_id=f"{name}2", speaker=name) for name in ("low", "high")])
    improvement = plugins.get("metric", "si_sdr_improvement")()
    assert min(improvement(found.speech[place].numpy(), clean[place], mixture) for place in (0, 1)) > 10
    with pytest.raises(AvseError, match="no other clip"):
        baseline.separate_clips([Clip(mixture, clip_id="x", speaker=name) for name in ("low", "nobody")])


def test_scene_files_of_the_recipes_can_be_read() -> None:
    for name in ("dev", "seen", "unseen"):
        scenes, _ = read_scenes(ROOT / "recipes" / "Manifest" / "separation" / "scenes" / f"{name}.csv")
        assert {len(one.targets) for one in scenes} == {2, 3} and {one.snr for one in scenes} == {None, 5.0}

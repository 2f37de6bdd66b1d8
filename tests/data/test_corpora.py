"""Corpora in their own layouts, made by code: prepared, mixed, trained on; and what goes wrong with them."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from avse import plugins, progress
from avse.data.audio import read_audio, write_audio
from avse.data.manifest import check_splits, read_manifest
from avse.data.rooms import MeasuredRooms
from avse.data.scenes import read_scenes
from avse.datasets.corpus import Corpus, Files, read_text, seconds_of
from avse.datasets.tcd_timit import mouths_of
from avse.errors import AvseError

KINDS = ["speech", "noise", "room", "scene"]
NAMES = [name for name in plugins.names("dataset") if issubclass(plugins.get("dataset", name), Corpus)]


def corpus(name: str, **arguments: object) -> Corpus:
    return plugins.get("dataset", name)(**arguments)


def clips(cls: Corpus) -> list[str]:
    """The clips of the example: what one more copy or a broken file is told of."""
    pattern = re.compile(f"(?:^|.*/){cls.layout}")
    return [name for name in cls.tree if pattern.fullmatch(name)]


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_copied_and_renamed_file_is_told(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = corpus(name)
    made.write_example(tmp_path)
    before = len(read_manifest(made.prepare(tmp_path), kinds=KINDS))
    first, last = clips(made)[0], clips(made)[-1]
    copy = tmp_path / "zz_copy" / first
    copy.parent.mkdir(parents=True)
    shutil.copy(tmp_path / first, copy)
    renamed = (tmp_path / last).with_name("renamed" + Path(last).suffix)
    shutil.copy(tmp_path / last, renamed)
    (tmp_path / last).write_bytes(b"no media")
    with caplog.at_level("WARNING", logger="avse"):
        left = read_manifest(made.prepare(tmp_path), kinds=KINDS)
    assert len(left) <= before and "cannot be used" in caplog.text and Path(last).name in caplog.text
    assert "zz_copy" in caplog.text, "the copy is told"
    if made.suffixes and name not in ("dns_noise", "wham", "openslr28", "but_reverbdb", "muavic"):
        assert "renamed" in caplog.text
    check_splits(left)


@pytest.mark.parametrize("name", ["lrs2", "grid", "synthetic"])
def test_processes_prepare_what_one_does(name: str, tmp_path: Path, avse_command: Callable) -> None:
    cls = plugins.get("dataset", name)
    options = [
        str(word)
        for key, value in cls.example_arguments().items()
        for word in (f"--{key}", list(value) if isinstance(value, tuple) else value)
    ]
    written = []
    for jobs in (1, 2):
        folder = tmp_path / f"{jobs}"
        cls.write_example(folder)
        assert avse_command("prepare", name, folder, "--jobs", jobs, *options).status == 0
        written.append((folder / "manifest.csv").read_text())
    assert written[0] == written[1] and len(written[0].splitlines()) > 3


def test_a_job_without_a_terminal_tells_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 10.0, 31.0, 32.0, 65.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress_bar("Verifying") as show:
        for done in (51, 61, 62, 75):  # an earlier run did 50
            show(done, 100)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Verifying: 61 of 100, 0.355/s, 2 minutes left" and second.startswith("Verifying: 75 of 100")


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_folder_is_told_and_stays_as_it_is(name: str, tmp_path: Path) -> None:
    made = corpus(name)
    (tmp_path / "other").mkdir()
    for suffix in (".mp4", ".wav", ".mov"):
        (tmp_path / "other" / f"holiday{suffix}").write_bytes(b"x")
    with pytest.raises(AvseError, match="Looked for files such as|lacks"):
        made.prepare(tmp_path, tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()
    made.write_example(tmp_path)
    for clip in clips(made):
        (tmp_path / clip).write_bytes(b"")
    with pytest.raises(AvseError, match="0 clips of"):
        made.prepare(tmp_path, tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


def test_lists_tell_what_is_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, target in (("lrs2", "test.txt"), ("avspeech", "avspeech_test.csv"), ("esc50", "meta/esc50.csv")):
        made, folder = corpus(name), tmp_path / name
        made.write_example(folder)
        line = {
            "lrs2": "99/00009 NF\n",
            "avspeech": "zzzzzzzzzzz,3.5,5,.5,.5\n",
            "esc50": "5-1-A-0.wav,5,0,dog,1,1,A\n",
        }
        with open(folder / target, "a") as file:
            file.write(line[name])
        caplog.clear()
        with caplog.at_level("WARNING", logger="avse"):
            made.prepare(folder)
        assert "1 are listed and not there: " in caplog.text, name


def test_splits_text_and_columns(tmp_path: Path) -> None:
    rows = {}
    for name in NAMES:
        made = corpus(name)
        made.write_example(tmp_path / name)
        rows[name] = {row.id: row for row in read_manifest(made.prepare(tmp_path / name), kinds=KINDS)}
        assert all(row.extra["licence"] and row.dataset == name and row.duration for row in rows[name].values())
    split = lambda name: {one: row.split for one, row in rows[name].items()}
    assert split("tcd_timit") == {"01M/sa1": "train", "06M/sa1": "dev", "09F/sa1": "test"}
    other = corpus("tcd_timit", dev=[], test=["01M"]).prepare(tmp_path / "tcd_timit", tmp_path / "other.csv")
    assert [row.split for row in read_manifest(other)] == ["test", "train", "train"]
    assert split("lrs2") == {f"main/{n}/00001": s for n, s in ((55, "train"), (56, "dev"), (57, "test"))}
    assert rows["lrs2"]["main/55/00001"].text == rows["lrs3"]["test/0c/00001"].text == "bin blue at f two now"
    assert rows["muavic"]["ar/a_1"].text == "marhaban" and rows["muavic"]["ar/c_1"].split == "dev"
    noisy = rows["ntcd_timit"]["Babble/-5/09F/sa1"]
    assert noisy.snr == -5 and noisy.label == "babble" and noisy.clean.parent.parent.parent.parent.name == "Clean"
    scene = rows["avsec4"]["train/S1"]
    assert (
        scene.snr == -3.5 and scene.speaker == "avsec_talk" and scene.noise and rows["avsec4"]["eval/S3"].clean is None
    )
    assert rows["voxceleb2"]["id00012/aaaaaaaaaaa/00001"].extra["sex"] == "male"
    assert rows["lombard_grid"]["s2_l_bbim3a"].clean.suffix == ".wav" and rows["lombard_grid"]["s3_p_bbim3a"].text
    assert {row.recording for row in rows["but_reverbdb"].values()} == {"but_VUT_FIT_L207"}
    assert rows["openslr28"]["air_type1_air_binaural_office_0_1"].recording == "air_office"
    told = {row.id: (row.split, row.text, row.video is not None) for row in rows["audiocaps"].values()}
    assert told == {
        "aaaaaaaaaaa_130": ("train", "Rain on a roof", False),
        "bbbbbbbbbbb_30": ("dev", "A dog barks", False),
        "ccccccccccc_0": ("test", "Wind", True),
    }
    assert list(rows["demand"]) == ["DKITCHEN", "NFIELD", "TBUS"], "one channel of each place"


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("sounds/ccccccccccc.flac", False),
        ("a/b/Yccccccccccc_0.000_10.000.wav", False),
        ("ccccccccccc_0_10.mp4", True),
        ("ccccccccccc_0000.wav", False),
    ],
)
def test_names_of_audiocaps_clips(name: str, seen: bool, tmp_path: Path) -> None:
    made = corpus("audiocaps")
    made.write_example(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    whole = tmp_path / "test/9.mp4"
    if seen:
        whole.rename(tmp_path / name)
        write_audio((tmp_path / name).with_suffix(".wav"), np.zeros(800))
    else:
        whole.unlink()
        write_audio(tmp_path / name, np.zeros(800))
    [row] = [row for row in read_manifest(made.prepare(tmp_path), kinds=KINDS) if row.split == "test"]
    assert row.id == "ccccccccccc_0" and row.text == "Wind" and (row.video is not None) == seen
    assert row.noise.suffix == (".wav" if seen else Path(name).suffix)
    (tmp_path / "test.csv").write_text("id,words\n1,2\n")
    with pytest.raises(AvseError, match="lacks the columns"):
        made.prepare(tmp_path)


def test_half_of_ntcd_timit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = corpus("ntcd_timit", with_noise=True, snrs=[0], noises=["Car"])
    made.write_example(tmp_path)
    speech = np.random.default_rng(0).standard_normal(6400).astype(np.float32) * 0.1
    noise = np.random.default_rng(1).standard_normal(6400).astype(np.float32) * 0.1
    write_audio(tmp_path / "Clean/volunteers/01M/straightcam/sa1.wav", speech)
    for name in ("sa1", "sa2"):
        write_audio(tmp_path / f"Car/0/volunteers/01M/straightcam/{name}.wav", 0.5 * speech + noise)
    # A mouth that is bright at the top, as the corpus has it: turned, and by its cosine transform.
    mouth = np.outer(np.linspace(1, 0, 67), np.ones(67)) * np.ones((12, 1, 1))
    transform = scipy.fft.dctn(np.rot90(mouth, 1, axes=(1, 2)), axes=(1, 2))
    (tmp_path / "matlab_raw/train/01M").mkdir(parents=True)
    scipy.io.savemat(tmp_path / "matlab_raw/train/01M/sa1Raw.mat", {"roi": transform.reshape(12, -1)})
    with caplog.at_level("WARNING", logger="avse"):
        rows = {row.id: row for row in read_manifest(made.prepare(tmp_path))}
    assert "its clean file Clean/volunteers/01M/straightcam/sa2.wav is absent" in caplog.text
    assert mouths_of(tmp_path / "matlab_raw/train/01M/sa1Raw.mat")[5, 0, 30] == 255
    video = rows["Clean/01M/sa1"].video
    assert video == rows["Car/0/01M/sa1"].video and video.parts[-3:] == ("mouth_88", "01M", "sa1.mp4")
    rest = read_audio(rows["noise/Car/0/01M/sa1"].noise)
    assert np.corrcoef(rest, noise)[0, 1] > 0.99 and abs(rest @ speech) / (speech @ speech) < 1e-3


def test_mixtures_of_voxceleb2(tmp_path: Path, avse_command) -> None:
    made = corpus("voxceleb2", mixtures="list.csv")
    made.write_example(tmp_path)
    for clip in ("test/mp4/id00020/ccccccccccc/00002.mp4",):
        (tmp_path / clip).parent.mkdir(parents=True)
        shutil.copy(tmp_path / "dev/mp4/id00012/aaaaaaaaaaa/00001.mp4", tmp_path / clip)
    line = "test,test,id00020,ccccccccccc/00002,0,test,id00017,bbbbbbbbbbb/00001,-2.5,0.32\n"
    (tmp_path / "list.csv").write_text(line)
    manifest = made.prepare(tmp_path)
    assert [row.id for row in read_manifest(manifest)] == ["id00017/bbbbbbbbbbb/00001", "id00020/ccccccccccc/00002"]
    [scene] = read_scenes(tmp_path / "list.test.csv")[0]
    assert (scene.snr, scene.condition, len(scene.spans[0])) == (2.5, "babble1", 8)
    outcome = avse_command("mix", tmp_path / "list.test.csv", "--manifest", manifest, "-o", tmp_path / "mixed")
    assert outcome.status == 0, outcome.err
    [row] = read_manifest(tmp_path / "mixed" / "manifest.csv")
    assert row.speaker == "id00020" and seconds_of(row.noisy) == 0.32
    (tmp_path / "list.csv").write_text("test,id1,0\n")
    with pytest.raises(AvseError, match=r"list.csv:1: is no line"):
        made.prepare(tmp_path)


def test_measured_rooms(tmp_path: Path) -> None:
    made = corpus("but_reverbdb")
    made.write_example(tmp_path)
    response = np.zeros(1600, np.float32)
    response[[200, 520]] = -0.8, 0.4
    write_audio(next(tmp_path.glob("**/RIR/*.wav")), response)
    rooms = MeasuredRooms(made.prepare(tmp_path), share=1.0)
    speech = np.random.default_rng(0).standard_normal(4000)
    reverberant, early = rooms.draw(np.random.default_rng(0)).target(speech)
    expected = speech - 0.5 * np.r_[np.zeros(320), speech[:-320]]
    assert np.allclose(reverberant, expected, atol=1e-5) and np.allclose(early, expected, atol=1e-5)
    with pytest.raises(AvseError, match="no rows of kind room in the split dev"):
        MeasuredRooms(tmp_path / "manifest.csv", share=1.0, split="dev").draw(np.random.default_rng(0))


def test_text_in_latin_1_and_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Text:  caf\xe9".encode("latin-1"))
    (tmp_path / "._a.txt").write_bytes(b"\0")
    assert read_text(tmp_path / "a.txt") == "Text:  café" and list(Files(tmp_path).paths) == ["a.txt"]


@pytest.mark.slow
def test_prepared_mixed_trained_resumed_and_scored(tmp_path: Path, avse_command) -> None:
    """The whole way on TCD-TIMIT with the noises of DEMAND, in the layouts of both."""
    made = plugins.get("dataset", "synthetic")(clips=6, speakers=6, noises=5, seconds=(1.2, 1.3), noise_seconds=1.4)
    rows = read_manifest(made.prepare(tmp_path / "made"))
    videos, noises = [row.video for row in rows if row.video], [row.noise for row in rows if row.kind == "noise"]
    tcd, demand = tmp_path / "TCD-TIMIT", tmp_path / "DEMAND"
    for speaker, video in zip(("01M", "02M", "03F", "06M", "09F", "24M"), videos):
        target = tcd / "volunteers" / speaker / "Clips" / "straightcam" / "sa1.mp4"
        target.parent.mkdir(parents=True)
        shutil.copy(video, target)
    for place, noise in zip(("DKITCHEN", "NPARK", "PSTATION", "TBUS", "TMETRO"), noises):
        (demand / place).mkdir(parents=True)
        shutil.copy(noise, demand / place / "ch01.wav")

    def run(*words: object) -> None:
        outcome = avse_command(*words)
        assert outcome.status == 0, outcome.err

    run("prepare", "tcd_timit", tcd)
    run("prepare", "demand", demand)
    lists = tcd / "manifest.csv", demand / "manifest.csv"
    options = ("--condition", "recorded", "--snr", "0")
    run("scenes", lists[0], "--with", lists[1], "-o", tmp_path / "test.csv", *options)
    run("mix", tmp_path / "test.csv", "--manifest", lists[0], "--with", lists[1], "-o", tmp_path / "test")
    with open(tmp_path / "test" / "manifest.csv") as file:
        assert {row["speaker"] for row in csv.DictReader(file)} == {"tcd_09F", "tcd_24M"}
    small = "--model.channels 16 --visual_frontend.output_dim 8 --visual_frontend.channels [4] --model.blocks 2"
    small += " --model.fusion_block 1 --train_set.seconds 0.6 --valid_set.seconds 0.6 --batch_size 2 --valid_size 2"
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "TCD-TIMIT" / "hparams" / "tf_masker.yaml"
    for epochs in (1, 2):
        run(
            "train", recipe, *small.split(), "--manifest", f"[{lists[0]}, {lists[1]}]", "--epochs", epochs,
            "--steps_per_epoch", 2, "--warmup_steps", 1, "--cache_folder", tmp_path / "cache", "--output_folder",
            tmp_path / "run", "--no-progress", "--device", "cpu",
        )  # fmt: skip
    run("evaluate", "--manifest", tmp_path / "test" / "manifest.csv", "--model", tmp_path / "run", "-o", tmp_path / "s")
    assert (tmp_path / "s" / "scores.csv").is_file()

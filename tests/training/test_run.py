"""Runs: exact resume, several processes, what a run folder holds, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import avse
from avse import plugins
from avse.data.manifest import read_manifest, write_manifest
from avse.data.shards import write_shards
from avse.data.training_set import MixtureSet
from avse.errors import AvseError
from avse.files import locked
from avse.training import train
from avse.training.brain import averaging
from avse.training.run import _RunLog

pytestmark = pytest.mark.slow


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    [checkpoint] = sorted((folder / "save").glob("CKPT*"), key=lambda path: path.name)[-1:]
    return torch.load(checkpoint / "model.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def finished(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    return train(small_recipe, {"output_folder": str(folder)}, device="cpu", progress=False)


def test_a_run_folder_holds_what_is_needed_to_repeat_and_use_it(finished: Path) -> None:
    assert {"recipe.yaml", "environment.json", "train_log.txt", "scores.json", "save", "model"} <= {
        path.name for path in finished.iterdir()
    }
    assert json.loads((finished / "environment.json").read_text())["packages"]["speechbrain"]
    assert "si_sdr_improvement_without_video" in json.loads((finished / "scores.json").read_text())
    model = avse.load(finished)
    assert model.enhance(np.ones(3200, dtype=np.float32)).speech.shape == (3200,)


@pytest.mark.parametrize("killed_at", [3, 7, 11])
def test_a_killed_run_ends_where_an_uninterrupted_one_does(
    killed_at: int, small_recipe: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    drawn = 0
    original = MixtureSet.__getitem__

    def dies(self: MixtureSet, index: int):
        nonlocal drawn
        drawn += self.size == 8
        if drawn > killed_at:
            raise KeyboardInterrupt
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(MixtureSet, "__getitem__", dies)
        with pytest.raises(KeyboardInterrupt):
            train(small_recipe, {"output_folder": str(folder)}, device="cpu", progress=False)
    train(small_recipe, {"output_folder": str(folder)}, device="cpu", progress=False)
    one, other = _weights(finished), _weights(folder)
    assert all(torch.equal(one[name], other[name]) for name in one)
    best = [safetensors.torch.load_file(path / "model" / "model.safetensors") for path in (finished, folder)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


_SIGNALLED = """
import os, signal, sys
NAME = sys.argv.pop()
from avse.training.supervised import SupervisedBrain
forward, steps = SupervisedBrain.compute_forward, 0
def signalled(self, batch, stage):
    global steps
    steps += stage.name == "TRAIN"
    if steps == 3 and stage.name == "TRAIN":
        os.kill(os.getpid(), getattr(signal, NAME))
    return forward(self, batch, stage)
SupervisedBrain.compute_forward = signalled
from avse.cli.app import main
main()
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_saves_after_the_step_and_the_run_says_where_it_goes_on(
    name: str, status: int, small_recipe: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "stopped"
    options = ["train", small_recipe, "--output_folder", folder, "--device", "cpu", "--no-progress"]
    options += ["--ckpt_interval_steps", "0"]
    words = [sys.executable, "-c", _SIGNALLED, *map(str, options), name]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
    assert "Saved after step 3." in done.stdout
    train(small_recipe, {"output_folder": str(folder)}, device="cpu", progress=False)
    assert "Going on after step 3 of 8." in capsys.readouterr().out
    one, other = _weights(finished), _weights(folder)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_runs_in_one_folder_are_refused(small_recipe: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(AvseError, match="another run is writing there"):
        train(small_recipe, {"output_folder": str(tmp_path)}, device="cpu", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_recipe_in_the_run_folder_is_not_replaced(small_recipe: Path, tmp_path: Path) -> None:
    recipe = Path(shutil.copy(small_recipe, tmp_path / "recipe.yaml"))
    before = recipe.read_bytes()
    with pytest.raises(AvseError, match="input itself"):
        train(recipe, {"output_folder": str(tmp_path)}, device="cpu", progress=False)
    assert recipe.read_bytes() == before


def test_a_split_without_speech_is_named(small_recipe: Path, tmp_path: Path) -> None:
    rows = read_manifest(small_recipe.with_name("manifest.csv"))
    write_manifest([row for row in rows if row.split != "dev" or row.kind == "noise"], tmp_path / "few.csv")
    given = {"output_folder": str(tmp_path / "run"), "manifest": str(tmp_path / "few.csv")}
    with pytest.raises(AvseError, match="split dev: this split of the manifest has no clean speech"):
        train(small_recipe, given, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", "nan"),
        ("batch_size", 0),
        ("ema_decay", 1.5),
        ("max_grad_norm", ".nan"),
        ("seed", -1),
    ],
)
def test_numbers_out_of_range_are_refused(key: str, value: object, small_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(AvseError, match=f"--{key} must be "):
        train(small_recipe, {"output_folder": str(tmp_path / "run"), key: value}, device="cpu", progress=False)
    assert not list(tmp_path.iterdir())


def test_training_learns(finished: Path, small_recipe: Path, tmp_path: Path) -> None:
    overrides = {"output_folder": str(tmp_path), "epochs": 4, "steps_per_epoch": 15, "optimizer.lr": 0.01}
    folder = train(small_recipe, overrides, device="cpu", progress=False)
    losses = [
        float(line.split("train loss: ")[1].split(" ")[0])
        for line in (folder / "train_log.txt").read_text().splitlines()
    ]
    assert losses[-1] < losses[0] - 1.0


def test_the_average_follows_a_short_run(small_recipe: Path, finished: Path) -> None:
    [checkpoint] = sorted((finished / "save").glob("CKPT*"))[-1:]
    averaged = torch.load(checkpoint / "averaged.ckpt", weights_only=True)
    assert int(averaged["n_averaged"]) == 8
    slow, fast = [torch.zeros(1)], [torch.zeros(1)]
    for count in range(1, 5):
        averaging(0.999)(slow, [torch.ones(1)], count)
        averaging(0.1)(fast, [torch.ones(1)], count)
    expected = 1 - np.prod([(1 + count) / (10 + count) for count in range(1, 5)])
    assert slow[0].item() == pytest.approx(expected) and fast[0].item() == pytest.approx(1 - 0.1**4)


def test_the_best_model_is_chosen_by_the_scores_that_are_named(small_recipe: Path, tmp_path: Path) -> None:
    names = ["si_sdr_improvement_without_video", "-loss"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(small_recipe.read_text() + f"choose_by: [{', '.join(names)}]\n")
    folder = train(recipe, {"output_folder": str(tmp_path / "run"), "epochs": 3}, device="cpu", progress=False)
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["choice"] == pytest.approx(-(scores[names[0]] - scores["loss"]) / 2)
    lines = (folder / "train_log.txt").read_text().splitlines()
    choices = [float(line.split("valid choice: ")[1].split(",")[0]) for line in lines]
    assert scores["choice"] == pytest.approx(min(choices), rel=0.01) and scores["epoch"] == 1 + np.argmin(choices)


def _torchrun(
    program: list[str], options: list[object], folder: Path, processes: int, nodes: int = 1, epochs: int = 2
) -> list[tuple[int, str]]:
    """Status and output of each launcher of `avse train`, of as many as there are nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--nnodes", str(nodes)]
    launch = [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node", str(processes // nodes)]
    words = ["train", *options, "--output_folder", folder, "--epochs", epochs, "--device", "cpu", "--no-progress"]
    command = [*launch, *program, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(nodes)]
    try:
        printed = [one.communicate(timeout=300)[0] for one in started]
        return [(one.returncode, text) for one, text in zip(started, printed)]
    finally:
        for one in started:
            one.kill()


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_train_together(nodes: int, small_recipe: Path, tmp_path: Path) -> None:
    """On one machine, and as two machines would, each with a launcher of its own."""
    done = _torchrun(["-m", "avse"], [small_recipe], tmp_path / "two", 2, nodes, epochs=1)
    assert all(status == 0 for status, _ in done), done
    assert avse.load(tmp_path / "two").enhance(np.ones(640, dtype=np.float32)).speech.shape == (640,)


_DRAWN = """
import os, sys
from avse.data.training_set import MixtureSet
LIMIT, LOG = int(os.environ["DRAWS"]), os.environ["LOG"]
item, drawn = MixtureSet.__getitem__, 0
def logged(self, index):
    global drawn
    if self.size > 2:
        drawn += 1
        if drawn > LIMIT:
            os._exit(9)
        with open(LOG, "a") as file:
            file.write(f"{self.epoch} {index}\\n")
    return item(self, index)
MixtureSet.__getitem__ = logged
from avse.cli.app import main
main()
"""


def test_three_processes_draw_uneven_shards_once_and_go_on_in_mid_epoch(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every item of every epoch is drawn once, and a run that is killed ends where an uninterrupted one does."""
    corpus = plugins.get("dataset", "synthetic")(clips=5, speakers=5, noises=4, seconds=(0.6, 0.7), noise_seconds=0.8)
    manifest = corpus.prepare(tmp_path / "corpus")
    shards = write_shards(manifest, tmp_path / "shards", cache_folder=tmp_path / "cache", megabytes=0.3)
    shutil.rmtree(manifest.parent)
    sizes = [path.stat().st_size for path in shards.parent.glob("*.tar")]
    assert len(sizes) > 1 and max(sizes) != min(sizes)
    script = tmp_path / "drawn.py"
    script.write_text(_DRAWN)
    options = [small_recipe, "--manifest", shards, "--batch_size", 3, "--ckpt_interval_steps", 1]
    log, each = tmp_path / "whole.txt", sorted(f"{epoch} {index}" for epoch in (1, 2) for index in range(12))
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("DRAWS", "99")
    [(status, printed)] = _torchrun([str(script)], options, tmp_path / "whole", 3)
    assert status == 0, printed[-2000:]
    assert sorted(log.read_text().splitlines()) == each
    monkeypatch.setenv("DRAWS", "6")  # of each process: in the middle of the second epoch
    [(status, _)] = _torchrun([str(script)], options, tmp_path / "killed", 3)
    assert status
    log.unlink()
    monkeypatch.setenv("DRAWS", "99")
    [(status, printed)] = _torchrun([str(script)], options, tmp_path / "killed", 3)
    assert status == 0 and "Going on after step 6 of 8." in printed, printed[-2000:]
    rest = {f"2 {index}" for index in range(6, 12)}
    assert rest == set(log.read_text().splitlines()), "the rest of the second epoch"
    one, other = _weights(tmp_path / "whole"), _weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    [(status, printed)] = _torchrun([str(script)], [small_recipe, "--batch_size", 4], tmp_path / "no", 3)
    assert status and "give a multiple of the 3 processes" in " ".join(printed.split())


def test_processes_share_the_batches_of_one(small_recipe: Path, tmp_path: Path) -> None:
    """What is learned depends on the number of processes by rounding alone."""
    done = _torchrun(["-m", "avse"], [small_recipe], tmp_path / "two", 2)
    assert done[0][0] == 0, done
    train(small_recipe, {"output_folder": str(tmp_path / "one")}, device="cpu", progress=False)
    one, two = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_a_run_is_quiet_about_torchvision_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, "speechbrain.utils.train_logger", raising=False)
    log = _RunLog(tmp_path)
    log.log_stats({"epoch": 1}, train_stats={"loss": 1.0}, valid_stats={"loss": 2.0})
    logging.getLogger("speechbrain.utils.train_logger").warning("torchvision is mentioned")
    assert "torchvision is not available" not in caplog.text and "torchvision is mentioned" in caplog.text
    assert "epoch: 1" in (tmp_path / "train_log.txt").read_text()


def test_another_recipe_in_the_same_folder_is_refused(small_recipe: Path, finished: Path) -> None:
    with pytest.raises(AvseError, match="channels"):
        train(small_recipe, {"output_folder": str(finished), "channels": 32}, device="cpu", progress=False)


def test_initial_weights_fit_by_name(small_recipe: Path, finished: Path, tmp_path: Path) -> None:
    overrides = {"output_folder": str(tmp_path), "fusion": "film", "initial_weights": str(finished), "epochs": 1}
    overrides |= {"optimizer.lr": 0.0, "optimizer.weight_decay": 0.0}
    folder = train(small_recipe, overrides, device="cpu", progress=False)
    start, end = (safetensors.torch.load_file(run / "model" / "model.safetensors") for run in (finished, folder))
    assert torch.equal(start["encoder.weight"], end["encoder.weight"])
    with pytest.raises(AvseError, match="holds no model"):
        train(small_recipe, {"output_folder": str(tmp_path / "no"), "initial_weights": "nowhere"}, device="cpu")


def test_a_training_starts_from_weights_in_8_bits_and_says_what_they_learned_from(
    small_recipe: Path, finished: Path, tmp_path: Path
) -> None:
    told = avse.load(finished)
    [own] = [one for one in told.description["training_data"] if one["kind"] == "faces"]
    assert own["clips"] > 0 and own["licence"] == "not stated"
    before = {"dataset": "other", "kind": "speech", "licence": "CC0"}
    told.save(tmp_path / "start", description={"training_data": [before]}, bits=8)
    overrides = {"output_folder": str(tmp_path / "run"), "initial_weights": str(tmp_path / "start"), "epochs": 1}
    overrides |= {"optimizer.lr": 0.0, "optimizer.weight_decay": 0.0}
    folder = train(small_recipe, overrides, device="cpu", progress=False)
    start, end = (safetensors.torch.load_file(run / "model" / "model.safetensors") for run in (finished, folder))
    assert torch.allclose(start["encoder.weight"], end["encoder.weight"], atol=0.01)
    assert before in avse.load(folder).description["training_data"]

"""Priors in training: warm-up of the divergence, what is logged, exact resume, collapse, and the exported system."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import avse
from avse.conformance import example_batch, seeded
from avse.data.speech_set import SpeechSet
from avse.priors.vae.base import VariationalPrior
from avse.priors.vae.vae import VAE
from avse.training import train
from avse.training.prior import UnitUsage

pytestmark = pytest.mark.slow

SYSTEM = """
model: !new:avse.plugins.prior.av_vae
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    hidden_dim: !ref <channels>
    latent_dim: 4
    fft_size: 640
inference: !new:avse.plugins.inference.langevin
    prior: !ref <model>
    noise_model: !new:avse.plugins.noise_model.nmf
    iterations: 2
kl_warmup_steps: 6
"""


@pytest.fixture(scope="module")
def recipe(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe with a prior in place of the masker and its loss."""
    text = small_recipe.read_text().replace("training_set.MixtureSet", "speech_set.SpeechSet")
    before, rest = text.split("model: !new:", 1)
    text = before + SYSTEM + "optimizer:" + rest.split("optimizer:", 1)[1]
    path = tmp_path_factory.mktemp("prior") / "recipe.yaml"
    path.write_text(text)
    return path


def _train(recipe: Path, folder: Path, **overrides: object) -> Path:
    return train(recipe, {"output_folder": str(folder), **overrides}, device="cpu", progress=False)


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    return _train(recipe, tmp_path_factory.mktemp("run") / "whole")


def test_the_exported_system_is_the_inference_around_the_averaged_prior(finished: Path) -> None:
    system = avse.load(finished).system
    assert system.plugin_name == "langevin"
    checkpoints = sorted((finished / "save").glob("CKPT*"), key=lambda path: path.name)
    epochs = {json.loads((finished / "scores.json").read_text())["epoch"]: checkpoints[-1]}
    if 2 in epochs:  # the last epoch was the best, and its checkpoint is the last one
        averaged = torch.load(checkpoints[-1] / "averaged.ckpt", weights_only=True)
        assert torch.equal(averaged["module.power_in.weight"], system.prior.power_in.weight)
    estimate = avse.load(finished).enhance(np.random.default_rng(0).normal(0, 0.1, 3200))
    assert estimate.speech.shape == (3200,) and bool(torch.isfinite(estimate.speech).all())


def test_a_run_starts_from_the_prior_inside_another_runs_inference(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    overrides = {"output_folder": str(tmp_path), "fusion": "film", "initial_weights": str(finished), "epochs": 1}
    overrides |= {"optimizer.lr": 0.0, "optimizer.weight_decay": 0.0}
    folder = train(recipe, overrides, device="cpu", progress=False)
    start, end = (safetensors.torch.load_file(run / "model" / "model.safetensors") for run in (finished, folder))
    assert torch.equal(start["prior.power_in.weight"], end["prior.power_in.weight"])


def test_validation_tells_of_the_video_and_of_the_latent_units(finished: Path) -> None:
    scores = json.loads((finished / "scores.json").read_text())
    assert {"loss_without_video", "nll", "nll_without_video", "prior_nll"} <= scores.keys()
    assert 0 <= scores["active_units"] <= 4
    assert scores["divergence_of_median_unit"] <= scores["divergence_of_largest_unit"] <= scores["divergence"]


def test_a_killed_run_ends_where_an_uninterrupted_one_does(
    recipe: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = 0
    original = SpeechSet.__getitem__

    def dies(self: SpeechSet, index: int):
        nonlocal drawn
        drawn += self.size == 8
        if drawn > 11:
            raise KeyboardInterrupt
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(SpeechSet, "__getitem__", dies)
        with pytest.raises(KeyboardInterrupt):
            _train(recipe, tmp_path / "killed")
    _train(recipe, tmp_path / "killed")
    one, two = (safetensors.torch.load_file(run / "model/model.safetensors") for run in (finished, tmp_path / "killed"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_divergence_gains_its_weight_step_by_step_and_validation_has_all_of_it(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[tuple[bool, float]] = []
    original = VariationalPrior.loss

    def notes(self: VariationalPrior, batch: avse.Batch):
        weights.append((self.training, self.kl_weight))
        return original(self, batch)

    monkeypatch.setattr(VariationalPrior, "loss", notes)
    _train(recipe, tmp_path / "run")
    assert [round(6 * weight, 6) for training, weight in weights if training] == [1, 2, 3, 4, 5, 6, 6, 6]
    assert {weight for training, weight in weights if not training} == {1.0}


def test_units_that_follow_the_sound_count_as_active_and_constant_ones_do_not() -> None:
    with seeded(0):
        prior = VAE(latent_dim=4, hidden_dim=8)
    batch = example_batch()
    batch.clean = batch.noisy
    with torch.no_grad():
        prior.posterior.weight.zero_()
        prior.posterior.bias.zero_()
        prior.posterior.weight[0] = 1.0
        prior.posterior.bias[1] = 5.0  # far from the prior, and always the same
    usage = UnitUsage()
    usage.add(prior, batch)
    scores = usage.scores()
    assert scores["active_units"] == 1.0
    assert scores["divergence_of_largest_unit"] == pytest.approx(0.5 * (0.5 + 25 - 1 + np.log(2)))


def test_posterior_collapse_is_told_with_what_to_do(recipe: Path, tmp_path: Path) -> None:
    overrides = {"model.free_bits": 0.0, "optimizer.lr": 0.0, "optimizer.weight_decay": 0.0, "epochs": 1}
    original = VariationalPrior.__init__

    def collapsed(self: VariationalPrior, *arguments: object, **others: object) -> None:
        original(self, *arguments, **others)
        torch.nn.init.zeros_(self.posterior.weight)
        torch.nn.init.zeros_(self.posterior.bias)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setattr(VariationalPrior, "__init__", collapsed)
        _train(
            recipe,
            tmp_path / "run",
            **overrides,
            kl_warmup_steps=1,
            **{"model.visual_frontend": None, "model.fusion": None},
        )
    [message] = [str(one.message) for one in told if "posterior collapse" in str(one.message)]
    assert "0 of 4 latent units" in message and "free_bits" in message

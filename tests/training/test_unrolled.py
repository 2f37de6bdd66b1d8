"""Unrolled inferences in training: what is learned and what stays, the three modes, layers weighed, the saved model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import avse
from avse.conformance import example_batch
from avse.contracts.types import Batch
from avse.errors import AvseError
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF
from avse.priors.vae.vae import VAE
from avse.recipe import load_recipe
from avse.training import train
from avse.training.run import _set_seeds
from avse.training.unrolled import UnrolledLoss

SYSTEM = """
prior: !new:avse.plugins.prior.av_vae
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    hidden_dim: !ref <channels>
    latent_dim: 4
    noisy_encoder_layers: 1
start: !new:avse.plugins.enhancer.tf_masker
    channels: 8
    blocks: 1
    fusion_block: 1
    heads: 1
model: !new:avse.plugins.inference.vem
    prior: !ref <prior>
    noise_model: !new:avse.plugins.noise_model.nmf
    unroll: 2
    learn: [start, exponent, prior_weight]
    tied: false
    start: !ref <start>
loss: !new:avse.training.unrolled.UnrolledLoss
    evidence_weight: 0.1
checkpointing: true
"""


@pytest.mark.slow
def test_training_changes_what_is_learned_and_nothing_else(small_recipe: Path, tmp_path: Path) -> None:
    before, rest = small_recipe.read_text().split("model: !new:", 1)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(before + SYSTEM + "optimizer:" + rest.split("optimizer:", 1)[1])
    folder = train(recipe, {"output_folder": str(tmp_path / "run")}, progress=False)
    trained = avse.load(folder / "model").system
    values = {name: value.flatten().tolist() for name, value in trained.learned.log_ratio.items()}
    assert set(values) == {"exponent", "prior_weight"} and all(len(set(value)) == 2 for value in values.values())
    with torch.random.fork_rng():
        loaded = load_recipe(recipe, {"output_folder": str(tmp_path / "run")}, None)
        _set_seeds(3)
        fresh = loaded.build()["model"]
    initial = fresh.state_dict()
    changed = {name for name, value in trained.state_dict().items() if not torch.equal(value, initial[name])}
    encoder = ("prior.noisy_encoder.", "prior.video_input.fusions.noisy_encoder.")
    assert all(name.startswith(("learned.", "start_network.", *encoder)) for name in changed)
    assert any(name.startswith(encoder) for name in changed) and any(name.startswith("start") for name in changed)


def test_a_plain_inference_has_nothing_to_learn(small_recipe: Path, tmp_path: Path) -> None:
    text = (small_recipe.read_text().split("model: !new:", 1)[0] + SYSTEM).replace(
        "    learn: [start, exponent, prior_weight]\n", ""
    )
    recipe = tmp_path / "recipe.yaml"
    rest = small_recipe.read_text().split("optimizer:", 1)[1]
    recipe.write_text(text + "optimizer:" + rest)
    with pytest.raises(AvseError, match="nothing to learn"):
        train(recipe, {"output_folder": str(tmp_path / "run")}, progress=False)


def _layers(batch: Batch) -> list:
    torch.manual_seed(0)
    prior = VAE(latent_dim=4, hidden_dim=8, fft_size=640, noisy_encoder_layers=1)
    return list(VEM(prior, NMF(rank=2), unroll=3, learn=["start"]).layers(batch))


def test_layers_are_weighed() -> None:
    batch = example_batch((6400, 6400))
    batch.clean = batch.noisy.flip(0)
    layers = _layers(batch)
    whole = UnrolledLoss(evidence_weight=0.5, layer_weights=(1.0, 3.0))
    single = UnrolledLoss(evidence_weight=0.5, layer_weights=(0.0, 1.0))
    one, two, three = (single.of_layers(layers[: last + 1], batch) for last in range(3))
    torch.testing.assert_close(whole.of_layers(layers, batch), (one + two + 3 * three) / 5)


def test_the_evidence_needs_no_clean_speech() -> None:
    layers = _layers(batch := example_batch((6400, 6400)))
    loss = UnrolledLoss(supervised_weight=0.0, evidence_weight=1.0, layer_weights=(0.0, 1.0)).of_layers(layers, batch)
    assert loss.requires_grad and loss.item() == pytest.approx(layers[-1][0].trace[-1], rel=1e-5)

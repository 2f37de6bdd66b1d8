"""Changing parts of a trained system when it is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import avse
from avse.errors import AvseError
from avse.model import Model

RECIPE = """
hidden: 8
visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp {output_dim: 6, hidden_dim: 8, size: 8}
fusion: !new:avse.plugins.fusion.concat {audio_dim: !ref <hidden>, video_dim: 6}
model: !new:avse.plugins.prior.av_vae
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    latent_dim: 3
    hidden_dim: !ref <hidden>
    fft_size: 640
inference: !new:avse.plugins.inference.langevin
    prior: !ref <model>
    noise_model: !new:avse.plugins.noise_model.nmf {rank: 2}
    iterations: 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random prior inside an inference, saved."""
    from avse.recipe import load_recipe

    where = tmp_path_factory.mktemp("system")
    (where / "recipe.yaml").write_text(RECIPE)
    torch.manual_seed(0)
    recipe = load_recipe(where / "recipe.yaml")
    return Model(recipe.build()["inference"], recipe.subrecipe("inference"), "tiny").save(where / "model")


def _sound() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(6400)


def test_an_inference_around_a_prior_is_what_loads(folder: Path) -> None:
    model = avse.load(folder)
    assert model.system.plugin_name == "langevin" and model.system.prior.plugin_name == "av_vae"
    assert model.enhance(_sound()).speech.shape == (6400,)


def test_another_inference_keeps_the_priors_weights(folder: Path, tmp_path: Path) -> None:
    plain = avse.load(folder)
    changed = avse.load(folder, overrides={"inference": "vem", "inference.iterations": 3})
    assert changed.system.plugin_name == "vem" and changed.system.iterations == 3
    for name, weight in plain.system.prior.state_dict().items():
        assert torch.equal(weight, changed.system.prior.state_dict()[name])
    again = avse.load(changed.save(tmp_path / "again"))
    assert again.system.plugin_name == "vem"
    assert torch.equal(again.enhance(_sound()).speech, changed.enhance(_sound()).speech)


def test_a_part_with_frozen_weights_of_its_own_needs_no_training(folder: Path, tmp_path: Path) -> None:
    part = {"inference.noise_model": "prior_nmf"}
    changed = avse.load(folder, overrides=part)
    again = avse.load(changed.save(tmp_path / "again"))
    assert again.system.noise_model.plugin_name == "prior_nmf" and again.system.noise_model.rank == 2
    assert torch.equal(again.enhance(_sound()).speech, changed.enhance(_sound()).speech)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"model.latent_dim": 5}, "do not fit"),
        ({"fusion": "film"}, "need no training"),
        ({"inferenc": "vem"}, "Did you mean 'inference'"),
        ({"inference": "!new:os.system"}, r"os\.system"),
        ({"inference": "nothing"}, "There is no inference plugin"),
        ({"noise_model": "stationary"}, r"give --inference\.noise_model"),
        ({"prior": "vae"}, "Another one is another --model"),
    ],
)
def test_overrides_that_fit_nowhere_or_need_training_are_refused(folder: Path, overrides: dict, said: str) -> None:
    with pytest.raises(AvseError, match=said):
        avse.load(folder, overrides=overrides)


@pytest.mark.parametrize("option", ["noise_model", "noise_model.rank", "inference", "prior"])
def test_a_trained_enhancer_says_that_it_has_no_such_part(option: str, tiny_model: Path) -> None:
    said = rf"--{option}: tiny has no {option.partition('.')[0].replace('_', ' ')}: .*enhancer/tf_masker.*av_vae\.yaml"
    with pytest.raises(AvseError, match=said):
        avse.load(tiny_model, overrides={option: "nmf"})


def test_the_command_line_passes_them_on(folder: Path, tmp_path: Path, avse_command) -> None:
    import soundfile

    noisy, out = tmp_path / "noisy.wav", tmp_path / "voice.wav"
    soundfile.write(noisy, _sound(), 16000)
    arguments = ["enhance", noisy, "-o", out, "--model", folder]
    assert avse_command(*arguments, "--inference", "vem", "--inference.iterations", "1").status == 0
    expected = avse.load(folder, overrides={"inference": "vem", "inference.iterations": 1}).enhance(noisy).speech
    assert np.abs(soundfile.read(out)[0] - expected.numpy()).max() < 1e-4
    assert "Did you mean --output" in avse_command("enhance", noisy, "--outputt", out, "--model", folder).message
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("id,clean,noisy,split\na,noisy.wav,noisy.wav,test\n")
    score = ["evaluate", "--manifest", manifest, "-o", tmp_path / "scores", "--model", folder, "--metric", "si_sdr"]
    assert avse_command(*score, "--inference", "vem", "--inference.iterations", 1).status == 0
    assert '"inference": "vem"' in (tmp_path / "scores" / "settings.json").read_text()
    assert "other settings" in avse_command(*score).message

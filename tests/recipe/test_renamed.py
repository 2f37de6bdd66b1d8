"""Names of the last release work for one more, each with a warning that names the new one and its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avse import compatibility
from avse.recipe import load_recipe

Write = Callable[..., Path]


def test_a_renamed_key_of_a_file_and_what_refers_to_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compatibility.KEYS, "channels", "features")
    with pytest.warns(FutureWarning, match=r"recipe.yaml:5: channels is now called features"):
        recipe = load_recipe(write(), {"manifest": "a.csv"})
    assert recipe.keys[3:5] == ["features", "double"]
    assert recipe["double"] == 32 and recipe["model"].config["channels"] == 16


def test_a_key_that_an_argument_has_replaced(write: Write) -> None:
    path = write(
        "model: !new:avse.plugins.prior.diffusion\n    sde: !new:avse.plugins.sde.ornstein_uhlenbeck\n    size: small\n"
    )
    with pytest.warns(FutureWarning, match=r"--size is now called --model.size"):
        recipe = load_recipe(path, {"size": "tiny"})
    assert next(one.arguments["size"] for one in recipe.components() if one.key == "model") == "tiny"


def test_a_component_that_is_no_plugin(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compatibility.NAMES, "avse.training.losses.OldLoss", "avse.training.losses.EnhancementLoss")
    monkeypatch.setitem(
        compatibility.ARGUMENTS, "avse.training.losses.EnhancementLoss", {"spectrum_weight": "spectral_weight"}
    )
    path = write(loss="loss: !new:avse.training.losses.OldLoss {spectrum_weight: 3.0}")
    with pytest.warns(FutureWarning) as warned:
        recipe = load_recipe(path, {"manifest": "a.csv"})
    messages = [str(warning.message) for warning in warned]
    assert [message.partition(": ")[0] for message in messages] == [f"{path}:26", f"{path}:26"]
    assert "OldLoss is now called avse.training.losses.EnhancementLoss" in messages[0]
    assert "spectrum_weight is now called spectral_weight" in messages[1]
    assert recipe["loss"].spectral_weight == 3.0
    with pytest.warns(FutureWarning, match="--loss.spectrum_weight: spectrum_weight is now called spectral_weight"):
        recipe = load_recipe(write(), {"manifest": "a.csv", "loss.spectrum_weight": 4.0})
    assert recipe["loss"].spectral_weight == 4.0


def test_a_function_of_a_module_that_has_moved(write: Write) -> None:
    path = write("levels: !name:avse.signal.level.level_scale\n")
    with pytest.warns(FutureWarning, match=r"recipe.yaml:1: .*is now called avse.signal.levels.level_scale"):
        recipe = load_recipe(path)
    assert recipe["levels"].__module__ == "avse.signal.levels"


def test_a_plugin_and_its_argument(write: Write) -> None:
    text = (
        "inference: !new:avse.plugins.inference.posterior_sampling\n"
        "    prior: !new:avse.plugins.prior.diffusion\n"
        "        sde: !new:avse.plugins.sde.ornstein_uhlenbeck\n"
        "        size: tiny\n"
        "    noise_model: !new:avse.plugins.noise_model.nmf\n"
        "    sampler: !new:avse.plugins.sampler.ancestral\n"
        "f: !new:avse.plugins.fusion.reliability_attention {audio_dim: 8, video_dim: 4, doubt: 2.0}\n"
    )
    with pytest.warns(FutureWarning) as warned:
        values = load_recipe(write(text)).values
    messages = [str(warning.message) for warning in warned]
    assert any("recipe.yaml:1: posterior_sampling is now called udiffse" in message for message in messages)
    assert any("recipe.yaml:7: doubt is now called reliability_exponent" in message for message in messages)
    assert type(values["inference"]).plugin_name == "udiffse"

"""Overrides replace; they never merge the arguments of two classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avse.errors import AvseError
from avse.recipe import Recipe, load_recipe
from avse.recipe.rules import accepted_arguments

Write = Callable[..., Path]


def given(recipe: Recipe, key: str) -> tuple[str, dict[str, str]]:
    component = next(c for c in recipe.components() if c.key == key)
    return component.name, component.arguments


DIMS = {"audio_dim": "!ref <channels>", "video_dim": "!ref <visual_frontend.output_dim>"}


@pytest.mark.parametrize(
    ("overrides", "name", "arguments"),
    [
        ({"fusion": "concat"}, "concat", DIMS),
        ({"fusion": "fusion/concat"}, "concat", DIMS),
        ({"fusion": "avse.plugins.fusion.concat"}, "concat", DIMS),
        ({"fusion": "reliability_attention"}, "reliability_attention", {**DIMS, "heads": "2"}),
        ({"fusion.heads": "4"}, "cross_attention", {**DIMS, "heads": "4"}),
        ({"fusion.context": 3}, "cross_attention", {**DIMS, "heads": "2", "context": "3"}),
        ({"fusion.bias": -2.0, "fusion": "gated"}, "gated", {**DIMS, "bias": "-2.0"}),
        ({"fusion": {"heads": 1}}, "cross_attention", {**DIMS, "heads": "1"}),
        ({"fusion": "{heads: 1}"}, "cross_attention", {**DIMS, "heads": "1"}),
        (
            {"fusion": "!new:avse.plugins.fusion.film {audio_dim: 16, video_dim: 8}"},
            "film",
            {"audio_dim": "16", "video_dim": "8"},
        ),
    ],
)
def test_a_component_is_replaced_and_keeps_what_both_take(
    write: Write, overrides: dict[str, Any], name: str, arguments: dict[str, str]
) -> None:
    recipe = load_recipe(write(), overrides)
    assert given(recipe, "fusion") == (name, arguments)
    assert type(recipe.build("model")["model"].config["fusion"]).__name__.lower() == name.replace("_", "")


def test_arguments_can_be_given_to_a_component_that_had_none(write: Write) -> None:
    recipe = load_recipe(write(), {"loss.spectral_weight": "2", "visual_frontend": "motion", "visual_frontend.grid": 3})
    assert recipe.build("loss")["loss"].spectral_weight == 2
    assert given(recipe, "visual_frontend") == ("motion", {"size": "11", "grid": "3"})


def test_another_class_is_found_beside_the_old_one(write: Write) -> None:
    recipe = load_recipe(write(), {"optimizer": "SGD", "optimizer.momentum": 0.9})
    assert recipe.build("optimizer")["optimizer"].keywords == {"lr": 0.001, "momentum": 0.9}
    assert recipe.build("optimizer")["optimizer"].func.__name__ == "SGD"


def test_values_are_read_as_yaml(write: Write) -> None:
    recipe = load_recipe(
        write(),
        {"manifest": Path("a b.csv"), "epochs": "1e-3", "seed": 7, "data.snr": "[0, null]", "data.share": True},
    )
    values = recipe.build("manifest", "epochs", "seed", "data", "output_folder")
    assert values == {
        "manifest": "a b.csv",
        "epochs": 1e-3,
        "seed": 7,
        "data": {"snr": [0, None], "share": True},
        "output_folder": "results/7",
    }
    odd = {"manifest": "a: b: c", "epochs": "", "output_folder": "[x"}  # text that is no YAML is text
    assert load_recipe(write(), odd).build(*odd) == {**odd, "epochs": None}


def test_null_takes_a_component_away(write: Write) -> None:
    recipe = load_recipe(write(), {"model.fusion": "null", "model.visual_frontend": None})
    assert recipe.build("model")["model"].config["fusion"] is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"epoch": 5}, ["--epoch: There is no key 'epoch'. Did you mean 'epochs'"]),
        ({"fusion": "crossattention"}, ["--fusion: There is no fusion plugin 'crossattention'", "'cross_attention'"]),
        ({"fusion.head": 5}, ["--fusion.head: fusion.head: fusion/cross_attention takes no argument", "'heads'"]),
        ({"fusion": "film", "fusion.heads": 2}, ["--fusion.heads: ", "fusion/film takes no argument 'heads'"]),
        ({"fuson.heads": 5}, ["--fuson.heads: There is no key 'fuson'. Did you mean 'fusion'"]),
        ({"data.shar": 1}, ["--data.shar: There is no key 'data.shar'. Did you mean 'data.share'"]),
        ({"epochs.x": 1}, ["--epochs.x: epochs (", "yaml:33) is a plain value and holds no keys"]),
        ({"model.fusion.heads": 4}, ["model.fusion refers to <fusion>; give --fusion.heads instead"]),
        ({"optimizer": "AdmW"}, ["--optimizer: torch.optim has no 'AdmW'. Did you mean 'AdamW'"]),
        ({"fusion.causal": "no"}, ["--fusion.causal: fusion.causal: no is text in YAML. Write false."]),
        ({"epochs": "None"}, ["--epochs: epochs: None is text in YAML"]),
        ({"epochs": "!ref <sed>"}, ["--epochs: epochs refers to <sed>", "'seed'"]),
        ({"epochs": object()}, ["--epochs: <object", "cannot be written in a recipe"]),
        ({"model": "tf_masker", "visual_frontend": "motion", "epoch": 1, "fusion": "film2"}, ["--epoch", "--fusion"]),
    ],
)
def test_an_override_that_fits_nowhere(write: Write, overrides: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(AvseError) as error:
        load_recipe(write(), overrides)
    assert all(part in str(error.value) for part in said), error.value


def test_a_replaced_component_that_lacks_an_argument_says_so(write: Write) -> None:
    path = write("f: !new:avse.plugins.corruption.blur {severity: 2}\ng: !new:collections.Counter {severity: 1}\n")
    assert load_recipe(path, {"f": "frozen"}).values["f"].severity == 2
    path = write("f: !new:fractions.Fraction {numerator: 2}\n")
    with pytest.raises(AvseError, match=r"--f: f: argparse.Action needs the arguments option_strings, dest"):
        load_recipe(path, {"f": "argparse.Action"})


def test_a_module_without_its_own_constructor_takes_no_argument() -> None:
    assert accepted_arguments("torch.nn.Module") == []
    assert "in_features" in accepted_arguments("torch.nn.Linear")


def test_the_corruption_null_is_a_name() -> None:
    recipe = load_recipe(
        Path(__file__).parents[2] / "recipes" / "Manifest" / "hparams" / "av_vae.yaml",
        {"manifest": "m.csv", "train_set.degradation.corruptions.2": "null"},
    )
    assert given(recipe, "train_set.degradation.corruptions.2") == ("null", {"severity": "5"})

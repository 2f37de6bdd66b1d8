"""Every mistake in a recipe is told with file:line, key path and the nearest valid name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avse.errors import AvseError
from avse.recipe import load_recipe

Write = Callable[..., Path]

# What is wrong: (key of the line to replace, the new line, what the message must say; {n} is the line's number)
MISTAKES = {
    "misspelt plugin": (
        "fusion",
        "fusion: !new:avse.plugins.fusion.cross_atention",
        ["yaml:{n}: fusion: ", "fusion plugin 'cross_atention'", "Did you mean 'cross_attention'", "film"],
    ),
    "misspelt kind": (
        "fusion",
        "fusion: !new:avse.plugins.fusio.film",
        ["yaml:{n}: fusion: ", "Did you mean 'fusion'"],
    ),
    "misspelt class": (
        "optimizer",
        "optimizer: !name:torch.optim.AdmW",
        ["yaml:{n}: optimizer: torch.optim has no 'AdmW'", "Did you mean 'AdamW'"],
    ),
    "misspelt module": (
        "optimizer",
        "optimizer: !name:torhc.optim.Adam",
        ["yaml:{n}: optimizer: there is no module 'torhc'"],
    ),
    "class of ours": (
        "loss",
        "loss: !new:avse.training.losses.EnhancementLos",
        ["yaml:{n}: loss: ", "Did you mean 'EnhancementLoss'"],
    ),
    "misspelt tag": (
        "fusion",
        "fusion: !nwe:avse.plugins.fusion.film",
        ["yaml:{n}: fusion: ", "tag '!nwe:avse", "!new:"],
    ),
    "space after the tag": (
        "loss",
        "loss: !new: avse.training.losses.EnhancementLoss",
        ["yaml:{n}: loss: ", "without a space"],
    ),
    "function as class": ("loss", "loss: !new:os.path.join", ["yaml:{n}: loss: ", "not a class"]),
    "class as function": ("loss", "loss: !apply:collections.Counter", ["yaml:{n}: loss: ", "not a function"]),
    "unknown argument": (
        "heads",
        "    head: 2",
        [
            "yaml:{n}: fusion.head: fusion/cross_attention takes no argument 'head'",
            "Did you mean 'heads'",
            "audio_dim, video_dim, heads=4",
        ],
    ),
    "missing argument": (
        "audio_dim",
        "    context: 5",
        ["yaml:11: fusion: fusion/cross_attention needs the argument audio_dim. It takes: audio_dim, video_dim"],
    ),
    "too many arguments": ("loss", "loss: !new:fractions.Fraction [1, 2, 3, 4]", ["yaml:{n}: loss: ", "takes at most"]),
    "text for a number": (
        "heads",
        "    heads: two",
        ["yaml:{n}: fusion.heads: fusion/cross_attention wants a whole number here, not 'two' (text)"],
    ),
    "fraction for a count": (
        "heads",
        "    heads: 2.5",
        ["yaml:{n}: fusion.heads: ", "wants a whole number here, not '2.5'"],
    ),
    "nothing for a number": ("heads", "    heads:", ["yaml:{n}: fusion.heads: ", "a whole number", "nothing"]),
    "truth for a number": ("heads", "    heads: true", ["yaml:{n}: fusion.heads: ", "a whole number"]),
    "no": ("heads", "    causal: no", ["yaml:{n}: fusion.causal: no is text in YAML. Write false."]),
    "Off": ("heads", "    causal: Off", ["yaml:{n}: fusion.causal: ", "Write false."]),
    "yes": ("heads", "    causal: yes", ["yaml:{n}: fusion.causal: ", "Write true."]),
    "quoted truth": ("heads", "    causal: 'True'", ["yaml:{n}: fusion.causal: 'True' in quotes is text. Write true."]),
    "number for truth": ("heads", "    causal: 1", ["yaml:{n}: fusion.causal: ", "true or false", "a whole number"]),
    "None": (
        "visual_frontend",
        "visual_frontend: None",
        ["model.visual_frontend (through", "None is text in YAML. Write null."],
    ),
    "none in lower case": (
        "visual_frontend",
        "visual_frontend: none",
        ["model.visual_frontend (through <visual_frontend> at", "yaml:10)", "Write null"],
    ),
    "none at the top": (
        "epochs",
        "epochs: None",
        ['yaml:{n}: epochs: None is text in YAML. Write null; or "None" in quotes'],
    ),
    "off at the top": ("epochs", "epochs: off", ["yaml:{n}: epochs: off is text in YAML. Write false"]),
    "no in a list": ("snr", "    snr: [no, 5]", ["yaml:{n}: data.snr.0: no is text"]),
    "through a reference": (
        "channels",
        "channels: many",
        ["yaml:12: fusion.audio_dim (through <channels> at", "yaml:5)", "not 'many'"],
    ),
    "wrong component": (
        "fusion_block",
        "    fusion_block: !ref <visual_frontend>",
        ["yaml:{n}: model.fusion_block (through <visual_frontend>", "wants a whole number"],
    ),
    "another kind of component": (
        "fusion",
        "fusion: !new:avse.plugins.corruption.blur",
        ["model.fusion (through <fusion>", "wants a Fusion or null here, and avse.plugins.corruption.blur is none"],
    ),
    "unknown reference": (
        "audio_dim",
        "    audio_dim: !ref <chanels>",
        ["yaml:{n}: fusion.audio_dim refers to <chanels>", "Did you mean 'channels'"],
    ),
    "unknown key in a reference": (
        "double",
        "double: !ref <data[shar]>",
        ["yaml:{n}: double refers to <data[shar]>", "Did you mean 'data.share'"],
    ),
    "circle": ("double", "double: !ref <double> + 1", ["yaml:{n}: references go round in a circle: double"]),
    "longer circle": (
        "channels",
        "channels: !ref <double>",
        ["references go round in a circle: ", "channels (", "double ("],
    ),
    "circle through a component": (
        "heads",
        "    heads: !ref <model>",
        ["references go round in a circle", "fusion.heads", "model.fusion"],
    ),
    "key given twice": ("epochs", "seed: 3", ["yaml:{n}: the key 'seed' is given twice (first at", "yaml:2)"]),
    "syntax": ("betas", "    betas: [0.9, 0.98", ["not valid YAML"]),
    "indentation": ("betas", "  betas: [0.9, 0.98]", ["yaml:{n}:", "not valid YAML", "indented alike"]),
    "deeper indentation": ("betas", "        betas: 1", ["yaml:{n}:", "not valid YAML", "indented alike"]),
    "tab": ("betas", "\tbetas: 1", ["yaml:{n}:", "not valid YAML", "with spaces"]),
    "no space": ("epochs", "epochs:3", ["not valid YAML", "`key: value`"]),
    "plugin without its tag": (
        "visual_frontend",
        "visual_frontend: pixel_mlp",
        ["model.visual_frontend", "not 'pixel_mlp' (text). Write !name:avse.plugins.visual_frontend.pixel_mlp."],
    ),
}


@pytest.mark.parametrize(("key", "line", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake(write: Write, key: str, line: str, said: list[str]) -> None:
    path = write(**{key: line})
    with pytest.raises(AvseError) as error:
        load_recipe(path)
    message, number = str(error.value), path.read_text().splitlines().index(line) + 1
    assert all(part.replace("{n}", str(number)) in message for part in said), message
    assert "recipe.yaml" in message and "Traceback" not in message


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    path = write(heads="    heads: two", epochs="epochs: None", loss="loss: !new:avse.training.losses.Los")
    with pytest.raises(AvseError) as error:
        load_recipe(path)
    assert [line.split(": ")[1] for line in str(error.value).splitlines()[1:]] == ["fusion.heads", "loss", "epochs"]


@pytest.mark.parametrize(
    "lines",
    [
        {"epochs": 'epochs: "no"'},
        {"epochs": "epochs: nothing"},
        {"heads": "    causal: True"},
        {"heads": "    heads: 2  # fine"},
        {"optimizer": "optimizer: !name:torch.optim.AdamW  # its parameters are given when it is called"},
        {"loss": "loss: !new:collections.Counter\n    any: 1\n    thing: no"},
        {"loss": "loss: !new:fractions.Fraction [1, 2]"},
        {"loss": "base: &base {spectral_weight: 2.0}\nloss: !new:avse.training.losses.EnhancementLoss\n    <<: *base"},
    ],
)
def test_what_is_right_is_let_through(write: Write, lines: dict[str, str]) -> None:
    load_recipe(write(**lines)).build("loss", "epochs")


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just words\n", "!new:avse.plugins.fusion.film {audio_dim: 1}\n"])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(AvseError, match="recipe.yaml: a recipe is a list of `key: value` lines"):
        load_recipe(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", "binary.yaml", "."):
        with pytest.raises(AvseError, match="cannot read the recipe"):
            load_recipe(tmp_path / name)

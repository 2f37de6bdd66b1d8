"""Reading, building and storing recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avse import plugins
from avse.errors import AvseError
from avse.recipe import check, check_trusted, explain, load_recipe, load_trusted

Write = Callable[..., Path]


def test_a_recipe_is_plain_hyperpyyaml(write: Write) -> None:
    from hyperpyyaml import load_hyperpyyaml

    path = write(manifest="manifest: list.csv")
    ours, theirs = load_recipe(path).values, load_hyperpyyaml(path.read_text())
    assert ours.keys() == theirs.keys()
    plain = ("seed", "output_folder", "manifest", "channels", "double", "sizes", "data", "epochs")
    assert {key: ours[key] for key in plain} == {key: theirs[key] for key in plain}
    assert ours["sizes"] == (3, 4) and ours["double"] == 32
    assert ours["model"].config["fusion"] is ours["fusion"]
    assert str(ours["model"]) == str(theirs["model"])
    assert ours["optimizer"].keywords == theirs["optimizer"].keywords


def test_text_keeps_comments_and_loads_to_the_same(write: Write, tmp_path: Path) -> None:
    recipe = load_recipe(write(), {"fusion": "film", "optimizer.eps": 1e-6, "manifest": "a.csv"})
    assert "channels: 16  # features per step" in recipe.text
    assert recipe.text.index("# The network") > recipe.text.index("film")
    again = tmp_path / "again.yaml"
    again.write_text(recipe.text)
    assert load_recipe(again).text == recipe.text
    assert load_recipe(again).values["optimizer"].keywords["eps"] == 1e-6


def test_only_what_is_asked_for_is_built(write: Write) -> None:
    recipe = load_recipe(write())
    assert recipe.scalar("seed") == 1
    assert set(recipe.build("model", "double")) == {"model", "double"}
    with pytest.raises(AvseError, match=r"recipe.yaml:4: manifest: give --manifest VALUE"):
        recipe.build()
    with pytest.raises(AvseError, match="Did you mean 'model'"):
        recipe.build("modle")
    assert recipe.placeholders() == ["manifest"]


def test_what_a_constructor_refuses_is_told_with_its_place(write: Write) -> None:
    recipe = load_recipe(write(), {"fusion.video_dim": 5})
    with pytest.raises(AvseError) as error:
        recipe.build("model")
    assert "recipe.yaml:19: model.fusion: building avse.plugins.enhancer.tf_masker failed: fusion has" in str(
        error.value
    )
    assert "video_dim 5" in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"model.channels": 6, "fusion.audio_dim": 6},
            "yaml:20: model.channels: building avse.plugins.enhancer.tf_masker",
        ),
        ({"model.channels": 8}, "yaml:19: model.fusion: building avse.plugins.enhancer.tf_masker failed: fusion has"),
        ({"fusion.heads": 3}, "yaml:14: fusion.heads: building avse.plugins.fusion.cross_attention failed: heads must"),
    ],
)
def test_the_argument_that_a_constructor_refuses_is_placed(write: Write, overrides: dict[str, int], said: str) -> None:
    text = write().read_text()
    for key, value in overrides.items():
        name = key.partition(".")[2]
        old = next(line for line in text.splitlines() if line.strip().startswith(f"{name}:") and line.startswith(" "))
        text = text.replace(old, f"    {name}: {value}", 1)
    path = write()
    path.write_text(text)
    with pytest.raises(AvseError) as error:
        load_recipe(path).build("model")
    assert said in str(error.value)


def test_components_and_explanation(write: Write) -> None:
    recipe = load_recipe(write())
    assert [(c.key, c.kind, c.name) for c in recipe.components()][:3] == [
        ("visual_frontend", "visual_frontend", "pixel_mlp"),
        ("fusion", "fusion", "cross_attention"),
        ("model", "enhancer", "tf_masker"),
    ]
    explained = explain(recipe)
    fusion = explained["components"][1]
    rows = {row["name"]: row for row in fusion["arguments"]}
    assert rows["heads"] == {"name": "heads", "given": "2", "default": "4", "type": "int"}
    assert rows["context"]["given"] is None
    assert "film" in fusion["alternatives"] and "cross_attention" not in fusion["alternatives"]
    assert explained["missing"] == ["manifest"]
    assert explained["settings"]["data"] == "{snr: [-5, 5], share: 0.5}"


def test_check_runs_the_model_small(write: Write) -> None:
    found = check(load_recipe(write()))
    assert found["shapes"]["speech"] == (2, 16000) and found["shapes"]["reliability"] == (2, 25)
    assert found["parameters"] == found["trainable"] > 1000
    assert found["idle"] == []


def test_plugins_of_a_recipe_are_loaded_from_beside_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "plus.py").write_text(
        "from avse.contracts.fusion import Fusion\nfrom avse.plugins import register\n"
        "@register('fusion', 'test_plus')\nclass Plus(Fusion):\n    '''A.'''\n"
        "    def delta(self, audio, video, valid):\n"
        "        return audio, audio.new_ones(audio.shape[:2])\n"
    )
    path = write("plugins: [parts/plus.py]\nfusion: !new:avse.plugins.fusion.test_plus {audio_dim: 1, video_dim: 2}\n")
    try:
        recipe = load_recipe(path)
        assert type(recipe.values["fusion"]).__name__ == "Plus"
        assert str(tmp_path / "parts" / "plus.py") in recipe.text  # so that the text can be stored elsewhere
    finally:
        plugins.forget("fusion", "test_plus")
    with pytest.raises(AvseError, match=rf"plugins: .*gone\.py: no such file.*relative to {tmp_path}"):
        load_recipe(write("plugins: parts/gone.py\n"))


def test_an_included_file_is_found_and_checked(write: Write, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "dim: 4\nf: !new:avse.plugins.fusion.film {audio_dim: !ref <dim>, video_dim: 2}\n"
    )
    path = write("net: !include:net.yaml\nseed: 3\n")
    assert load_recipe(path).values["net"]["f"].audio_dim == 4
    (tmp_path / "net.yaml").write_text("f: !new:avse.plugins.fusion.flim {audio_dim: 4, video_dim: 2}\n")
    with pytest.raises(AvseError, match=r"net.yaml:1: f: There is no fusion plugin 'flim'"):
        load_recipe(path)


def test_subrecipe_holds_what_the_model_needs_and_no_more(write: Write, tmp_path: Path) -> None:
    text = load_recipe(write(), {"fusion": "film"}).subrecipe("model")
    stored = tmp_path / "stored.yaml"
    stored.write_text(text)
    recipe = load_trusted(stored)
    assert recipe.keys == ["channels", "visual_frontend", "fusion", "model"]
    assert type(recipe["model"].config["fusion"]).__name__ == "FiLM"
    assert recipe["model"].config["fusion"] is recipe["fusion"]
    assert "#" not in text


def test_a_model_with_foreign_parts_cannot_be_stored(write: Write) -> None:
    recipe = load_recipe(write("model: !new:torch.nn.Linear [2, 3]\n"))
    with pytest.raises(AvseError, match=r"recipe.yaml:1: model: !new:torch.nn.Linear is refused"):
        recipe.subrecipe("model")


LAUGHS = "k0: &k0 [1]\n" + "".join(f"k{i + 1}: &k{i + 1} [*k{i}, *k{i}]\n" for i in range(40))
REFUSED = {
    "a class": "m: !new:os.system [echo]",
    "a function": "m: !name:os.system",
    "a call": "m: !apply:os.system [echo]",
    "a call on references": "m: !applyref:os.system {_args: [echo]}",
    "a module": "m: !module:os",
    "a file": "m: !include:/etc/passwd",
    "python": "m: !!python/object/apply:os.system [echo]",
    "a python name": "m: !!python/name:os.system",
    "nested": "m: {a: [1, {b: !apply:os.system [echo]}]}",
    "in a key": "? !apply:os.system [echo]\n: 1",
    "a tuple": 'm: (!!python/object/apply:os.system ["echo"])',
    "a quoted tuple": "m: '(!!python/object/apply:os.system [\"echo\"])'",
    "a tuple as key": '"(!!python/object/apply:os.system [1])": 1',
    "a tuple from references": "a: '!!python/object/apply:os.system [echo]'\nm: !ref (<a>)",
    "a power": "a: 9\nm: !ref <a> ** 99999999",
    "a power through text": "a: 9 ** 99999999\nm: !ref <a> + 1",
    "a hidden reference": "a: 9\nb: '<a> ** 99999999'\nm: !ref <b>",
    "a private attribute": "f: !new:avse.plugins.fusion.none {audio_dim: 1, video_dim: 1}\nm: !ref <f.__class__>",
    "below a plugin": "m: !new:avse.plugins.fusion.none.__init__ {audio_dim: 1, video_dim: 1}",
    "a module of ours": "m: !new:avse.model.Model {}",
    "an unknown plugin": "m: !new:avse.plugins.fusion.backdoor {audio_dim: 1}",
    "plugins": "plugins: [evil.py]",
    "an anchor": "a: &x [1, 2]\nm: [*x, *x]",
    "a merge": "a: &x {b: 1}\nm: {<<: *x}",
    "aliases without end": "a: &x [*x]",
    "aliases upon aliases": LAUGHS,
    "a date": "m: 2001-01-01",
    "a directive": "%YAML 1.1\n---\nm: 1",
    "another tag": "m: !!binary aGVsbG8=",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_recipe_from_elsewhere_may_only_build_plugins(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    ran = tmp_path / "ran"
    text = text.replace("echo", f"touch {ran}")
    with pytest.raises(AvseError, match=r"model\.yaml"):
        check_trusted(text, path)
    with pytest.raises(AvseError, match=r"model\.yaml"):
        load_trusted(path)
    assert not ran.exists()


def test_even_unchecked_the_strict_reader_calls_nothing_but_plugins(tmp_path: Path) -> None:
    """The second wall: what `check_trusted` should miss is still not run."""
    from avse.recipe.build import load_tree
    from avse.recipe.tree import Tree

    ran = tmp_path / "ran"
    texts = [f"m: {tag} ['touch {ran}']" for tag in ("!apply:os.system", "!!python/object/apply:os.system")]
    texts += [f"m: (!!python/object/apply:os.system ['touch {ran}'])", "m: !new:subprocess.Popen [ls]", "m: !module:os"]
    for text in texts:
        with pytest.raises(AvseError):
            load_tree(Tree.parse(text, "x"), trusted_only=True)
    assert not ran.exists()


def test_a_recipe_from_elsewhere_may_compute(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(
        "a: 4\nb: !ref <a> * 2 - 1\nc: !ref <b>\nd: (1, 2.5)\ne: [true, null, 'text', 1e-3]\n"
        "f: !new:avse.plugins.fusion.film {audio_dim: !ref <a>, video_dim: !ref <b>}\ng: !ref <f.audio_dim>\n"
        "h: !name:avse.plugins.fusion.film {audio_dim: 3}\n"
    )
    values = load_trusted(path).values
    assert [values[key] for key in "abcdeg"] == [4, 7, 7, (1, 2.5), [True, None, "text", 1e-3], 4]
    assert values["f"].video_dim == 7 and values["h"](video_dim=2).audio_dim == 3

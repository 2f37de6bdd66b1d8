"""Recipes that include others, and the recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avse.errors import AvseError
from avse.recipe import copy_recipe, load_recipe, recipes, resolved
from avse.recipe.files import recipes_folder

BASE = """\
# A base.
seed: 1
optimizer: !name:torch.optim.AdamW
    lr: 0.001
    betas: [0.9, 0.98]  # of the moments
fusion: !new:avse.plugins.fusion.cross_attention {audio_dim: 4, video_dim: 2, heads: 2}
epochs: 3
"""


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A recipe to be extended, in a folder beside that of the recipe that a test writes."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text(BASE)
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine" / "recipe.yaml"


def test_a_recipe_takes_over_and_changes_what_it_includes(include: Path) -> None:
    include.write_text(
        "# Mine.\ninclude: ../base/base.yaml\nfusion: film\noptimizer: {lr: 0.1}\noptimizer.eps: 1.0e-6\n"
        "batch: !ref <seed>\n"
    )
    recipe = load_recipe(include)
    assert recipe.keys == ["seed", "optimizer", "fusion", "epochs", "batch"]
    values = recipe.values
    assert (type(values["fusion"]).__name__, values["fusion"].audio_dim) == ("FiLM", 4)
    assert values["optimizer"].keywords == {"lr": 0.1, "betas": [0.9, 0.98], "eps": 1e-6}
    assert recipe.text.startswith("# Mine.\n") and "# of the moments" in recipe.text and "# A base" not in recipe.text
    assert [component.place for component in recipe.components()] == [
        f"{include.parent.parent}/base/base.yaml:3",
        f"{include}:3",
    ]


def test_later_ones_change_earlier_ones_and_includes_nest(include: Path) -> None:
    (include.parent / "short.yaml").write_text("include: ../base/base.yaml\nepochs: 1\n")
    (include.parent / "slow.yaml").write_text("optimizer.lr: 1.0e-5\n")
    include.write_text("include: [short.yaml, slow.yaml]\nseed: 4\n")
    values = load_recipe(include).values
    assert (values["seed"], values["epochs"], values["optimizer"].keywords["lr"]) == (4, 1, 1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("include: gone.yaml\n", r"recipe.yaml:1: include: there is no file gone.yaml in .*mine or .*recipes"),
        ("include: recipe.yaml\n", r"recipe.yaml:1: include: recipe.yaml includes this file"),
        ("include: [{a: 1}]\n", r"recipe.yaml:1: include: name a recipe file"),
        ("include: ../base/base.yaml\nfusion: flim\n", r"recipe.yaml:2: fusion: There is no fusion plugin 'flim'"),
        ("include: ../base/base.yaml\nfuson.heads: 1\n", r"recipe.yaml:2: fuson.heads: .*Did you mean 'fusion'"),
        ("include: ../base/base.yaml\nepochs.x: 1\n", r"recipe.yaml:2: epochs.x: epochs \(.*base.yaml:7\) is a plain"),
        ("include: ../base/base.yaml\nfusion.head: 1\n", r"recipe.yaml:2: fusion.head: .*no argument 'head'"),
    ],
)
def test_mistakes_are_told_with_the_place_of_the_including_file(include: Path, text: str, said: str) -> None:
    include.write_text(text)
    with pytest.raises(AvseError, match=said):
        load_recipe(include)


def test_mistakes_of_an_included_file_are_told_with_its_place(include: Path) -> None:
    path = include.parents[1] / "base" / "base.yaml"
    path.write_text(BASE.replace("heads: 2", "head: 2"))
    include.write_text("include: ../base/base.yaml\nseed: 3\n")
    with pytest.raises(AvseError, match=r"base/base.yaml:6: fusion.head: .*Did you mean 'heads'"):
        load_recipe(include)


@pytest.mark.parametrize("name", recipes())
def test_the_resolved_text_is_plain_hyperpyyaml_with_the_same_weights(name: str, tmp_path: Path) -> None:
    from hyperpyyaml import load_hyperpyyaml

    text = load_recipe(name, {"manifest": "list.csv"}).text
    (tmp_path / "recipe.yaml").write_text(text)
    ours = load_recipe(tmp_path / "recipe.yaml")
    assert ours.text == text and "include" not in ours.keys
    torch.manual_seed(5)  # of no consequence: the recipe sets its own
    theirs = load_hyperpyyaml(text)
    weights, others = ours.values["model"].state_dict(), theirs["model"].state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)


def test_recipes_of_the_package_are_named_printed_and_copied(tmp_path: Path) -> None:
    assert recipes()["Manifest/diffusion/av_diffusion"].is_file()
    assert resolved("Synthetic/vae") == resolved(recipes()["Synthetic/vae"])
    path = copy_recipe("Synthetic/vae", tmp_path)
    assert path == tmp_path / "vae.yaml" and path.read_text() == resolved("Synthetic/vae")
    with pytest.raises(AvseError, match="is there already"):
        copy_recipe("Synthetic/vae", path)
    assert copy_recipe("Synthetic/vae", path, force=True) == path
    with pytest.raises(
        AvseError, match="no such file. There is no recipe 'Synthetic/va'. Did you mean 'Synthetic/vae'"
    ):
        load_recipe("Synthetic/va")


def test_recipes_are_short() -> None:
    recipes = [path for path in recipes_folder().rglob("*.yaml") if path.name != "classes.yaml"]  # names, no recipe
    lines = [line.strip() for path in recipes for line in path.read_text().splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 12 * len(recipes)

"""Every component of every recipe, swapped by one `--key name` for every plugin of its kind, builds and runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from avse import plugins
from avse.conformance import example_batch
from avse.contracts.inference import Inference
from avse.contracts.prior import Prior, ScorePrior
from avse.contracts.system import run
from avse.errors import AvseError
from avse.recipe import Recipe, explain, load_recipe

from .conftest import ROOT, ROWS

pytestmark = pytest.mark.slow

# What may be said of a plugin that belongs to another family. Nothing may be said of a dimension.
_FAMILY = r"wants a \w+Prior.* here|needs the argument speakers"
_OF_DATA = ("corruption", "mouth_tracker")
_DIMENSION = r"audio_dim|video_dim|output_dim|hidden_dim|channels|fft_size|bins"


def _small(recipe: str, key: str) -> dict[str, Any]:
    """The flags of a recipe's row, but for those of the component that is swapped and of what it holds."""
    words = shlex.split(ROWS[recipe]["flags"])
    flags = {flag.removeprefix("--"): value for flag, value in zip(words[::2], words[1::2])}
    return {name: value for name, value in flags.items() if not name.startswith(f"{key}.")}


def _swaps() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each recipe with (key, kind, other plugin) of its swaps.

    Of the elements of a list, the first meets every plugin and each other one. What is swapped in one recipe is not
    swapped again in another that trains the same model, and what belongs to data is swapped once for all.
    """
    tried = set()
    for recipe in ROWS:
        swaps = []
        components = explain(load_recipe(ROOT / recipe))["components"]
        model = next(component["name"] for component in components if component["key"] == "model")
        for component in components:
            key, kind, others = (component[name] for name in ("key", "kind", "alternatives"))
            position = re.search(r"\.(\d+)$", key)
            rank = int(position.group(1)) if position else 0
            for other in others if rank == 0 else others[rank % len(others) :][:1]:
                swap = (kind, component["name"], other, None if kind in _OF_DATA else model)
                if swap not in tried:
                    tried.add(swap)
                    swaps.append((key, kind, other))
        yield recipe, swaps


def _family_differs(recipe: Recipe, kind: str, other: str) -> bool:
    """Whether a plugin does not belong to what the recipe's other components are made for."""
    names = {component.key: component.name for component in recipe.components()}
    prior = names.get("prior", names["model"])  # of an unrolled inference, which is itself the model
    if kind == "prior" and other == "speaker_vae":
        return prior != "speaker_vae"
    if kind == "prior":
        families = [issubclass(plugins.get(kind, name), ScorePrior) for name in (other, prior)]
        return families[0] != families[1]
    if kind == "inference":
        return not issubclass(plugins.get("prior", prior), plugins.get(kind, other).accepts)
    return False


def _use(recipe: Recipe, key: str, kind: str) -> None:
    """Build what a component belongs to, and run it once."""
    top = key.partition(".")[0]
    if kind in _OF_DATA:
        recipe.build(top)
        return
    wanted = [name for name in ("model", "inference") if name in recipe.keys]
    built = recipe.build(*wanted)
    batch = example_batch((6400,), gap=(2, 4))
    batch.clean = 0.5 * batch.noisy
    model, system = built["model"], built.get("inference")
    if isinstance(model, Prior) and kind in ("prior", "fusion", "visual_frontend", "sde"):
        assert bool(model.loss(batch)["loss"].isfinite())
    elif isinstance(system, Inference):
        assert bool(run(system, batch).speech.isfinite().all())
    else:
        with torch.no_grad():
            model(batch)


@pytest.mark.parametrize(("recipe", "swaps"), [pytest.param(*found, id=found[0]) for found in _swaps() if found[1]])
def test_a_component_is_swapped_by_one_name(recipe: str, swaps: list[tuple[str, str, str]]) -> None:
    given = load_recipe(ROOT / recipe)
    faults = []
    for key, kind, other in swaps:
        differs = _family_differs(given, kind, other)
        try:
            with torch.random.fork_rng():
                _use(load_recipe(ROOT / recipe, {**_small(recipe, key), key: other, "manifest": "none.csv"}), key, kind)
        except AvseError as error:
            said = str(error)
            said = re.sub(r"It takes: .*", "", said)
            if not differs or not re.search(_FAMILY, said) or re.search(_DIMENSION, said):
                faults.append(f"--{key} {other}: {said}")
        else:
            if differs:
                faults.append(f"--{key} {other}: is not refused")
    assert not faults, "\n".join(faults)


def test_a_swap_that_does_not_fit_is_told_on_the_command_line(avse_command: Any) -> None:
    outcome = avse_command(
        "recipe", "check", "Synthetic/vae", "--inference", "posterior_sampling_moments", "--key", "inference"
    )
    assert outcome.status == 1
    assert re.search(r"inference.*wants a ScorePrior here", outcome.err) and "Traceback" not in outcome.err

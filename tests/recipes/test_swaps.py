"""Every component of every recipe, swapped on the command line for every plugin of its kind, trains a step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avse import plugins
from avse.contracts.prior import ScorePrior

from .conftest import ROOT, ROWS

pytestmark = pytest.mark.slow

# What the message must say of what does not fit. All other swaps must train.
_VIDEO_DIM = r"video_dim.*output_dim|output_dim.*video_dim"
# A row that sets its sampler says so to what has none.
_FAMILY = r"(wants|needs) a \w+Prior|audio_dim|There is no key 'inference\.sampler'"
_OF_DATA = ("corruption", "mouth_tracker")  # one recipe tells of all
_SPECTRAL = ("diffusion_enhancer", "one_step")  # their fusion is as wide as their network


def _refusal(recipe: str, kind: str, own: str, other: str) -> str | None:
    """What must be said of a plugin that does not fit into a recipe; None where it fits."""
    text = (ROOT / recipe).read_text()
    fused = "avse.plugins.fusion." in text
    if kind == "visual_frontend" and other == "motion" and fused:
        return _VIDEO_DIM
    if own == "diffusion_enhancer":
        return r"audio_dim|model\.sampler"  # its row sets the sampler, which it alone has
    if kind == "enhancer" and fused and (own in _SPECTRAL) != (other in _SPECTRAL):
        return "audio_dim"
    if kind == "prior" and other == "speaker_vae" and own != "speaker_vae":
        return "needs the argument speakers|wants a"
    if kind == "prior":
        score = [issubclass(plugins.get("prior", name), ScorePrior) for name in (own, other)]
        return None if score[0] == score[1] else _FAMILY
    if kind == "inference":
        prior = plugins.get("prior", re.search(r"^model: !new:avse\.plugins\.prior\.(\w+)", text, re.M)[1])
        return None if issubclass(prior, plugins.get("inference", other).accepts) else _FAMILY
    return None


def _swaps() -> Iterator[tuple[str, str, str, str, str | None]]:
    """(recipe, key, kind, plugin, refusal). Of a list's elements, the first meets every plugin and each other one.

    What is swapped in one recipe is not swapped again in another that trains the same model, as on another corpus; and
    what does not fit in place of a plugin is tried in one recipe that has it.
    """
    from avse.recipe import explain, load_recipe

    tried = set()
    for recipe in ROWS:
        components = explain(load_recipe(ROOT / recipe))["components"]
        model = next((one["name"] for one in components if one["key"] == "model"), recipe)
        for component in components:
            position = re.search(r"\.(\d+)$", component["key"])
            rank = int(position.group(1)) if position else 0
            others = component["alternatives"]
            chosen = others if rank == 0 else others[rank % len(others) :][:1]
            for other in chosen:
                kind, own = component["kind"], component["name"]
                reason = _refusal(recipe, kind, own, other)
                pair = (kind, own, other, None if reason or kind in _OF_DATA else model)
                if pair not in tried:
                    tried.add(pair)
                    yield recipe, component["key"], kind, other, reason


@pytest.mark.parametrize(("recipe", "key", "kind", "other", "reason"), _swaps())
def test_swapped_component_trains_or_is_refused_with_the_reason(
    recipe: str, key: str, kind: str, other: str, reason: str | None, tmp_path: Path, train_small: Callable
) -> None:
    outcome = train_small(recipe, tmp_path / "run", steps_per_epoch=1, batch_size=1, valid_size=1, **{key: other})
    if reason is None:
        assert outcome.status == 0, outcome.err
        assert f"avse.plugins.{kind}.{other}" in (tmp_path / "run" / "recipe.yaml").read_text()
    else:
        assert outcome.status == 1
        assert re.search(reason, outcome.err), outcome.err
        assert "Traceback" not in outcome.err

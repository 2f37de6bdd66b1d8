"""Every component of every recipe, swapped on the command line for every plugin of its kind, trains a step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, ROWS

# What does not fit where there is a fusion, and what the message must then say. All other swaps must train.
REFUSED = {
    ("visual_frontend", "motion"): r"video_dim.*output_dim|output_dim.*video_dim",
}


def _swaps() -> Iterator[tuple[str, str, str, str]]:
    """(recipe, key, kind, plugin). Of a list's elements, the first meets every plugin and each other meets one."""
    from avse.recipe import explain, load_recipe

    for recipe in ROWS:
        for component in explain(load_recipe(ROOT / recipe))["components"]:
            position = re.search(r"\.(\d+)$", component["key"])
            rank = int(position.group(1)) if position else 0
            others = component["alternatives"]
            chosen = others if rank == 0 else others[rank % len(others) :][:1]
            for other in chosen:
                yield recipe, component["key"], component["kind"], other


@pytest.mark.parametrize(("recipe", "key", "kind", "other"), _swaps())
def test_swapped_component_trains_or_is_refused_with_the_reason(
    recipe: str, key: str, kind: str, other: str, tmp_path: Path, train_small: Callable
) -> None:
    outcome = train_small(recipe, tmp_path / "run", steps_per_epoch=1, batch_size=1, valid_size=1, **{key: other})
    fused = "avse.plugins.fusion." in (ROOT / recipe).read_text()
    reason = REFUSED.get((kind, other)) if fused else None
    if reason is None:
        assert outcome.status == 0, outcome.err
        assert f"avse.plugins.{kind}.{other}" in (tmp_path / "run" / "recipe.yaml").read_text()
    else:
        assert outcome.status == 1
        assert re.search(reason, outcome.err), outcome.err
        assert "Traceback" not in outcome.err

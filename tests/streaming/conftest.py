"""A causal model, small and random."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = """\
visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp
    output_dim: 8
    hidden_dim: 16
    size: 22
fusion: !new:avse.plugins.fusion.reliability_attention
    audio_dim: 16
    video_dim: 8
    causal: true
model: !new:avse.plugins.enhancer.tf_masker
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    channels: 16
    blocks: 2
    fusion_block: 1
    heads: 2
    causal: true
"""


@pytest.fixture(scope="session")
def causal_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from avse.model import Model
    from avse.recipe import load_recipe

    folder = tmp_path_factory.mktemp("causal")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = load_recipe(folder / "recipe.yaml").build("model")["model"]
    return Model(system, RECIPE, "causal").save(folder / "model")

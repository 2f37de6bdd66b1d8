"""A causal model, small and random, and a clip as a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avse.contracts.system import System
from avse.contracts.types import Clip
from avse.model import Model
from avse.streaming import Block, Streamer

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


def _in_blocks(system: System, clip: Clip, sizes: list[int]) -> list[Block]:
    """What comes of a clip in blocks of these samples; each picture is there before its video frame is computed."""
    streamer, blocks, place, shown = Streamer(Model(system, "")), [], 0, 0
    for size in [*sizes, len(clip.audio)]:
        part = clip.audio[place : place + size]
        while 640 * shown < place + len(part):
            picture = clip.mouth[shown] if clip.valid[shown] else np.zeros(0, np.uint8)
            blocks.append(streamer.push(np.zeros(0), picture, shown / 25))
            shown += 1
        blocks.append(streamer.push(part))
        place += len(part)
    return [*blocks, streamer.finish()]


@pytest.fixture
def in_blocks() -> Callable[[System, Clip, list[int]], list[Block]]:
    return _in_blocks

"""A small recipe with everything that ours hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """\
# Masking with video.
seed: 1
output_folder: !ref results/<seed>
manifest: !PLACEHOLDER
channels: 16  # features per step
double: !ref <channels> * 2
sizes: (3, 4)

# Model
visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp {output_dim: 8, hidden_dim: 8, size: 11}
fusion: !new:avse.plugins.fusion.cross_attention
    audio_dim: !ref <channels>
    video_dim: !ref <visual_frontend.output_dim>
    heads: 2

# The network
model: !new:avse.plugins.enhancer.tf_masker
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    channels: !ref <channels>
    blocks: 2
    fusion_block: 1
    heads: 2

# Training
loss: !new:avse.training.losses.EnhancementLoss
optimizer: !name:torch.optim.AdamW
    lr: 0.001
    betas: [0.9, 0.98]
data:
    snr: [-5, 5]
    share: 0.5
epochs: 3
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe, the one above unless another text is given, the first line of each key given replaced."""

    def make(text: str = RECIPE, **lines: str) -> Path:
        for key, line in lines.items():
            found = [old for old in text.splitlines() if old.strip().startswith(f"{key}:")]
            assert found, key
            text = text.replace(found[0], line, 1)
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return make

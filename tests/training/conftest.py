"""A corpus and a recipe small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

RECIPE = """
seed: 3
output_folder: !PLACEHOLDER
manifest: {manifest}
cache_folder: {cache}
train_set: !name:avse.data.training_set.MixtureSet
    seconds: 0.4
valid_set: !name:avse.data.training_set.MixtureSet
    seconds: 0.4
valid_size: 2
batch_size: 2
num_workers: 0
channels: 16
video_dim: 6
visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp
    output_dim: !ref <video_dim>
    hidden_dim: 8
    size: 8
fusion: !new:avse.plugins.fusion.concat
    audio_dim: !ref <channels>
    video_dim: !ref <video_dim>
model: !new:avse.plugins.enhancer.tf_masker
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    channels: !ref <channels>
    blocks: 2
    fusion_block: 1
loss: !new:avse.training.losses.EnhancementLoss
optimizer: !name:torch.optim.AdamW
    lr: 0.001
epochs: 2
steps_per_epoch: 4
warmup_steps: 2
final_rate: 0.1
max_grad_norm: 5.0
ema_decay: 0.9
patience: 10
initial_weights: null
precision: fp32
ckpt_interval_steps: 1
"""


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a recipe over six clips of filtered noise, two of them with mouth crops in the cache."""
    from avse.data.cache import ClipCache
    from avse.data.manifest import read_manifest

    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    lines = ["id,clean,noise,video,speaker,split"]
    for split, speakers in (("train", "ab"), ("dev", "cd")):
        for speaker in speakers:
            envelope = np.repeat(rng.random(20), 800)
            sound = 0.1 * envelope * rng.standard_normal(16000)
            soundfile.write(folder / f"{speaker}.wav", sound, 16000)
            video = f"{speaker}.mp4" if speaker in "ac" else ""
            if video:
                (folder / video).touch()
            lines.append(f"{speaker},{speaker}.wav,,{video},{speaker},{split}")
        soundfile.write(folder / f"noise_{split}.wav", 0.1 * rng.standard_normal(12000), 16000)
        lines.append(f"noise_{split},,noise_{split}.wav,,,{split}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    cache = ClipCache(folder / "cache")
    for utterance in read_manifest(manifest):
        if utterance.video is not None:
            target = cache._path(utterance.video, cache._crops)
            target.parent.mkdir(parents=True, exist_ok=True)
            mouth = rng.integers(0, 255, (25, 88, 88), dtype=np.uint8)
            np.savez(target, mouth=mouth, valid=np.ones(25, dtype=bool))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(manifest=manifest, cache=folder / "cache"))
    return path

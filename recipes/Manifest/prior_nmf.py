"""Trains the network of the noise model `prior_nmf`.

    python recipes/Manifest/prior_nmf.py MANIFEST -o WORK

The result is `WORK/prior_nmf.safetensors`. Each corpus of speech has the same share of at most 3200 excerpts of 4 s;
noise is up to 800 recordings, 10 s of each. All are of the training split. The same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

import avse
from avse.contracts.prior import LatentPrior
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.data.noises import noise_recordings
from avse.nnet.noise_estimator import NoiseEstimator
from avse.training.noise_estimator import learn_noise_estimator

EXCERPTS = 3200
SECONDS, SHORTEST, RATE = 4, 1, 16000


def speech(manifest: Path) -> Iterator[np.ndarray]:
    """Excerpts of clean speech of the training split, as many of each corpus as there are."""
    corpora = defaultdict(list)
    for row in read_manifest(manifest, splits=["train"], kinds=["speech", "av_speech"]):
        if row.clean is not None:
            corpora[row.dataset].append(row.clean)
    rng = np.random.default_rng(0)
    for _, paths in sorted(corpora.items()):
        for place in rng.permutation(len(paths))[: EXCERPTS // len(corpora)]:
            audio = read_audio(paths[place])
            length = min(len(audio), SECONDS * RATE)
            start = int(rng.integers(len(audio) - length + 1))
            if length >= SHORTEST * RATE:
                yield audio[start : start + length]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the weights and of checkpoints")
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    prior = avse.load("av-vae").system.prior
    assert isinstance(prior, LatentPrior)
    prior.requires_grad_(False)
    noise = list(noise_recordings(options.manifest, recordings=800, seconds=10.0))
    estimator = NoiseEstimator()
    excerpts = list(speech(options.manifest))
    print(f"{len(excerpts)} excerpts of speech, {len(noise)} of noise", flush=True)
    learn_noise_estimator(
        estimator,
        prior,
        excerpts,
        noise,
        steps=options.steps,
        batch_size=8,
        checkpoint=options.output / "checkpoint.pt",
    )
    weights = {name: value.half().contiguous() for name, value in estimator.state_dict().items()}
    safetensors.torch.save_file(weights, options.output / "prior_nmf.safetensors")


if __name__ == "__main__":
    main()

"""Trains the network of the noise model `conditioned_score` or `conditioned_vae`.

    python recipes/Scenes/conditioned_networks.py conditioned_score MANIFEST CAPTIONS -o WORK

It goes on where it was stopped. Noise of the training split is mixed with speech, and told by `scene-clip`
of a text, a picture or a sound of it; `conditioned_nmf`, which is trained before, says how far that is trusted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from conditioned_nmf import training_data

from avse import plugins
from avse.training.noise_score import learn_noise_score
from avse.training.noise_vae import learn_noise_vae


def train(arguments: argparse.Namespace) -> None:
    (data, told, rng), work = training_data(arguments), arguments.output
    scenes = [
        torch.stack([*told.of_class(label), *data.heard(told, place, rng)]) for place, label in enumerate(data.labels)
    ]
    torch.manual_seed(0)  # of the first weights
    build, kept = plugins.get("noise_model", arguments.model), work / "checkpoint.pt"
    if arguments.model == "conditioned_score":
        model = build(score_pretrained=False, begin_iterations=8)
        sde = plugins.get("sde", "ornstein_uhlenbeck")()
        losses = learn_noise_score(model, model.network, sde, data.speech, data.noise, scenes, checkpoint=kept)
    else:
        model = build(vae_pretrained=False)
        losses = learn_noise_vae(model.network, model.describer, data.speech, data.noise, scenes, checkpoint=kept)
    print(f"loss {np.mean(losses[:100]):.3f} at the beginning, {np.mean(losses[-300:]):.3f} at the end")
    weights = {name: value.detach().half().contiguous() for name, value in model.network.state_dict().items()}
    safetensors.torch.save_file(weights, work / f"{arguments.model}.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("conditioned_score", "conditioned_vae"))
    for name in ("manifest", "captions"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    train(parser.parse_args())

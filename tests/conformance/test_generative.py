"""What the contracts of generative systems hold beside their checks, tried on a small system."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mutants.inference import TinyEM
from mutants.noise_model import TinyNMF
from mutants.prior import TinyVAE
from torch import nn

from avse.contracts.prior import ScorePrior, SwitchingPrior
from avse.contracts.types import Batch, Clip


def test_an_inference_can_be_stopped_and_refuses_another_family_of_prior() -> None:
    batch = Batch.from_clips([Clip(np.random.default_rng(0).normal(0, 0.1, 3200))])
    stopped = TinyEM(TinyVAE(), TinyNMF(), iterations=50)(batch, seconds=0.0)
    assert len(stopped.trace) == 1

    class Score(ScorePrior):
        score = marginal = drift_and_diffusion = loss = None

    with pytest.raises(ValueError, match="TinyEM needs a LatentPrior, got Score"):
        TinyEM(Score(), TinyNMF())


def test_components_of_a_switching_prior_look_at_the_same_mouth() -> None:
    class Switch(SwitchingPrior):
        def __init__(self) -> None:
            super().__init__()
            self.components = nn.ModuleList([TinyVAE(), TinyVAE()])

        def switch(self):
            return torch.zeros(2).log_softmax(0), torch.zeros(2, 2).log_softmax(1)

        def loss(self, batch):
            return {"loss": sum(one.loss(batch)["loss"] for one in self.components)}

    sound = np.random.default_rng(0).normal(0, 0.1, 1280)
    shades = np.arange(88, dtype=np.uint8) // 4
    dark = Batch.from_clips([Clip(sound, np.broadcast_to(1 + shades, (2, 88, 88)))])
    shared = Switch().contexts(dark)
    assert len(shared) == 2 and torch.equal(shared[0].video, shared[1].video)
    assert shared[0].without_video().video is None

"""Iterations as layers: gradients pass through any number of them, and are those of finite differences."""

from __future__ import annotations

import pytest
import torch
from toy_models import DynamicalToy, FixedNoise, ToyPrior, sounds
from toy_switch import SharpToy, ToySwitch

from avse.inference.em.driver import LatentInference
from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.mcem import MCEM
from avse.inference.em.switching_vem import SwitchingVEM
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF

GAINS = {"gain_prior": (2.0, 1.0), "m_steps": 2}
MAKES = {
    "vem": lambda: VEM(ToyPrior(), NMF(rank=2), **GAINS),
    "langevin": lambda: Langevin(ToyPrior(), NMF(rank=2), chains=2, step_size=1e-3, **GAINS),
    "langevin, dynamical": lambda: Langevin(DynamicalToy(), FixedNoise(), chains=2, step_size=1e-3, smoothness=0.1),
    "map": lambda: MAP(ToyPrior(), NMF(rank=2), step_size=1e-3, **GAINS),
    "mcem": lambda: MCEM(ToyPrior(), NMF(rank=2), chains=2, **GAINS),
    "switching_vem": lambda: SwitchingVEM(ToySwitch([SharpToy(seed=0), SharpToy(seed=5)]), NMF(rank=2), **GAINS),
}


def _loss(inference: LatentInference, layers: int) -> torch.Tensor:
    """Power of speech after some iterations, all of which record gradients."""
    speakers = inference.start(sounds((640,))).speakers
    speakers = [inference.begin_speaker(state) for state in speakers]
    for _ in range(layers):
        speakers, statistics = inference.iteration(speakers)
    return (statistics[0].wiener * speakers[0].power).sum()


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_gradients_pass_through_iterations(make) -> None:
    inference = make()
    tilt = next(value for name, value in inference.named_buffers() if name.endswith("tilt"))
    tilt.requires_grad_()
    [gradient] = torch.autograd.grad(_loss(inference, layers=2), tilt)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            tilt[0, 3] += sign * 1e-6
            values.append(_loss(inference, layers=2).item())
            tilt[0, 3] -= sign * 1e-6
    assert gradient[0, 3].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3)

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


def _unrolled(name: str, **arguments) -> LatentInference:
    cls = {"vem": VEM, "langevin": Langevin, "mcem": MCEM}[name]
    return cls(ToyPrior(), NMF(rank=2), **{"unroll": 3, **GAINS, **arguments}).double()


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


@pytest.mark.parametrize("name", ["vem", "langevin", "mcem"])
def test_layers_computed_again_give_the_same_gradient(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        inference = _unrolled(name, learn=["exponent", "prior_weight"], tied=False)
        inference.checkpointing = checkpointing
        list(inference.layers(sounds((640, 320))))[-1][1].sum().backward()
        gradients.append(torch.cat([value.grad for value in inference.learned.log_ratio.values()]))
    assert torch.equal(*gradients) and bool(gradients[0].any())


def test_layers_may_have_numbers_of_their_own() -> None:
    inference, batch = _unrolled("vem", learn=["exponent", "gain_prior"], tied=False), sounds((640,))
    with torch.no_grad():
        first, last = inference(batch), None
        inference.learned.log_ratio["exponent"][1:] += 0.3
        changed = list(inference.iterate(batch))
        last = changed[-1]
    assert first.trace[0] == last.trace[0] and first.trace[1] != last.trace[1]
    assert inference.noise_model.exponent == 0.5 and inference.gain_prior == GAINS["gain_prior"]


def test_refinement_is_kept_where_the_evidence_grows() -> None:
    """A clip's estimate after the layers changes only with a lower objective; the objective kept never rises."""
    inference, batch = _unrolled("vem", learn=["exponent"], refine=6), sounds((640, 320, 960))
    with torch.no_grad():
        inference.learned.log_ratio["exponent"].fill_(0.6)
        steps = list(inference.layers(batch))
    assert len(steps) == inference.unroll + 6
    for (before, kept), (after, found) in zip(steps[inference.unroll - 1 :], steps[inference.unroll :]):
        same = (before.speech == after.speech).all(dim=1)
        assert bool((found <= kept).all()) and torch.equal(same, found == kept)


def test_a_start_network_tells_the_noise() -> None:
    inference, batch = _unrolled("vem", learn=["start"], start_layers=1), sounds((640, 320))
    list(inference.layers(batch))[-1][1].sum().backward()
    assert all(parameter.grad is not None for parameter in inference.start_network.parameters())
    assert inference.prior.training is False and inference.train().start_network.training is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learn": ["exponent"]}, "unroll"),
        ({"unroll": 2, "learn": ["steps"]}, "'steps' is none of start, exponent, gain_prior"),
        ({"unroll": 2, "learn": ["prior_weight"], "prior_weight": 0.0}, "above zero"),
        ({"unroll": 2, "learn": ["gain_prior"]}, "not set"),
    ],
)
def test_what_cannot_be_learned_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VEM(ToyPrior(), NMF(rank=2), **arguments)

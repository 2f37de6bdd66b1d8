"""Iterations as layers: gradients pass through any number of them, and are those of finite differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_models import DynamicalToy, FixedNoise, ToyPrior, sounds
from toy_switch import SharpToy, ToySwitch

from avse.contracts.enhancer import Enhancer
from avse.contracts.prior import Gaussian
from avse.contracts.types import Batch, Estimate
from avse.inference.em import steps
from avse.inference.em.driver import LatentInference
from avse.inference.em.joint import Joint
from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.mcem import MCEM
from avse.inference.em.switching_vem import SwitchingVEM
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF
from avse.signal.levels import level_scale

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
        inference.learned.log_ratio["exponent"][1:] += 0.015
        changed = list(inference.iterate(batch))
        last = changed[-1]
    assert first.trace[0] == last.trace[0] and first.trace[1] != last.trace[1]
    assert inference.noise_model.exponent == 0.5 and inference.gain_prior == GAINS["gain_prior"]


def test_refinement_is_kept_where_the_evidence_grows() -> None:
    """A clip's estimate after the layers changes only with a lower objective; the objective kept never rises."""
    inference, batch = _unrolled("vem", learn=["exponent"], refine=6), sounds((640, 320, 960))
    with torch.no_grad():
        inference.learned.log_ratio["exponent"].fill_(0.03)
        steps = list(inference.layers(batch))
    assert len(steps) == inference.unroll + 6
    for (before, kept), (after, found) in zip(steps[inference.unroll - 1 :], steps[inference.unroll :]):
        same = (before.speech == after.speech).all(dim=1)
        assert bool((found <= kept).all()) and torch.equal(same, found == kept)


def test_a_small_prior_weight_leaves_a_gaussian_where_q_is_wider_than_the_prior() -> None:
    inference, batch = VEM(ToyPrior(), NMF(rank=2)).double(), sounds((640,))
    with torch.no_grad():
        state = steps.encode(inference.begin_speaker(inference.start(batch).speakers[0]))
        assert state.posterior is not None
        wide = replace(state, posterior=Gaussian(state.posterior.mean, state.posterior.log_variance + 5))
        weight = torch.tensor(0.3, dtype=torch.float64)
        found, narrow = steps.encoder_step(wide, weight), steps.encoder_step(state, weight)
    for each in (found, narrow):
        assert bool(each.latent.isfinite().all() and each.prior_cost.isfinite().all())


class Halver(Enhancer):
    """An enhancer that takes a learned share of the audio for speech."""

    def __init__(self) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, batch: Batch) -> Estimate:
        speech = self.share * batch.noisy
        return Estimate(speech, batch.noisy - speech, torch.zeros_like(batch.valid, dtype=speech.dtype), batch.lengths)


@pytest.mark.parametrize("make", [VEM, MAP])
def test_an_enhancer_tells_the_beginning(make) -> None:
    """z begins as that of its speech, and the noise model as what fits the rest; gradients reach the enhancer."""
    inference, batch = make(ToyPrior(), NMF(rank=2), unroll=2, learn=["start"], start=Halver()).double(), sounds((640,))
    inference.built()
    state = inference.begin_speaker(inference.start(batch).speakers[0])
    power = inference.prior.analyse(batch.noisy * level_scale(batch.noisy, batch.lengths)).abs().square()
    wanted = inference.prior.encode(0.25 * power, inference.prior.context(batch)).mean
    assert torch.allclose(state.latent[:, 0], wanted)
    plain = NMF(rank=2).double()
    noise = plain.initial_state(0.25 * power, state.mask, None)
    for _ in range(20):
        noise = plain.update_from_power(noise, 0.25 * power, state.mask)
    assert torch.allclose(state.noise_variance, plain.variance(noise))
    list(inference.layers(batch))[-1][1].sum().backward()
    assert inference.start_network.share.grad.abs() > 0
    assert inference.prior.training is False and inference.train().start_network.training is True


@pytest.mark.parametrize("make", [VEM, MAP, Joint, Langevin])
def test_an_estimate_that_hardly_errs_is_the_result(make) -> None:
    inference, batch = (
        make(ToyPrior(), NMF(rank=2), iterations=4, start=Halver(), start_variance=1e-9).double(),
        sounds((640, 320)),
    )
    far = make(ToyPrior(), NMF(rank=2), iterations=4, start=Halver(), start_variance=1e12).double()(batch).speech
    alone = make(ToyPrior(), NMF(rank=2), iterations=4, start=Halver()).double()(batch).speech
    assert torch.allclose(inference(batch).speech, 0.5 * batch.noisy, atol=1e-6)
    assert torch.allclose(far, alone, atol=1e-6) and not torch.allclose(far, 0.5 * batch.noisy, atol=1e-3)


def test_two_observations_have_the_likelihood_of_both() -> None:
    """Of (x, s_0) with covariance [[S + V, S], [S, S + R]], compared with matrices of two by two, as are gradients."""
    inference, batch = VEM(ToyPrior(), NMF(rank=2), start=Halver(), start_variance=0.3).double(), sounds((640,))
    state = inference.encoder_step(steps.encode(inference.begin_speaker(inference.start(batch).speakers[0])))
    noise = state.noise_variance.clone().requires_grad_()
    state = replace(state, noise_variance=noise, started=state.started._replace(mask=state.started.mask * 1.2j))
    speech, error = state.speech_variance[:, 0], state.started.variance[:, 0]
    covariance = torch.stack([speech + noise, speech, speech, speech + error], dim=-1).unflatten(-1, (2, 2))
    seen = torch.stack([torch.ones_like(state.started.mask), state.started.mask], dim=-1)[:, 0]
    seen = state.power.sqrt()[..., None] * seen
    solved = torch.linalg.solve(covariance.to(seen), seen)
    wanted = (seen.conj() * solved).sum(dim=-1).real + torch.logdet(covariance)
    statistics = steps.sufficient_statistics(state)
    assert torch.allclose(statistics.nll, wanted.sum(dim=-1))
    [gradient] = torch.autograd.grad(wanted.sum(), noise)
    assert torch.allclose(statistics.denominator - statistics.numerator, gradient)
    mean = speech * solved.sum(dim=-1)
    assert torch.allclose(statistics.wiener * seen[..., 0], mean)


def test_the_noise_begins_as_what_all_speakers_leave() -> None:
    inference, batch = VEM(ToyPrior(), NMF(rank=2), start=Halver()).double(), sounds((640,))
    two = replace(batch.select([0, 0]), mixture=torch.tensor([0, 0]))
    states = inference.start(two).speakers
    assert all(torch.equal(state.previous, states[0].previous) for state in states)
    assert states[0].noise_variance.max() < 1e-6 * states[0].power.max()  # two halves leave nothing


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

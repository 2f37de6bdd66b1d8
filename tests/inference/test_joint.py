"""One objective over all unknowns: value, gradient, solvers that never let it rise, and Anderson acceleration."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_models import ToyPrior, sounds

from avse.errors import AvseError
from avse.inference.em import steps
from avse.inference.em.joint import Joint, Memory, _lbfgs, _Problem
from avse.noise_models.nmf import NMF

SOLVERS = {
    "block": {},
    "accelerated": {"anderson": 3},
    "adam": {"solver": "adam"},
    "lbfgs": {"solver": "lbfgs"},
    "proximal": {"solver": "proximal"},
}


def _joint(**arguments: object) -> Joint:
    return Joint(
        ToyPrior(), NMF(rank=2), **{"gain_prior": (2.0, 1.0), "tolerance": 0.0, "iterations": 12, **arguments}
    ).double()


def _problem(joint: Joint) -> tuple[_Problem, torch.Tensor]:
    speakers = [joint.begin_speaker(state) for state in joint.start(sounds((640, 320))).speakers]
    problem = _Problem(joint, speakers)
    return problem, problem.place(speakers)


def test_value_is_the_negative_log_posterior() -> None:
    joint = _joint(prior_weight=1.5)
    problem, place = _problem(joint)
    value, gradient = problem.value(place)
    [state] = problem.states(place)
    for row in range(2):
        total = 0.0
        for frame in range(int(state.mask[row].sum())):
            speech = joint.prior.decode(state.latent[row : row + 1, 0], state.model.context)[0, frame].exp()
            noise = state.noise_state["gains"][row, frame] @ state.noise_state["spectra"][row]
            variance = state.gain[row, frame] * speech + noise
            total += float((state.power[row, frame] / variance + variance.log()).sum())
            total += 1.5 * 0.5 * float(state.latent[row, 0, frame].square().sum())
            total += float(state.gain[row, frame] - state.gain[row, frame].log())
        assert value[row].item() == pytest.approx(total, rel=1e-9)
    for unknown in (0, 3, place.shape[1] - 1, problem.widths[0], sum(problem.widths[:2])):
        moved = torch.zeros_like(place)
        moved[0, unknown] = 1e-6
        wanted = (problem.value(place + moved)[0] - problem.value(place - moved)[0]) / 2e-6
        assert gradient[0, unknown].item() == pytest.approx(wanted[0].item(), rel=1e-4, abs=1e-6)
        assert wanted[1].item() == 0.0


@pytest.mark.parametrize("arguments", SOLVERS.values(), ids=SOLVERS)
def test_the_objective_never_rises_and_falls(arguments: dict) -> None:
    trace = _joint(**arguments)(sounds((640, 320))).trace
    assert all(later <= earlier + 1e-12 for earlier, later in zip(trace, trace[1:]))
    assert trace[-1] < trace[0] - 1e-3


def test_acceleration_is_worth_its_evaluation() -> None:
    plain, accelerated = (_joint(anderson=count)(sounds((640, 320))).trace for count in (0, 4))
    assert accelerated[-1] < plain[-1]


def test_lbfgs_finds_the_minimum_of_a_quadratic() -> None:
    """With exact line searches and all pairs kept it takes as many steps as there are unknowns."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(4)
    place = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    past = torch.zeros(1, 4, 4, dtype=torch.float64)
    one = torch.ones(1, 1)
    memory = Memory(one, (matrix @ place[..., None])[..., 0], one, one, one, one, past, past)
    for _ in range(4):
        direction = _lbfgs(memory)
        size = -(direction * memory.gradient).sum() / (direction @ matrix[0] @ direction.mT)
        step = size * direction
        change = (matrix @ step[..., None])[..., 0]
        place = place + step
        memory = memory._replace(
            gradient=memory.gradient + change,
            places=torch.cat([memory.places[:, 1:], step[:, None]], dim=1),
            changes=torch.cat([memory.changes[:, 1:], change[:, None]], dim=1),
        )
    assert place.abs().max() < 1e-9


def test_what_does_not_fit_is_refused() -> None:
    for arguments, message in (
        ({"solver": "newton"}, "solver must be one of"),
        ({"solver": "adam", "anderson": 2}, "solver block"),
        ({"step_size": 0.0}, "step_size"),
    ):
        with pytest.raises(ValueError, match=message):
            _joint(**arguments)


def test_statistics_are_those_of_the_place_found() -> None:
    joint = _joint(iterations=3)
    *_, progress = joint.progress(sounds((640,)))
    [state] = progress.speakers
    expected = steps.mixture(state, state.speech_variance).wiener[:, 0]
    torch.testing.assert_close(progress.wiener[:, 0], expected)


def test_a_proximal_step_is_the_least_of_its_model() -> None:
    """Against gradient descent on what it minimises."""
    joint = _joint(solver="proximal", prior_weight=1.5)
    problem, place = _problem(joint)
    place = place + 0.1
    gradient, size = problem.value(place)[1], torch.tensor([[0.2], [0.05]], dtype=torch.float64)
    found = problem.proximal_step(place, gradient, size)
    latents, mask = problem.widths[0], problem.state.mask[:, :, None].expand(-1, -1, 2).flatten(1)
    of_prior = torch.zeros_like(place)
    of_prior[:, :latents] = 1.5 * place[:, :latents] * mask  # p(z) is standard normal
    tried = place.clone()
    for _ in range(2000):
        pull = torch.zeros_like(tried)
        pull[:, :latents] = 1.5 * tried[:, :latents] * mask
        slope = gradient - of_prior + (tried - place) / (size * problem.metric) + pull
        tried = tried - 0.5 * size * problem.metric * slope
    assert torch.allclose(found, tried, atol=1e-9)


def test_restarts_keep_the_best_chain_of_each_clip() -> None:
    batch = sounds((640, 320))
    once, several = _joint(restarts=1), _joint(restarts=4)
    *_, first = once.progress(batch)
    chains = list(several.progress(batch))
    assert bool((chains[-1].objective <= first.objective).all()) and len(chains[-1].objective) == 2
    assert bool((chains[-1].objective < first.objective).any())  # some draw was a better start
    whole = several(batch)
    assert whole.speech.shape == batch.noisy.shape and len(whole.trace) == 12
    for row in range(2):
        alone = several(batch.select([row]))
        samples = int(batch.lengths[row])
        torch.testing.assert_close(whole.speech[row, :samples], alone.speech[0, :samples])


def test_restarts_are_of_single_speakers() -> None:
    batch = sounds((640,))
    with pytest.raises(AvseError, match="restarts"):
        _joint(restarts=2)(replace(batch.select([0, 0]), mixture=torch.tensor([0, 0])))

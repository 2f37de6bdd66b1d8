"""Models that compete: one iteration against loops, states given back, equal states, gates, what must not change."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import FixedNoise, ToyPrior, sounds
from toy_switch import PER_FRAME, SeeingToy, SharpToy, ToySwitch, chain_of_states, drawn, mouths, normal

from avse import plugins
from avse.conformance import example_batch, seeded
from avse.conformance.inference import CHECKS
from avse.contracts.types import Batch
from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.mcem import MCEM
from avse.inference.em.switching_vem import SwitchingVEM
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF
from avse.noise_models.stationary import Stationary
from avse.signal.metrics import si_sdr

STAY, WEIGHT, TEMPERATURE = 0.9, 3.0, 0.5


@pytest.mark.parametrize("evidence", ["speech", "noisy"])
def test_the_fourth_iteration_against_loops(evidence: str) -> None:
    prior, batch = ToySwitch([SharpToy(seed=0), SharpToy(seed=5)], STAY), sounds((400,))
    noise, bins, steps = 4e-4, prior.bins, 7
    options = {"transition_weight": WEIGHT, "temperature": TEMPERATURE, "evidence": evidence}
    inference = SwitchingVEM(prior, FixedNoise(noise), iterations=3, tolerance=0.0, **options)
    *_, run = inference.progress(batch)
    [state] = run.speakers
    before = np.full((2, 2), 1 - STAY) + (2 * STAY - 1) * np.eye(2)  # before anything was observed
    gamma = state.speech_variance[0, 0].clone()
    chain = state.chain.transition[0].exp().tolist(), state.chain.initial[0].exp().tolist()
    assert np.abs(np.array(chain[0]) - before).max() > 0.01  # the chain has been learned
    with torch.no_grad():
        state = inference._e_step(state, inference.e_step, encodes=True)  # the fourth
    power = state.power[0]
    wiener = gamma / (gamma + noise)
    mean, spread = wiener * power.sqrt(), wiener * noise
    certainty = mean.square() / spread
    voice = mean.square() + spread * (-0.577216 - 0.83 * certainty).exp()
    levels, costs, told = [], [], np.zeros((steps, 2))
    for k, component in enumerate(prior.components):
        posterior = component.encode(voice[None], state.model.context)
        level = component.decode(posterior.mean, state.model.context)[0]
        mu, log_variance = posterior.mean[0], posterior.log_variance[0]
        cost = 0.5 * (log_variance.exp() + mu.square() - 1 - log_variance).sum(dim=1)
        for n in range(steps):
            for f in range(bins):
                s = math.exp(float(level[n, f]))
                if evidence == "speech":
                    told[n, k] -= math.log(s) + float(mean[n, f] ** 2 + spread[n, f]) / s
                else:
                    told[n, k] -= math.log(s + noise) + float(power[n, f]) / (s + noise)
            told[n, k] -= float(cost[n])
        levels.append(level)
        costs.append(cost)
    flat = told / (TEMPERATURE * bins)
    weights = {}
    for path in itertools.product(range(2), repeat=steps):
        weight = math.log(chain[1][path[0]]) + sum(flat[n, k] for n, k in enumerate(path))
        weights[path] = weight + sum(math.log(chain[0][j][k]) for j, k in zip(path, path[1:]))
    total = np.logaddexp.reduce(list(weights.values()))
    share, moves = np.zeros((steps, 2)), np.zeros((2, 2))
    for path, weight in weights.items():
        likely = math.exp(weight - total)
        for n, k in enumerate(path):
            share[n, k] += likely
            if n:
                moves[path[n - 1], k] += likely
    np.testing.assert_allclose(state.responsibility[0, :, :, 0].T, share, atol=1e-10)
    precision = sum(share[:, k, None] / levels[k].exp().numpy() for k in range(2))
    np.testing.assert_allclose(state.speech_variance[0, 0], 1 / precision, rtol=1e-9)
    for j in range(2):
        expected = (moves[j] + WEIGHT * before[j]) / (moves[j].sum() + WEIGHT)
        np.testing.assert_allclose(state.chain.transition[0, j].exp(), expected, rtol=1e-9)
    # The objective: -E log p(s | a) beyond that of speech of variance gamma, the divergence of z, and that of the path.
    divergence = (share * flat).sum() - total
    whole = TEMPERATURE * bins * divergence
    for k in range(2):
        excess = (levels[k] + torch.from_numpy(precision).log()).sum(dim=1)
        whole += float((torch.from_numpy(share[:, k]) * (costs[k] + excess)).sum())
    assert float(state.prior_cost.sum()) == pytest.approx(whole, rel=1e-9)


def test_data_drawn_from_the_model_give_back_states_and_parameters() -> None:
    prior, steps = ToySwitch([SharpToy(seed=0), SharpToy(seed=5)]), 400
    states = chain_of_states(steps, stay=[0.95, 0.8])
    batch = drawn(prior, states, normal(steps, 2))
    inference = SwitchingVEM(
        prior, Stationary(), iterations=12, temperature=1 / prior.bins, transition_weight=1.0, tolerance=0.0
    )
    *_, last = inference.progress(batch)
    found = last.speakers[0].responsibility[0, :, :, 0].argmax(dim=0)
    assert float((found == states).double().mean()) > 0.95
    moves = np.zeros((2, 2))
    for one, two in itertools.pairwise(states.tolist()):
        moves[one, two] += 1
    np.testing.assert_allclose(
        last.speakers[0].chain.transition[0].exp(), moves / moves.sum(1, keepdims=True), atol=0.08
    )
    speech = si_sdr(last.estimate(prior, batch).speech, batch.clean)
    for component in prior.components:  # better than either alone
        alone = VEM(component, Stationary(), iterations=12)(batch).speech
        assert float(speech) > float(si_sdr(alone, batch.clean)) + 0.3


SWITCHES = {
    "switching_vem": lambda prior, **more: SwitchingVEM(prior, NMF(rank=2), iterations=4, **more),
    "langevin": lambda prior, **more: Langevin(prior, NMF(rank=2), iterations=3, chains=2, **more),
}


@pytest.mark.parametrize("make", SWITCHES.values(), ids=SWITCHES)
@pytest.mark.parametrize("memory", [True, False], ids=["chain", "mixture"])
def test_a_batch_gives_what_its_clips_give_one_by_one(make, memory: bool) -> None:
    lengths = (9600, 5000, 64)
    system = make(ToySwitch([SharpToy(seed=0), ToyPrior(seed=5), ToyPrior(seed=6)], memory=memory))
    together = system(sounds(lengths)).speech
    for row, length in enumerate(lengths):
        alone = system(sounds((length,))).speech[0]
        torch.testing.assert_close(together[row, :length], alone, rtol=1e-4, atol=1e-6)


def test_clips_stop_one_by_one_and_as_they_would_alone() -> None:
    lengths = (9600, 5000, 1900)
    prior = ToySwitch([SharpToy(seed=0), SharpToy(seed=5)])
    system = SwitchingVEM(prior, NMF(rank=2), iterations=60, tolerance=2e-3)
    left = [len(run.rows) for run in system.progress(sounds(lengths))]
    assert left[-1] == 0 and len(set(left)) > 2
    together = system(sounds(lengths)).speech
    for row, length in enumerate(lengths):
        torch.testing.assert_close(together[row, :length], system(sounds((length,))).speech[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", SWITCHES.values(), ids=SWITCHES)
def test_two_equal_states_change_nothing(make) -> None:
    prior, batch = SharpToy(), sounds((6400, 3000))
    one, two = (make(ToySwitch([prior] * count))(batch) for count in (1, 2))
    torch.testing.assert_close(two.speech, one.speech, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(two.trace, one.trace, rtol=1e-9)


@pytest.mark.parametrize("make", [SWITCHES["switching_vem"]])
def test_pieces_of_a_long_clip_share_the_choice_and_give_what_the_whole_gives(make) -> None:
    prior, batch = ToySwitch([SharpToy(seed=0), SharpToy(seed=5)]), sounds((24000, 7000))
    whole, pieces = make(prior)(batch), make(prior, chunk_seconds=0.4)(batch)
    torch.testing.assert_close(pieces.speech, whole.speech, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(pieces.trace, whole.trace, rtol=1e-9)


def _talk(steps: int = 200) -> tuple[SeeingToy, Batch, torch.Tensor, torch.Tensor]:
    """A sound whose voice a mouth can tell; a mouth that does, and another's."""
    prior, latent = SeeingToy(), normal(steps, 2)
    batch = drawn(prior, torch.zeros(steps, dtype=torch.int64), latent, noise=0.006)
    batch.valid = torch.ones_like(batch.valid)
    return prior, batch, mouths(latent), mouths(normal(steps, 2, seed=9))


GATED = {
    "vem": lambda prior, gate: VEM(prior, Stationary(), iterations=15, gate=gate),
    "langevin": lambda prior, gate: Langevin(prior, Stationary(), iterations=15, chains=2, gate=gate),
    "mcem": lambda prior, gate: MCEM(prior, Stationary(), iterations=15, gate=gate),
    "map": lambda prior, gate: MAP(prior, Stationary(), iterations=15, gate=gate),
}


@pytest.mark.parametrize("make", GATED.values(), ids=GATED)
def test_the_gate_keeps_what_helps_and_leaves_what_misleads(make) -> None:
    prior, batch, right, wrong = _talk()
    score = lambda estimate: float(si_sdr(estimate.speech, batch.clean))
    audio = score(make(prior, "none")(batch.without_video()))
    for mouth, low, high in ((right, 0.9, 1.0), (wrong, 0.0, 0.1)):
        seen = replace(batch, mouth=mouth)
        open_gate = score(make(prior, "none")(seen))
        assert (open_gate > audio) if mouth is right else (open_gate < audio - 2)
        estimate = make(prior, "frame")(seen)
        assert low <= float(estimate.reliability.mean()) <= high
        assert score(estimate) > max(audio, open_gate) - 0.1


@pytest.mark.parametrize("make", [*GATED.values(), lambda prior, _: SwitchingVEM(prior, Stationary(), iterations=15)])
def test_the_gate_by_frame_finds_the_span_of_another_mouth(make) -> None:
    prior, batch, right, wrong = _talk(steps=300)
    mouth = torch.where((torch.arange(30) < 12)[None, :, None, None], wrong, right)
    batch.valid[:, 20:24] = False
    estimate = make(prior, "frame")(replace(batch, mouth=mouth))
    found = estimate.reliability[0]
    assert not bool(found[20:24].any())
    assert float(found[:11].max()) < 0.55 and float(found[[*range(13, 20), *range(24, 30)]].min()) > 0.65


def test_reliability_is_the_posterior_on_the_clock_of_the_video() -> None:
    prior, batch, right, _ = _talk()
    batch = replace(batch, mouth=right)
    for run in VEM(prior, Stationary(), iterations=2, gate="frame").progress(batch):
        share = run.speakers[0].responsibility[0, :, :, 0]
    torch.testing.assert_close(share.sum(dim=0), torch.ones_like(share[0]))
    by_frame = share[1].unflatten(0, (-1, PER_FRAME)).mean(dim=1)
    torch.testing.assert_close(run.estimate(prior, batch).reliability[0], by_frame)


@pytest.mark.parametrize("name", ["switching_vae", "mixture_vae"])
def test_without_a_valid_frame_all_is_as_vem_has_it_with_the_audio_component(name: str) -> None:
    with seeded(0):
        prior = plugins.get("prior", name).example().eval()
    batch = example_batch((6400, 4000), gap=(2, 4))
    unseen = replace(batch, valid=torch.zeros_like(batch.valid))
    estimate = SwitchingVEM(prior, NMF(rank=2), iterations=5)(unseen)
    expected = VEM(prior.components[0], NMF(rank=2), iterations=5)(batch.without_video())
    assert torch.equal(estimate.speech, expected.speech) and estimate.trace == expected.trace
    assert not bool(estimate.reliability.any())
    assert not torch.equal(SwitchingVEM(prior, NMF(rank=2), iterations=5)(batch).speech, expected.speech)


def _gated(inference: str, gate: str) -> type:
    cls = plugins.get("inference", inference)

    class Gated(cls):
        __doc__ = cls.__doc__

        @classmethod
        def example_arguments(kind) -> dict:
            prior = plugins.get("prior", "av_vae").example()
            return {**cls.example_arguments(), "prior": prior, "gate": gate}

    return Gated


VIDEO_CHECKS = [
    check
    for check in CHECKS
    if check.name in ("reliability", "padding", "no_video_is_audio_only", "invalid_frames_ignored", "precision")
]


@pytest.mark.parametrize(("inference", "gate"), [("langevin", "frame"), ("mcem", "frame"), ("map", "frame")])
@pytest.mark.parametrize("check", VIDEO_CHECKS, ids=lambda check: check.name)
def test_inferences_with_a_gate_keep_the_contract(inference: str, gate: str, check) -> None:
    check.run(_gated(inference, gate))


def test_mistakes_are_said() -> None:
    prior, noise = ToyPrior(), NMF()
    for wrong, message in (
        (lambda: VEM(prior, noise, gate="open"), "gate must be one of none, frame"),
        (lambda: VEM(prior, noise, gate="clip"), "frame"),
        (lambda: MAP(prior, noise, temperature=0.0), "temperature and transition_weight must be above 0"),
        (lambda: SwitchingVEM(prior, noise, evidence="video"), "evidence must be one of noisy, speech"),
        (lambda: plugins.get("prior", "switching_vae")(stay=1.0), "stay must be above 0 and below 1"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()

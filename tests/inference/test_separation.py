"""Several speakers in one mixture: the joint posterior against loops, and what separation promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import BLOCK, DynamicalToy, FixedNoise, ToyPrior, sounds, state_of
from toy_switch import PER_FRAME, SeeingToy, ToySwitch, mouths, normal

import avse
from avse.contracts.system import run
from avse.contracts.types import Batch, Clip, Estimate
from avse.errors import AvseError
from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.mcem import MCEM
from avse.inference.em.steps import energy, m_step, objective
from avse.inference.em.switching_vem import SwitchingVEM
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF
from avse.signal.levels import LEVEL

KINDS = {
    "langevin": {"chains": 2, "iterations": 4},
    "mcem": {"chains": 2, "draws": 3, "burn_in": 1, "iterations": 4},
    "vem": {"iterations": 4},
    "map": {"iterations": 4},
    "switching_vem": {"iterations": 4},
}
CLASSES = {"langevin": Langevin, "mcem": MCEM, "vem": VEM, "map": MAP, "switching_vem": SwitchingVEM}
BINS = 32


def separate(system: torch.nn.Module, batches: Sequence[Batch], names: Sequence[str | None] = ()) -> Estimate:
    """By a batch for each speaker."""
    return run(system, Batch.of_speakers(batches, names))


def _toy(seed: int) -> SeeingToy:
    return SeeingToy(latent_dim=2, seed=seed)


def _batches(lengths: tuple[int, ...] = (3840, 2560), count: int = 3, visible: int = 2) -> list[Batch]:
    """A mixture, and the mouths of `visible` of its speakers: a batch for each speaker."""
    batch = sounds(lengths)
    frames = batch.valid.shape[1]
    draw = torch.Generator().manual_seed(3)
    batches = []
    for speaker in range(count):
        mouth = torch.randint(0, 255, (len(lengths), frames, 88, 88), generator=draw, dtype=torch.uint8)
        valid = torch.zeros(len(lengths), frames, dtype=torch.bool)
        if speaker < visible:
            for row, length in enumerate(lengths):
                valid[row, : -(-length // 640)] = True
        batches.append(replace(batch, mouth=mouth * valid[..., None, None], valid=valid))
    return batches


def _inference(kind: str, prior=None, **arguments):
    prior = _toy(0) if prior is None else prior
    return CLASSES[kind](prior, NMF(rank=2), **{**KINDS[kind], "gain_prior": (2.0, 1.0), **arguments})


def _joint_energy(priors, latents, gains, noise, power) -> float:
    """-log p(x, z_1 ... z_J) of one draw, term by term; latents (frames, dim)."""
    spread = [prior.decode(z[None], None)[0].exp().tolist() for prior, z in zip(priors, latents)]
    total = 0.0
    for n in range(len(power)):
        for f in range(len(power[n])):
            v = noise[n][f] + sum(gain[n] * one[n][f] for gain, one in zip(gains, spread))
            total += power[n][f] / v + math.log(v)
    for prior, z in zip(priors, latents):
        before = prior.prior(z[None], None)
        for row, mean, log_variance in zip(z.tolist(), before.mean[0].tolist(), before.log_variance[0].tolist()):
            for value, m, s in zip(row, mean, log_variance):
                total += 0.5 * ((value - m) ** 2 / math.exp(s) + s)
    return total


@pytest.mark.parametrize("make", [ToyPrior, DynamicalToy], ids=["by step", "dynamical"])
def test_the_gradient_of_each_speaker_is_that_of_the_joint_energy(make) -> None:
    steps, chains = 3, 2
    priors = [make(seed=seed) for seed in range(3)]
    draw = torch.Generator().manual_seed(1)
    rand = lambda *shape: torch.rand(*shape, generator=draw, dtype=torch.float64)
    power, noise = 0.02 * rand(1, steps, BINS), 0.002 + 0.01 * rand(1, steps, BINS)
    gains = [0.5 + rand(1, steps, 1) for _ in priors]
    latents = [torch.randn(1, chains, steps, 2, generator=draw, dtype=torch.float64) for _ in priors]
    states = [state_of(one, power, z, noise, gain) for one, z, gain in zip(priors, latents, gains)]
    decoded = [one.decode(z[0], None).exp()[None] for one, z in zip(priors, latents)]
    numbers = ([g[0, :, 0].tolist() for g in gains], noise[0].tolist(), power[0].tolist())
    for j, state in enumerate(states):
        others = sum(gains[i][:, None] * decoded[i] for i in range(3) if i != j)
        with torch.no_grad():
            _, cost, nll, gradient = energy(replace(state, interference=others), latents[j])
        for chain in range(chains):
            here = [z[0, chain] for z in latents]
            others = sum(0.5 * float((z**2).sum()) if make is ToyPrior else 0.0 for i, z in enumerate(here) if i != j)
            if make is ToyPrior:
                whole = _joint_energy(priors, here, *numbers)
                assert float((cost + nll)[0, chain].sum()) + others == pytest.approx(whole, rel=1e-10)
            for index in np.ndindex(steps, 2):
                values = []
                for sign in (1, -1):
                    moved = [z.clone() for z in here]
                    moved[j][index] += sign * 1e-5
                    values.append(_joint_energy(priors, moved, *numbers))
                expected = (values[0] - values[1]) / 2e-5
                assert float(gradient[0, chain][index]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_m_step_of_all_speakers_lowers_what_the_loops_compute() -> None:
    """One gradient for noise and all gains: the joint objective falls, and is what `objective` says."""
    priors = [ToyPrior(seed=seed) for seed in range(2)]
    noise_model, gain_prior = NMF(rank=2), (2.0, 1.0)
    batch = sounds((1280,))
    states = [Langevin(one, noise_model, chains=2).start(batch).speakers[0] for one in priors]
    draw = torch.Generator().manual_seed(0)
    latents = [torch.randn(1, 2, 20, 2, generator=draw, dtype=torch.float64) for _ in priors]
    states = [
        replace(
            state,
            latent=z,
            speech_variance=prior.decode(z, None).exp(),
            prior_cost=0.5 * z.square().sum(dim=-1, keepdim=True),
        )
        for state, prior, z in zip(states, priors, latents)
    ]

    def naive(gains, noise, power) -> float:
        total = 0.0
        for chain in range(2):
            total += _joint_energy(priors, [z[0, chain] for z in latents], gains, noise, power) / 2
        return total + sum(g - math.log(g) for one in gains for g in one)

    power = states[0].power[0].tolist()
    values = []
    for _ in range(4):
        before = [state.gain[0, :, 0].tolist() for state in states], states[0].noise_variance[0].tolist()
        updated, statistics = m_step(states, noise_model, gain_prior, 10**9)
        values.append(naive(*before, power))
        found = objective(states, statistics, gain_prior).item()
        assert found * 20 * BINS == pytest.approx(values[-1], rel=1e-9)
        states = updated
    assert values == sorted(values, reverse=True) and values[0] > values[-1] + 1


def test_draws_are_those_of_the_joint_posterior() -> None:
    """Two speakers in one frame, each with one latent: means and covariance against a grid."""
    priors = [ToyPrior(latent_dim=1, seed=seed) for seed in (4, 5)]
    for prior, sign in zip(priors, (1.0, -1.0)):
        prior.tilt = 1.2 + sign * torch.linspace(-0.4, 0.4, BINS, dtype=torch.float64)[None]
    batch = sounds((BLOCK,), seed=2)
    switch = _Named(priors)
    inference = MCEM(switch, FixedNoise(2e-4), iterations=150, draws=3, burn_in=1, chains=40, proposal_variance=2.0,
                     warm_start=0, tolerance=0)  # fmt: skip
    places = []
    for progress in inference.progress(Batch.of_speakers([batch, batch], ["0", "1"])):
        places.append(torch.stack([state.latent[0, :, 0, 0] for state in progress.speakers]))
    draws = torch.cat(places[30:], dim=1)
    state = progress.speakers[0]
    grid = torch.linspace(-5, 5, 161, dtype=torch.float64)
    spread = [one.decode(grid[None, :, None], None)[0].exp() for one in priors]
    total = spread[0][:, None] + spread[1][None] + 2e-4
    joint = (state.power[0, 0] / total + total.log()).sum(dim=-1) + 0.5 * (grid[:, None] ** 2 + grid[None] ** 2)
    density = (joint.min() - joint).exp()
    density /= density.sum()
    means = (density.sum(dim=1) @ grid).item(), (density.sum(dim=0) @ grid).item()
    together = (grid @ density @ grid).item() - means[0] * means[1]
    assert draws.mean(dim=1).tolist() == pytest.approx(means, abs=0.08)
    assert torch.cov(draws)[0, 1].item() == pytest.approx(together, abs=0.08)
    assert abs(together) > 0.1  # or this would not look at how the two depend on each other


class _Named(ToySwitch):
    """Toy priors that can be asked for one by one."""

    names = ("0", "1")

    def of(self, name: str):
        if name not in self.names:
            raise ValueError(f"{name!r} is nobody.")
        return self.components[int(name)]


@pytest.mark.parametrize("kind", CLASSES)
def test_speech_and_noise_are_the_mixture(kind: str) -> None:
    batches = _batches()
    found = separate(_inference(kind), batches)
    assert found.speech.shape == (2, 3, 3840) and found.reliability.shape == (2, 3, 6)
    assert torch.equal(found.noise, batches[0].noisy - found.speech.sum(dim=1))
    assert not bool(found.speech[1, :, 2560:].any()) and bool(found.speech.any(dim=2).all())
    assert not bool(found.reliability[:, 2].any()) and bool(found.reliability[:, :2].any())
    assert [one.speech.shape[1] for one in found.unbind()] == [3840, 2560]


@pytest.mark.parametrize("kind", ["langevin", "mcem", "vem"])
def test_the_order_of_videos_is_that_of_the_estimates_and_changes_nothing_else(kind: str) -> None:
    batches = _batches()
    found = separate(_inference(kind), batches)
    turned = separate(_inference(kind), [batches[j] for j in (1, 2, 0)])
    assert torch.equal(found.speech[:, [1, 2, 0]], turned.speech)
    assert torch.equal(found.reliability[:, [1, 2, 0]], turned.reliability)
    assert found.trace == turned.trace


@pytest.mark.parametrize("kind", ["langevin", "vem", "switching_vem"])
def test_a_batch_gives_what_its_clips_give_and_chunks_change_little(kind: str) -> None:
    together = separate(_inference(kind, iterations=12, tolerance=0.02), _batches()).unbind()
    for row, length in enumerate((3840, 2560)):
        batches = [
            replace(one, noisy=one.noisy[row : row + 1, :length], lengths=one.lengths[row : row + 1],
                    mouth=one.mouth[row : row + 1, : length // 640], valid=one.valid[row : row + 1, : length // 640])
            for one in _batches()
        ]  # fmt: skip
        [alone] = separate(_inference(kind, iterations=12, tolerance=0.02), batches).unbind()
        torch.testing.assert_close(alone.speech, together[row].speech, rtol=1e-6, atol=1e-9)
    whole = separate(_inference("vem"), _batches(count=2))
    pieces = separate(_inference("vem", chunk_seconds=0.08), _batches(count=2))
    torch.testing.assert_close(whole.speech, pieces.speech, rtol=1e-6, atol=1e-9)


def test_two_equal_states_give_what_one_gives() -> None:
    one = separate(_inference("switching_vem", ToySwitch([_toy(0)])), _batches())
    two = separate(_inference("switching_vem", ToySwitch([_toy(0), _toy(0)])), _batches())
    torch.testing.assert_close(one.speech, two.speech, rtol=1e-9, atol=1e-12)
    assert one.responsibility is None and two.responsibility.shape == (2, 3, 6, 2)
    torch.testing.assert_close(two.responsibility, torch.full_like(two.responsibility, 0.5))


def _drawn_mixture() -> tuple[list[Batch], ToySwitch, torch.Tensor]:
    """Two speakers that follow states 0 and 1, at their level, and mouths that show z."""
    frames = 40
    steps = frames * PER_FRAME
    prior = ToySwitch([_toy(7), _toy(8)], stay=0.97)
    latents = [normal(steps, 2, seed=seed) for seed in (1, 2)]
    draw = torch.Generator().manual_seed(0)
    unit = torch.randn(3, 1, steps, BINS, 2, generator=draw, dtype=torch.float64) / 2**0.5
    spectra = torch.view_as_complex(unit)
    noise = 2e-5
    for _ in range(2):
        spoken = [
            spectra[j] * (0.5 * one.decode(z[None], None)).exp()
            for j, (one, z) in enumerate(zip(prior.components, latents))
        ]
        mixture = sum(spoken) + spectra[2] * noise**0.5
        audio = prior.synthesise(mixture, steps * BLOCK)
        factor = float(LEVEL / audio.square().mean().sqrt())
        for one in prior.components:
            one.level += 2 * np.log(factor)
        noise *= factor**2
    clean = torch.stack([prior.synthesise(one, steps * BLOCK) for one in spoken], dim=1)
    batches = [
        Batch(audio, torch.tensor([steps * BLOCK]), mouths(z), torch.ones(1, frames, dtype=torch.bool)) for z in latents
    ]
    return batches, prior, clean


def test_data_drawn_from_the_model_give_its_states_and_speech_back() -> None:
    batches, prior, clean = _drawn_mixture()
    inference = SwitchingVEM(prior, NMF(rank=1), iterations=30)
    found = separate(inference, batches)
    picked = found.responsibility[0].argmax(dim=2)
    assert float((picked[0] == 0).double().mean()) > 0.9 and float((picked[1] == 1).double().mean()) > 0.9
    for j in range(2):
        error = (found.speech[0, j] - clean[0, j]).square().sum()
        before = (batches[0].noisy[0] - clean[0, j]).square().sum()
        assert float(10 * (before / error).log10()) > 3.0
        # and with the speakers named it is not far better
    told = separate(SwitchingVEM(_as_named(prior), NMF(rank=1), iterations=30), batches, ["0", "1"])
    assert told.responsibility is None
    for j in range(2):
        free, known = ((one.speech[0, j] - clean[0, j]).square().sum() for one in (found, told))
        assert float(10 * (free / known).log10()) < 0.5


def _as_named(prior: ToySwitch) -> _Named:
    return _Named(list(prior.components), stay=prior.stay)


def test_speakers_without_a_video_are_told_apart_from_each_other() -> None:
    found = separate(_inference("vem"), _batches(count=2, visible=0))
    assert not torch.allclose(found.speech[:, 0], found.speech[:, 1])


def test_any_enhancer_is_asked_once_for_each_mouth() -> None:
    seen = []

    class Half(torch.nn.Module):
        def forward(self, batch: Batch) -> Estimate:
            seen.append(batch)
            share = batch.mouth[:, 0, 0, :1].double() / 255
            speech = share * batch.noisy
            return Estimate(speech, batch.noisy - speech, batch.valid.double(), batch.lengths)

    batches = _batches()
    found = separate(Half(), batches)
    assert [len(one) for one in seen] == [6] and seen[0].mixture.tolist() == [0, 0, 0, 1, 1, 1]
    for j, one in enumerate(batches):
        torch.testing.assert_close(found.speech[:, j], one.mouth[:, 0, 0, :1].double() / 255 * one.noisy)
    assert torch.equal(found.noise, batches[0].noisy - found.speech.sum(dim=1))
    assert Batch.of_speakers(batches).ids == [name for name in batches[0].ids for _ in batches]


def test_mistakes_are_told() -> None:
    batches = _batches(count=2)
    with pytest.raises(ValueError, match="every speaker needs one batch"):
        Batch.of_speakers([])
    with pytest.raises(AvseError, match="by name"):
        separate(_inference("vem"), batches, ["0", "1"])
    with pytest.raises(AvseError, match="is nobody"):
        separate(_inference("vem", _Named([_toy(0), _toy(1)])), batches, ["0", "carl"])
    with pytest.raises(ValueError, match="got 2 and 1"):
        Batch.of_speakers(batches, ["0"])
    with pytest.raises(AvseError, match="by name"):
        avse.load("avse-small").separate_clips([Clip(np.zeros(640, np.float32))] * 2, ["ann", None])

"""Inferences as a whole: known posteriors, data drawn from the model, batches that stop clip by clip, hard clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import BLOCK, DynamicalToy, FixedNoise, ToyPrior, sounds, state_of

from avse.contracts.prior import Gaussian
from avse.contracts.types import Batch, Clip
from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.mcem import MCEM
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF
from avse.noise_models.stationary import Stationary
from avse.signal.levels import LEVEL
from avse.signal.metrics import si_sdr

ALL = [VEM, MAP, Langevin, MCEM]


class OneUnit(ToyPrior):
    """log-variance z in each of four bins, z one number."""

    def __init__(self) -> None:
        super().__init__(latent_dim=1, bins=4)

    def decode(self, latent, context):
        return latent.expand(*latent.shape[:2], 4)


class OneUnitOverTime(OneUnit):
    """The same with z_n drawn towards z_(n-1)."""

    dynamical = True

    def prior(self, latent, context):
        return DynamicalToy.prior(self, latent, context)


POWER, NOISE = np.array([2.0, 1.0, 0.5, 3.0]), 0.1


def _nll(z: np.ndarray) -> np.ndarray:
    total = np.exp(z)[..., None] + NOISE
    return (POWER / total + np.log(total)).sum(axis=-1)


def _run(inference, state, iterations: int, burn_in: int) -> torch.Tensor:
    """Draws of z, one set of chains and steps after each iteration."""
    kept = []
    with torch.no_grad():
        for iteration in range(iterations):
            state = inference.e_step(state)
            if iteration >= burn_in:
                kept.append(state.latent.clone())
    return torch.stack(kept)


@pytest.mark.parametrize(
    "inference",
    [
        Langevin(OneUnit(), FixedNoise(), step_size=0.02, chains=1, steps=5),
        MCEM(OneUnit(), FixedNoise(), draws=6, burn_in=1, proposal_variance=0.3),
    ],
    ids=["langevin", "mcem"],
)
def test_draws_of_one_unit_have_the_moments_of_its_posterior(inference) -> None:
    grid = np.linspace(-6, 6, 4001)
    density = np.exp(-_nll(grid) - 0.5 * grid**2)
    density /= density.sum()
    mean = (grid * density).sum()
    variance = (grid**2 * density).sum() - mean**2
    steps = 3000  # all alike, and drawn by themselves
    power = torch.as_tensor(POWER).expand(1, steps, 4)
    state = state_of(inference.prior, power, torch.zeros(1, 1, steps, 1), torch.full_like(power, NOISE))
    zeros = torch.zeros(1, 1, steps, 1, dtype=torch.float64)
    start = Gaussian(zeros, zeros)
    state = inference.begin(replace(state, posterior=start))
    draws = _run(inference, state, iterations=60, burn_in=30)
    assert float(draws.mean()) == pytest.approx(mean, abs=0.02)
    assert float(draws.var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(
    "inference",
    [
        Langevin(OneUnitOverTime(), FixedNoise(), step_size=0.005, chains=2000, steps=5),
        MCEM(OneUnitOverTime(), FixedNoise(), chains=2000, draws=8, burn_in=1, proposal_variance=0.2),
    ],
    ids=["langevin", "mcem"],
)
def test_draws_over_time_have_the_moments_of_their_posterior(inference) -> None:
    grid = np.linspace(-4, 4, 401)
    first, second = np.meshgrid(grid, grid, indexing="ij")
    energy = _nll(first) + 0.5 * first**2 + 0.5 * (second - 0.9 * first) ** 2 / 0.19
    density = np.exp(-energy)  # the second step is not observed
    density /= density.sum()
    means = [(one * density).sum() for one in (first, second)]
    products = [(one * two * density).sum() for one, two in ((first, first), (first, second), (second, second))]
    covariance = products[0] - means[0] ** 2, products[1] - means[0] * means[1], products[2] - means[1] ** 2
    power = torch.as_tensor(np.stack([POWER, 0 * POWER]))[None]
    noise = torch.tensor([NOISE, 1e12], dtype=torch.float64)[None, :, None].expand(1, 2, 4)
    state = state_of(inference.prior, power, torch.zeros(1, 1, 2, 1), noise)
    zeros = torch.zeros(1, 1, 2, 1, dtype=torch.float64)
    state = inference.begin(replace(state, posterior=Gaussian(zeros, zeros)))
    draws = _run(inference, state, iterations=120, burn_in=60)[:, 0, :, :, 0].reshape(-1, 2).numpy()
    np.testing.assert_allclose(draws.mean(axis=0), means, atol=0.04)
    found = np.cov(draws.T)
    np.testing.assert_allclose((found[0, 0], found[0, 1], found[1, 1]), covariance, rtol=0.1)


def _drawn(prior: ToyPrior, steps: int) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """A sound drawn from the model at the level it is brought to, its noise variance, and the Wiener filter."""
    draw = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)
    latent = normal(1, steps, prior.latent_dim)
    noise = 0.006 * torch.linspace(0.2, 1.8, prior.bins, dtype=torch.float64).expand(1, steps, prior.bins)
    for _ in range(2):  # the first time finds the level, and the model takes it on
        speech = prior.decode(latent, None).exp()
        clean, other = (
            torch.complex(normal(1, steps, prior.bins), normal(1, steps, prior.bins)) * (variance / 2).sqrt()
            for variance in (speech, noise)
        )
        samples = steps * BLOCK
        sounds = [prior.synthesise(one, samples) for one in (clean, clean + other)]
        factor = float(LEVEL / sounds[1].square().mean().sqrt())
        prior.level += 2 * np.log(factor)
        noise = noise * factor**2
    batch = Batch.from_clips([Clip(np.zeros(samples, np.float32))])
    return replace(batch, noisy=sounds[1], clean=sounds[0]), noise, speech / (speech + noise)


@pytest.mark.parametrize(
    "make",
    [
        lambda prior: MCEM(prior, Stationary(), iterations=40, draws=8, burn_in=4, proposal_variance=0.1),
        lambda prior: Langevin(prior, Stationary(), iterations=60, step_size=0.07, steps=2),
        lambda prior: MAP(prior, Stationary(), iterations=60, tolerance=0.0),
    ],
    ids=["mcem", "langevin", "map"],
)
def test_data_drawn_from_the_model_give_back_noise_and_speech(make) -> None:
    prior = ToyPrior()
    batch, noise, wiener = _drawn(prior, steps=400)
    inference = make(prior)
    for run in inference.progress(batch):
        last = run
    error = 10 * (last.speakers[0].noise_variance / noise).log10()[0, 0]
    assert float(error.abs().mean()) < 1.0, f"noise is {error.tolist()} dB off"
    ideal = si_sdr(prior.synthesise(prior.analyse(batch.noisy) * wiener, batch.noisy.shape[1]), batch.clean)
    got = si_sdr(last.estimate(prior, batch).speech, batch.clean)
    assert float(got) > float(si_sdr(batch.noisy, batch.clean)) + 2.5
    assert float(got) > float(ideal) - 1.0


@pytest.mark.parametrize("prior", [ToyPrior(), DynamicalToy()], ids=["by step", "dynamical"])
@pytest.mark.parametrize("gain_prior", [None, (1.0, 0.0), (4.0, 3.0)])
def test_the_objective_of_map_never_rises(prior, gain_prior) -> None:
    inference = MAP(prior, NMF(rank=3), iterations=40, gain_prior=gain_prior, tolerance=0.0)
    trace = inference(sounds((6400,))).trace
    assert len(trace) == 40 and np.all(np.diff(trace) <= 1e-12)
    assert trace[-1] < trace[0] - 0.01


@pytest.mark.parametrize("inference", ALL)
def test_clips_stop_one_by_one_and_as_they_would_alone(inference: type) -> None:
    lengths = (9600, 5000, 1900)
    # Draws never come to rest; a coarse tolerance stops each clip at some iteration of its own.
    tolerance = {Langevin: 1e-2, MCEM: 5e-3, MAP: 5e-4}.get(inference, 2e-3)
    system = inference(ToyPrior(), NMF(rank=2), iterations=60, tolerance=tolerance)
    left = []
    for run in system.progress(sounds(lengths)):
        left.append(len(run.rows))
    together = system(sounds(lengths))
    assert left[-1] == 0 and 0 < min(one for one in left if one) < 3, f"clips that ran by iteration: {left}"
    for row, length in enumerate(lengths):
        alone = system(sounds((length,)))
        assert len(alone.trace) == sum(count > 0 for count in [1, *left][:-1]) or len(alone.trace) < len(left)
        torch.testing.assert_close(together.speech[row, :length], alone.speech[0], rtol=1e-4, atol=1e-4 * 0.05)


@pytest.mark.parametrize("inference", ALL)
def test_groups_of_clips_give_what_all_give_together(inference: type, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = (1900, 9600, 5000, 1910)
    batch = sounds(lengths)
    system = inference(ToyPrior(), NMF(rank=2), iterations=6, tolerance=2e-3)
    previous = system(batch)
    together = list(system.iterate(batch, previous=previous))
    monkeypatch.setattr(
        "avse.inference.em.driver._CACHED", 2 * (1910 // ToyPrior().hop) * system.chains * ToyPrior().bins
    )
    assert [rows for rows, _ in next(system._groups(batch, None))] == [[0, 3], [2], [1]]
    grouped = list(system.iterate(batch, previous=previous))
    assert len(grouped) == len(together)
    for one, other in zip(grouped, together):
        torch.testing.assert_close(one.speech, other.speech, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.speech + one.noise, batch.noisy)
        torch.testing.assert_close(one.reliability, other.reliability)
        np.testing.assert_allclose(one.trace, other.trace, rtol=1e-5)


@pytest.mark.parametrize("inference", [VEM, MAP])
def test_pieces_of_a_long_clip_share_the_noise_and_give_what_the_whole_gives(inference: type) -> None:
    batch = sounds((24000, 7000))
    whole = inference(ToyPrior(), NMF(rank=2), iterations=5)(batch)
    pieces = inference(ToyPrior(), NMF(rank=2), iterations=5, chunk_seconds=0.4)(batch)
    torch.testing.assert_close(pieces.speech, whole.speech, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("inference", ALL)
def test_hard_clips_stay_finite(inference: type) -> None:
    rng = np.random.default_rng(0)
    gap = 0.1 * rng.standard_normal(8000)
    gap[2000:6000] = 0.0
    hard = {
        "silence": np.zeros(4000),
        "one sample": np.ones(1),
        "clipping": np.clip(rng.standard_normal(4000) * 100, -1, 1),
        "a gap": gap,
        "long, in pieces": 0.1 * rng.standard_normal(60_000),
    }
    batch = Batch.from_clips([Clip(sound.astype(np.float32)) for sound in hard.values()])
    prior = DynamicalToy().float()
    for gain_prior in (None, (1.0, 0.0)):
        system = inference(prior, NMF(rank=2), iterations=15, chunk_seconds=1.0, gain_prior=gain_prior)
        estimate = system(batch)
        for name, one in zip(hard, estimate.unbind()):
            assert bool(one.speech.isfinite().all()), name
            assert float(one.speech.abs().max()) <= 1.01 * max(1e-9, np.abs(hard[name]).max()) * 3, name
        assert np.isfinite(estimate.trace).all()


@pytest.mark.parametrize("inference", ALL)
def test_level_of_the_clip_and_modes_of_gradient_change_nothing(inference: type) -> None:
    batch = sounds((5000,))
    system = inference(ToyPrior(), NMF(rank=2), iterations=4)
    expected = system(batch).speech
    louder = system(replace(batch, noisy=1000 * batch.noisy)).speech
    torch.testing.assert_close(louder, 1000 * expected, rtol=1e-6, atol=1e-8)
    with torch.inference_mode():
        torch.testing.assert_close(system(sounds((5000,))).speech, expected, rtol=0, atol=0)
    other = inference(ToyPrior(), NMF(rank=2), iterations=4, seed=1)(batch).speech
    assert torch.equal(other, expected) == (inference in (VEM, MAP))


def test_a_previous_estimate_is_where_the_next_begins() -> None:
    batch = sounds((8000,))
    system = VEM(ToyPrior(), FixedNoise(1e-4), iterations=1)
    seen: list[torch.Tensor] = []
    encode = system.prior.encode
    system.prior.encode = lambda power, context: seen.append(power.clone()) or encode(power, context)
    estimate = system(batch)
    system(batch, previous=replace(estimate, speech=0.5 * batch.noisy))
    torch.testing.assert_close(seen[-2], 0.25 * seen[0])


def test_reliability_is_the_priors_and_only_where_a_mouth_is_seen() -> None:
    class Seen(ToyPrior):
        def context(self, batch):
            context = super().context(batch)
            valid = batch.valid.repeat_interleave(10, dim=1)[:, : context.mask.shape[1]] & context.mask
            return replace(context, valid=valid, video=valid[..., None].double()) if bool(valid.any()) else context

        def reliability(self, latent, context):
            return 0.5 * context.valid.to(latent)

    batch = sounds((6400, 3200))
    batch.valid[0, 2:5] = True
    estimate = VEM(Seen(), NMF(rank=2), iterations=3)(batch)
    expected = torch.zeros(2, 10, dtype=torch.float64)
    expected[0, 2:5] = 0.5
    torch.testing.assert_close(estimate.reliability.double(), expected)


def test_mistakes_are_said() -> None:
    prior, noise = ToyPrior(), NMF()
    for wrong, message in (
        (lambda: MCEM(prior, noise, draws=5, burn_in=5), "burn_in must be in"),
        (lambda: Langevin(prior, noise, chains=0), "at least 1"),
        (lambda: Langevin(prior, noise, step_size=0.0), "step_size must be above 0"),
        (lambda: MAP(prior, noise, steps=0), "steps must be at least 1"),
        (lambda: MAP(prior, noise, gain_prior=(0.5, 1.0)), "gain_prior is a shape"),
        (lambda: VEM(prior, noise, tolerance=-1.0), "tolerance must not be negative"),
        (lambda: VEM(prior, noise, encoder="clean"), "encoder must be one of amortised, published"),
        (lambda: VEM(prior, noise, chunk_seconds=0.0), "chunk_seconds above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()

"""Posterior sampling against posteriors that are known, and what all of its variants promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import BLOCK, FixedNoise, GaussianPrior, ScoredNoise

from avse import plugins
from avse.conformance import build, example_batch
from avse.contracts.prior import Context
from avse.contracts.types import Batch, Clip
from avse.inference.posterior_sampling.base import Draw
from avse.signal.levels import LEVEL

VARIANTS = [
    "udiffse",
    "udiffse_plus",
    "posterior_sampling_noise_latent",
    "posterior_sampling_lambda_free",
    "posterior_sampling_moments",
]
BINS = BLOCK // 2


def draws(
    name: str, speech: float, noise: float, std_max: float, *, scored: bool = False, **arguments: object
) -> tuple[torch.Tensor, ...]:
    """Normalised distance of draws from the exact posterior mean, and the share of the sound that they take over."""
    steps = 400
    rng = np.random.default_rng(1)
    gradient = np.linspace(0.5, 2.0, BINS)
    powers = [power * LEVEL**2 * gradient**sign for power, sign in ((speech, 1), (noise, -1))]
    parts = [np.sqrt(p / 2) * (rng.standard_normal((2, steps, BINS)) * [[[1]], [[1j]]]).sum(0) for p in powers]
    sound = torch.view_as_real(torch.from_numpy(parts[0] + parts[1])).flatten()
    factor = (LEVEL / sound.square().mean().sqrt()) ** 2  # what brings the sound to the level of the prior, squared
    power, variance = (torch.from_numpy(p) * factor for p in powers)
    sde = plugins.get("sde", "variance_exploding")(std_min=0.002 * LEVEL, std_max=std_max * LEVEL, first_time=0.1)
    prior = GaussianPrior(power, sde)
    batch = Batch.from_clips([Clip(np.zeros(steps * BLOCK, np.float32))])
    batch.noisy = sound[None]
    noise_model = ScoredNoise(variance, LEVEL) if scored else FixedNoise(variance)
    found = plugins.get("inference", name)(prior, noise_model, **arguments)(batch)
    spectrum = prior.analyse(found.speech * factor.sqrt())[0]
    given = prior.analyse(sound[None] * factor.sqrt())[0]
    mean, left = power / (power + variance) * given, power * variance / (power + variance)
    share = (spectrum * given.conj()).real.mean(0) / given.abs().square().mean(0) * (power + variance) / power
    return (spectrum - mean).abs().square().mean(0) / left, share


@pytest.mark.parametrize("scored", [False, True], ids=["one score", "two scores"])
@pytest.mark.parametrize("sampler", ["ancestral", "predictor_corrector"])
def test_draws_by_moments_have_the_exact_posterior(sampler: str, scored: bool) -> None:
    """Speech given the state is Gaussian with a known variance: then the method is exact but for its steps.

    So it is where the noise has a state of its own.
    """
    steps = plugins.get("sampler", sampler)(steps=60)
    spread, share = draws("posterior_sampling_moments", 1.0, 0.7, 5.0, scored=scored, sampler=steps, chains=1)
    assert share.sub(1).abs().max() < 0.15 and abs(share.mean() - 1) < 0.035
    assert abs(spread.mean() - 1) < 0.15 and spread.sub(1).abs().max() < 0.35


def test_what_is_expected_of_speech_and_noise_is_that_of_their_joint_gaussian() -> None:
    """E[s, n | both states, x] against the covariance of all five, in 64 bits."""
    rng, time = np.random.default_rng(0), torch.tensor([0.4]).double()
    power, variance = torch.from_numpy(rng.uniform(0.3, 4.0, (2, BINS)))
    sde = plugins.get("sde", "ornstein_uhlenbeck")()
    model = ScoredNoise(variance, 0.1)
    inference = plugins.get("inference", "posterior_sampling_moments")(GaussianPrior(power, sde), model, chains=1)
    s_t, n_t, x = rng.standard_normal((3, BINS)) + 1j * rng.standard_normal((3, BINS))
    scale, std = (float(value) for value in sde.marginal(time))
    wanted = []
    for bin_ in range(BINS):
        p, v = float(power[bin_]), float(variance[bin_])
        maps = np.array([[scale, 0], [0, scale * 0.1 / np.sqrt(v)], [1, 1]])  # of (s, n) to both states and x
        cross = np.diag([p, v]) @ maps.T
        seen = maps @ np.diag([p, v]) @ maps.T + np.diag([std**2, std**2, 0])
        wanted.append(cross @ np.linalg.solve(seen, [s_t[bin_], n_t[bin_], x[bin_]]))
    tensor = lambda value: torch.tensor(value)[None, None]
    state = {"variance": variance[None, None]}
    noisy = tensor(n_t) / scale
    moments = model.noise_given(noisy, sde.ratio(time), state, torch.ones(1, 1, dtype=torch.bool))
    empty = torch.zeros(1, 1, BINS, dtype=torch.complex128)
    draw = Draw(tensor(x), state["variance"], lambda: empty, empty, empty, empty.real, noise_moments=moments)
    context = Context(torch.ones(1, 1).bool(), torch.zeros(1, 1).bool())
    speech, _ = inference.expect(draw, *inference.prior.speech_given(tensor(s_t), time, context))
    found = torch.stack([speech[0, 0], tensor(x)[0, 0] - speech[0, 0]], dim=1)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


def test_draws_without_lambda_are_exact_where_speech_may_be_anything() -> None:
    """Its likelihood knows nothing of speech, which is right in the limit of a broad prior and of many steps."""
    sampler = plugins.get("sampler", "ancestral")(steps=120)
    spread, share = draws("posterior_sampling_lambda_free", 50.0, 0.5, 40.0, sampler=sampler)
    assert abs(share.mean() - 1) < 0.05
    assert abs(spread.mean() - 1) < 0.25


def test_moments_in_the_transform_lead_back_to_the_state_and_the_excess_is_what_their_power_lacks() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(2, 5, 9, dtype=torch.complex64, generator=generator)
    variance = torch.rand(2, 5, 9, generator=generator)
    cls = plugins.get("inference", "posterior_sampling_moments")
    found = [build(cls, variance_excess=value).speech_moments(mean, variance) for value in (0.0, 1.0)]
    expected, exact = build(cls).prior.spectrum_of(mean, variance)
    for centre, _ in found:
        torch.testing.assert_close(build(cls).prior.state_of(centre), mean)
    torch.testing.assert_close(found[0][1], exact)
    torch.testing.assert_close(found[1][0].abs().square() + found[1][1], expected.abs().square() + exact)


def test_averaged_draws_come_near_the_posterior_mean() -> None:
    sampler = plugins.get("sampler", "ancestral")(steps=40)
    one, many = (draws("posterior_sampling_moments", 1.0, 0.7, 5.0, sampler=sampler, chains=n)[0] for n in (1, 4))
    assert many.mean() < 0.45 * one.mean()


@pytest.mark.parametrize("name", VARIANTS)
def test_evaluations_are_counted_and_a_run_can_be_stopped(name: str) -> None:
    inference, batch = build(plugins.get("inference", name)), example_batch((1920,))
    asked = 0
    whole = inference.prior.speech_given

    def counted(*arguments):
        nonlocal asked
        asked += 1
        return whole(*arguments)

    inference.prior.speech_given = counted
    last = inference(batch)
    assert asked == inference.evaluations and len(last.trace) == inference.iterations
    stopped = inference(batch, seconds=0.0)
    assert len(stopped.trace) == 1 and stopped.trace[0] == last.trace[0]
    inference.seed = 1
    assert not torch.equal(inference(batch).speech, last.speech)


def test_published_settings_take_as_many_evaluations_as_published() -> None:
    for name, published in zip(VARIANTS, (300, 60, 60, 60)):
        cls = plugins.get("inference", name)
        parts = {key: value for key, value in cls.example_arguments().items() if key in ("prior", "noise_model")}
        inference = cls(**parts)
        assert inference.evaluations == published


def test_mistakes() -> None:
    parts = build(plugins.get("inference", "posterior_sampling_lambda_free"))
    with pytest.raises(ValueError, match="draw at random.*euler does not"):
        type(parts)(parts.prior, parts.noise_model, plugins.get("sampler", "euler")(steps=2))
    with pytest.raises(ValueError, match="chains must be at least 1"):
        plugins.get("inference", "udiffse")(parts.prior, parts.noise_model, chains=0)
    with pytest.raises(ValueError, match="needs a ScorePrior, got VAE"):
        prior = plugins.get("prior", "vae").example()
        plugins.get("inference", "udiffse")(prior, parts.noise_model)


def test_the_filter_takes_from_the_noisy_sound() -> None:
    inference, batch = (
        build(plugins.get("inference", "posterior_sampling_moments"), wiener=True),
        example_batch((1920,)),
    )
    filtered = inference(batch).speech
    inference.wiener = False
    assert not torch.equal(filtered, inference(batch).speech)
    assert filtered.abs().max() <= 2 * batch.noisy.abs().max()


class FaithfulPrior(GaussianPrior):
    """As `GaussianPrior`; a video of a step shows its speech, give or take a little."""

    def context(self, batch):
        bare = super().context(batch)
        return Context(bare.mask, bare.mask & (batch.mouth[:, :1, 0, 0] < 255), self.shown)

    def speech_given(self, state, time, context):
        mean, variance = super().speech_given(state, time, context)
        if context.video is None:
            return mean, variance
        told = context.valid[..., None]
        return torch.where(told, context.video, mean), torch.where(told, 0.05 * self.power, variance)


@pytest.mark.parametrize("gate", ["frame"])
def test_the_gate_believes_a_video_as_far_as_it_foretells_the_sound(gate: str) -> None:
    steps, rng = 60, np.random.default_rng(3)
    power = torch.full((BINS,), 1.6 * LEVEL**2).double()  # with the noise: that of a sound at `LEVEL`
    prior = FaithfulPrior(power, plugins.get("sde", "variance_exploding")(std_min=0.002 * LEVEL, std_max=5 * LEVEL))
    white = lambda: torch.from_numpy(
        (rng.standard_normal((3, steps, BINS, 2)) @ [1, 1j]) * power.sqrt()[0].item() / 1.4
    )
    speech = white()
    prior.shown = torch.stack([speech[0], white()[1], white()[2]])  # right; wrong; wrong, and not valid
    noisy = torch.view_as_real(speech + 0.5 * white()).flatten(1)
    batch = Batch.from_clips([Clip(np.zeros(steps * BLOCK, np.float32))] * 3)
    batch.noisy = noisy * (LEVEL / noisy.square().mean(dim=1, keepdim=True).sqrt())
    scale = batch.noisy[:, :1] / noisy[:, :1]
    prior.shown, batch.mouth[2] = prior.shown * scale[..., None], 255
    prior.reliability = lambda state, time, context: context.valid.double()
    sampler, noise_model = plugins.get("sampler", "ancestral")(steps=8), FixedNoise(0.25 * power)
    run = lambda prior, gate: plugins.get("inference", "posterior_sampling_moments")(
        prior, noise_model, sampler, gate=gate, chains=1
    )(batch)
    gated = run(prior, "frame")
    blind, seen = run(GaussianPrior(power, prior.sde), "none").speech, run(prior, "none").speech
    apart = (seen - blind).square().mean(dim=1)
    assert (gated.speech - seen)[0].square().mean() < 0.1 * apart[0]
    assert (gated.speech - blind)[1].square().mean() < 0.1 * apart[1]
    assert torch.equal(gated.speech[2], blind[2])
    share = gated.reliability.mean(dim=1)
    assert share[0] > 0.9 and share[1] < 0.1 and share[2] == 0

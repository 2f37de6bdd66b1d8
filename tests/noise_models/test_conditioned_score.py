"""The noise model `conditioned_score`: what it is untrained and untold, its loss, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avse import plugins
from avse.contracts.types import Batch, Clip
from avse.nnet.score_network import DATA_STD, ScoreNetwork
from avse.noise_models.conditioned_nmf import ConditionedNMF
from avse.noise_models.conditioned_score import ConditionedScore
from avse.training.noise_score import learn_noise_score, noise_nll


def _audio(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.randn(len(lengths), max(lengths), 321, dtype=torch.complex64, generator=_generator(1))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return noise * mask[..., None], mask


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _scenes(count: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 128, generator=_generator(0)), dim=1)


def test_without_a_scene_it_is_bit_for_bit_the_unconditioned_one() -> None:
    (noise, mask), model = _audio(30, 22), ConditionedScore()
    plain = ScoreNetwork(321, "compact")
    plain.load_state_dict({name: value for name, value in model.network.state_dict().items() if "tell" not in name})
    with torch.no_grad():
        model.network.tell.weight.add_(torch.randn(model.network.tell.weight.shape, generator=_generator(3)))
    mixed, power, ratio = torch.cat([torch.zeros(1, 128), _scenes(1)]), noise.abs().square(), torch.tensor([0.3, 0.3])
    given = []
    for scene in (None, mixed):
        state = model.initial_state(power, mask, scene)
        given.append(model.noise_given(model.domain_of(noise, state), ratio, state, mask))
    untold, told = given
    for one, other in zip(untold, told):
        assert torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])
    model.network = plain
    state = model.initial_state(power, mask)
    for one, other in zip(untold, model.noise_given(model.domain_of(noise, state), ratio, state, mask)):
        assert torch.equal(one, other)
    assert torch.equal(model.variance(state), ConditionedNMF(rank=2).variance(state))


def test_untrained_it_is_the_gaussian_of_its_variance() -> None:
    (noise, mask), model = _audio(12), ConditionedScore(score_pretrained=False)
    state = model.initial_state(noise.abs().square(), mask)
    ratio = torch.tensor([0.07])
    noisy = model.domain_of(noise, state) + ratio * torch.randn(noise.shape, dtype=torch.complex64)
    mean, variance = (value.detach().numpy() for value in model.noise_given(noisy, ratio, state, mask))
    v = model.variance(state).numpy().astype(np.float64)
    seen = noisy.numpy() * np.sqrt(v) / DATA_STD  # noise in white noise of the variance r^2 V / d^2
    white = 0.07**2 * v / DATA_STD**2
    np.testing.assert_allclose(mean, v / (v + white) * seen, rtol=1e-4)
    np.testing.assert_allclose(variance, v * white / (v + white), rtol=1e-4)
    white = torch.zeros_like(noise)
    loss = noise_nll(model, noise, state, ratio, white).item()
    shrunk = white.numpy() + noise.numpy() / (1 + 0.49)
    error = np.abs(noise.numpy() - shrunk) ** 2 / variance
    assert loss == pytest.approx(np.mean(error + np.log(variance / v)), rel=1e-4)


def test_two_scores_under_one_observation() -> None:
    """Untrained, draws agree with those under V alone; a batch gives what its clips give, each with its scene."""
    torch.manual_seed(0)
    prior = plugins.get("prior", "diffusion")(size="tiny")
    build = plugins.get("inference", "posterior_sampling_moments")
    sampler = plugins.get("sampler", "ancestral")(steps=6)
    rng = np.random.default_rng(0)
    clips = [Clip(rng.standard_normal(count).astype(np.float32)) for count in (6400, 3200)]
    system = build(prior, ConditionedScore(), sampler, chains=2, quantile=0.0).eval()
    assert system.draws_noise
    scenes = torch.cat([_scenes(1), torch.zeros(1, 128)])
    together = system(replace(Batch.from_clips(clips), scene=scenes)).unbind()
    for row, clip in enumerate(clips):
        [alone] = system(replace(Batch.from_clips([clip]), scene=scenes[row : row + 1])).unbind()
        torch.testing.assert_close(together[row].speech, alone.speech, rtol=1e-3, atol=1e-4)
    [untold] = system(Batch.from_clips(clips[1:])).unbind()
    assert torch.equal(untold.speech, alone.speech)
    with pytest.raises(ValueError, match="321 bins"):
        build(plugins.get("prior", "diffusion")(size="tiny", fft_size=320, hop=160), ConditionedScore())


def test_it_learns_what_a_gaussian_of_the_variance_misses() -> None:
    """Noise of bursts, told by name, against its mean power."""
    time = np.arange(32000)
    rng = np.random.default_rng(0)
    bursts = [rng.standard_normal(32000) * np.where(time % 8000 < 800, 1.0, 0.03) for _ in range(2)]
    model = ConditionedScore(rank=1, size="tiny", score_pretrained=False, begin_iterations=1)
    sde = plugins.get("sde", "ornstein_uhlenbeck")()
    losses = learn_noise_score(
        model, model.network, sde, [rng.standard_normal(32000)], bursts, [*_scenes(2)[:, None]], steps=40, rate=1e-2
    )
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.15

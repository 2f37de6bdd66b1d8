"""Supervised diffusion: two noisy observations are weighed exactly, and draws have the posterior's moments."""

from __future__ import annotations

import pytest
import torch

from avse import plugins
from avse.conformance import example_batch, seeded
from avse.contracts.prior import Context
from avse.nnet.score_network import Denoised, ScoreNetwork

MASK = torch.ones(8, 20, dtype=torch.bool)
CONTEXT = Context(MASK, torch.zeros_like(MASK))


def gaussian(variance: torch.Tensor) -> torch.Tensor:
    shape = (*MASK.shape, len(variance))
    return torch.complex(torch.randn(shape), torch.randn(shape)) * (variance / 2).sqrt()


def expected(noisy, sound, ratio, speech, noise):
    """Speech given itself in white noise of the deviation `ratio`, and in noise of the power `noise`."""
    certainty = 1 / speech + 1 / ratio.square()[:, None, None] + 1 / noise
    return (noisy / ratio.square()[:, None, None] + sound / noise) / certainty


@pytest.mark.slow
def test_training_recovers_speech_between_two_observations() -> None:
    speech, noise = torch.logspace(-3, -1, 9), torch.logspace(-1, -3, 9)
    draw = lambda: (gaussian(speech), 0.05 + 1.5 * torch.rand(8))
    with seeded(4):
        network, steps = ScoreNetwork(9, "tiny", conditions=1), 250
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
            clean, ratio = draw()
            noisy, sound = clean + ratio[:, None, None] * gaussian(torch.ones(9)), clean + gaussian(noise)
            loss = (
                (network(noisy, ratio, CONTEXT, condition=sound[:, None]).mean - clean).abs().square() / speech
            ).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        clean, ratio = draw()
        noisy, sound = clean + ratio[:, None, None] * gaussian(torch.ones(9)), clean + gaussian(noise)
        with torch.no_grad():
            found = network(noisy, ratio, CONTEXT, condition=sound[:, None]).mean
    exact = expected(noisy, sound, ratio, speech, noise)
    assert (((found - exact).abs().square() / speech).mean() / (exact.abs().square() / speech).mean()).sqrt() < 0.1


def test_it_begins_where_a_prior_ends() -> None:
    with seeded(5):
        prior, network = ScoreNetwork(9, "tiny"), ScoreNetwork(9, "tiny", conditions=1)
        noisy, sound = gaussian(torch.full((9,), 0.01)), gaussian(torch.full((9,), 0.01))
    loaded = network.load_state_dict(prior.state_dict(), strict=False)
    assert set(loaded.missing_keys) == {
        "enter_condition.weight",
        "noise_level_head.weight",
        "noise_level_head.bias",
        "refine.enter_condition.weight",
    }
    assert not loaded.unexpected_keys
    with torch.no_grad():
        network.noise_level_head.bias.fill_(20.0)  # as if the sound that it is given were noise alone
        ratio = torch.full((8,), 0.3)
        torch.testing.assert_close(
            network(noisy, ratio, CONTEXT, condition=sound[:, None]).mean, prior(noisy, ratio, CONTEXT).mean
        )


@pytest.mark.parametrize(("sampler", "steps"), [("dpm_solver", 30), ("ancestral", 200)])
def test_draws_have_mean_and_variance_of_the_voice_given_the_sound(sampler: str, steps: int) -> None:
    """Also where speech is as loud as it gets in this domain: draws begin with noise alone."""
    speech, noise = torch.tensor([0.01, 0.25, 1.0]), torch.tensor([0.01, 0.1, 1.0])
    enhancer = plugins.get("enhancer", "diffusion_enhancer")(
        size="tiny", fft_size=4, hop=2, chains=1, sampler=plugins.get("sampler", sampler)(steps=steps)
    ).eval()

    def exact(noisy, ratio, context, video_input, condition):
        return Denoised(expected(noisy, condition[:, 0], ratio, speech, noise), noisy.abs(), noisy.abs()[..., 0])

    enhancer.network.forward = exact
    with seeded(6):
        sound = gaussian(speech + noise).repeat(1, 200, 1)
        mask = MASK.repeat(1, 200)
        found, _ = enhancer.denoise(sound, None, Context(mask, torch.zeros_like(mask)))
    mean, variance = sound * speech / (speech + noise), speech * noise / (speech + noise)
    gain = ((found * mean.conj()).real.mean(dim=(0, 1)) / mean.abs().square().mean(dim=(0, 1))).tolist()
    # Without a mean to begin with, an ordinary equation ends short of it by the deviation left over that of the noise.
    assert gain == pytest.approx([1.0, 1.0, 1.0], abs=0.08)
    spread = (found - mean).abs().square().mean(dim=(0, 1))
    # The last answer is what is expected given a state that is still a little noisy.
    left = enhancer.sde.ratio(torch.tensor(enhancer.sde.first_time)).square()
    assert (spread / (variance.square() / (variance + left))).tolist() == pytest.approx([1.0, 1.0, 1.0], abs=0.07)


def test_chains_are_averaged_draws() -> None:
    cls = plugins.get("enhancer", "diffusion_enhancer")
    with seeded(8):
        enhancer = cls(**cls.example_arguments()).eval()
        for parameter in enhancer.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    batch, found = example_batch(), {}
    for chains, seed in ((1, 0), (1, 7_919), (2, 0)):
        enhancer.chains, enhancer.seed = chains, seed
        with torch.no_grad():
            found[chains, seed] = enhancer(batch).speech
    assert not torch.allclose(found[1, 0], found[1, 7_919], atol=1e-3)
    torch.testing.assert_close(found[2, 0], (found[1, 0] + found[1, 7_919]) / 2, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="chains must be at least 1"):
        cls(size="tiny", chains=0)

"""Diffusion priors: the objective recovers a known score, video is optional, guidance is what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avse import plugins
from avse.conformance import example_batch, seeded
from avse.contracts.prior import Context
from avse.nnet.score_network import DATA_STD, SIZES, Denoised, ScoreNetwork, width_of
from avse.priors.diffusion.base import DiffusionPrior
from avse.signal.random import complex_noise
from avse.signal.stft import compress, expand

MASK = torch.ones(8, 20, dtype=torch.bool)
CONTEXT = Context(MASK, torch.zeros_like(MASK))


def gaussian(variance: torch.Tensor) -> torch.Tensor:
    shape = (*MASK.shape, len(variance))
    return torch.complex(torch.randn(shape), torch.randn(shape)) * (variance / 2).sqrt()


def av_prior(**arguments: object) -> DiffusionPrior:
    cls = plugins.get("prior", "av_diffusion")
    with seeded(1):
        return cls(**{**cls.example_arguments(), **arguments}).eval()


def perturbed(prior: DiffusionPrior) -> DiffusionPrior:
    """As if trained: layers that begin at zero take part."""
    with torch.no_grad(), seeded(2):
        for parameter in prior.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return prior


def test_the_loss_of_the_exact_answer_is_one_and_is_the_least() -> None:
    """Gaussian speech of the variance that the weight supposes: E[s | y] = d^2 / (d^2 + r^2) y."""
    prior = plugins.get("prior", "diffusion")(size="tiny", fft_size=16, hop=8)
    power = torch.full((prior.bins,), DATA_STD**2)
    losses = {}
    with seeded(3), torch.no_grad():
        speech, noise, time = gaussian(power), gaussian(torch.ones(prior.bins)), torch.linspace(0.03, 1, 8)
        for error in (0.8, 1.0, 1.2):

            def exact(noisy, ratio, context, video_input, error=error):
                gain = error * power / (power + ratio[:, None, None].square())
                return Denoised(gain * noisy, ratio[:, None, None].square() * gain / error, noisy.abs()[..., 0])

            prior.network.forward = exact
            nll, unlikely, _ = prior._losses(speech, noise, time, CONTEXT)
            losses[error] = nll.mean().item()
    assert losses[1.0] == pytest.approx(1.0, abs=0.05)
    assert losses[1.0] < min(losses[0.8], losses[1.2])


@pytest.mark.slow
def test_training_recovers_mean_score_and_variance_of_gaussian_speech() -> None:
    power = torch.logspace(-3, -1, 9)
    with seeded(4):
        prior = plugins.get("prior", "diffusion")(size="tiny", fft_size=16, hop=8)
        steps = 250
        optimizer = torch.optim.Adam(prior.parameters(), lr=0.01)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (1 - step / steps)
            noise, time = gaussian(torch.ones(9)), 0.03 + 0.97 * torch.rand(8)
            nll, unlikely, _ = prior._losses(gaussian(power), noise, time, CONTEXT)
            optimizer.zero_grad()
            (nll.mean() + unlikely.mean()).backward()
            optimizer.step()
        for now in (0.1, 0.4, 0.7):
            time = torch.full((8,), now)
            scale, std = (value[:, None, None] for value in prior.marginal(time))
            state = scale * gaussian(power) + std * gaussian(torch.ones(9))
            with torch.no_grad():
                score = prior.score(state, time, CONTEXT)
                variance = prior.speech_given(state, time, CONTEXT)[1]
            exact = -state / (scale.square() * power + std.square())
            assert ((score - exact).abs().square().mean() / exact.abs().square().mean()).sqrt() < 0.1
            ratio = (std / scale)[0, 0].square()
            log_error = (variance.mean(dim=(0, 1)) / (power * ratio / (power + ratio))).log()
            assert log_error.abs().mean() < 0.25


def test_the_domain_is_the_square_root() -> None:
    spectrum = torch.randn(2, 3, 5, dtype=torch.complex128)
    compressed = compress(spectrum)
    assert torch.allclose(compressed.abs(), 0.3 * spectrum.abs().sqrt())
    assert torch.allclose(compressed.angle(), spectrum.angle())
    assert torch.allclose(expand(compressed), spectrum)
    with seeded(0):
        prior = plugins.get("prior", "diffusion")(size="tiny")
        mean, variance = torch.tensor(0.2 + 0.1j), torch.tensor(0.03)
        drawn = mean + (variance / 2).sqrt() * torch.complex(torch.randn(200_000), torch.randn(200_000))
        around, power = prior.spectrum_of(mean, variance)
    assert abs(around - expand(drawn).mean()).item() < 0.01 * abs(around).item()
    assert power.item() == pytest.approx(expand(drawn).var().item(), rel=0.02)
    assert torch.allclose(prior.spectrum_of(mean, torch.zeros(()))[0], expand(mean))


def test_video_enters_by_degrees() -> None:
    """An untrained fusion adds nothing; guidance is linear in what the video changes."""
    prior, batch = av_prior(), example_batch((3200,))
    state, time = prior.analyse(batch.noisy), torch.tensor([0.4])
    context = prior.context(batch)
    with torch.no_grad():
        plain = prior.speech_given(state, time, context.without_video())[0]
        assert torch.equal(prior.speech_given(state, time, context)[0], plain)
        perturbed(prior)
        without, seen = (prior.speech_given(state, time, one)[0] for one in (context.without_video(), context))
        assert not torch.equal(seen, without)
        prior.guidance = 1.5
        guided = prior.speech_given(state, time, context)[0]
        assert torch.allclose(guided, 2.5 * seen - 1.5 * without, atol=1e-6)
        assert prior.evaluations == 2
        unseen = replace(context, valid=torch.zeros_like(context.valid))
        assert torch.equal(prior.speech_given(state, time, unseen)[0], without)
        prior.guidance = -1.0
        assert torch.equal(prior.speech_given(state, time, context)[0], without) and prior.evaluations == 1


def test_dropped_video_is_no_video_and_validation_draws_are_fixed() -> None:
    prior, batch = perturbed(av_prior(video_dropout=0.999)), example_batch((3200, 1280))
    batch = replace(batch, clean=batch.noisy)
    prior.train()
    with torch.no_grad():
        losses = []
        for one in (batch, batch.without_video()):
            with seeded(6):
                losses.append(prior.loss(one)["loss"])
        assert losses[0] != losses[1]  # the dropout draws, so what follows differs
        prior.eval()
        assert torch.equal(prior.loss(batch)["loss"], prior.loss(batch)["loss"])
        clips = prior.denoising_losses(batch)
        assert prior.loss(batch)["nll"].item() == pytest.approx(clips.mean().item())


@pytest.mark.slow
def test_reliability_learns_which_frames_are_intact() -> None:
    """White frames are not intact: a fusion that estimates it can tell, one that does not is let be."""
    batch = example_batch()
    batch.clean, batch.video_is_clean = batch.noisy, batch.valid.clone()
    batch.video_is_clean[:, ::2] = False
    batch.mouth[:, ::2] = 255
    with seeded(6):
        prior = av_prior(fusion=plugins.get("fusion", "reliability_attention")(32, 6), video_dropout=0.0).train()
        optimizer = torch.optim.Adam(prior.parameters(), lr=0.03)
        for _ in range(60):
            terms = prior.loss(batch)
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
        assert terms["reliability"] < 0.4  # of half the frames' kind alone, it would be 0.69
        assert "reliability" not in prior.eval().loss(batch)
        assert "reliability" not in av_prior().train().loss(batch)


def test_noise_belongs_to_the_clip() -> None:
    mask = torch.tensor([[True, True, True], [True, True, False]])
    like = torch.zeros(2, 3, 400, dtype=torch.complex64)
    generators = lambda: [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    noise = complex_noise(like, mask, generators())
    assert not noise[1, 2].any() and torch.equal(noise, complex_noise(like, mask, generators()))
    alone = complex_noise(like[1:, :2], mask[1:, :2], generators()[1:])
    assert torch.equal(alone[0], noise[1, :2])
    assert noise[0].abs().square().mean().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("size", "millions"), [("small", (0.9, 1.3)), ("medium", (4.0, 6.0)), ("large", (22, 32))])
def test_sizes(size: str, millions: tuple[float, float]) -> None:
    with torch.device("meta"):
        network = ScoreNetwork(321, size)
    assert millions[0] < sum(p.numel() for p in network.parameters()) / 1e6 < millions[1]
    assert width_of(size) == SIZES[size][0]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="size must be one of"):
        plugins.get("prior", "diffusion")(size="huge")
    with pytest.raises(ValueError, match="audio_dim 32.*network is 192"):
        av_prior(size="small", fusion=plugins.get("fusion", "film")(32, 6))
    with pytest.raises(ValueError, match="std_min"):
        plugins.get("sde", "ornstein_uhlenbeck")(std_min=1.0)
    with pytest.raises(ValueError, match="steps"):
        plugins.get("sampler", "euler")(steps=0)

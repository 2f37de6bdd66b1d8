"""Recognition of latent variables in noise, and the noise that it learns from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avse.contracts.prior import Context, Gaussian
from avse.contracts.types import Batch, Clip
from avse.inference.em.driver import LatentInference
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF
from avse.priors.vae import noisy_speech_encoder as noisy_encoder
from avse.priors.vae.noisy_speech_encoder import NoisySpeechEncoder, draw_noise
from avse.priors.vae.vae import AVVAE, VAE
from avse.signal.stft import stft

FFT, HOP = 640, 320


def buzz(seed: int, seconds: float = 1.0) -> np.ndarray:
    """A buzz that swells, as a voice does."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16000)) / 16000
    pitch = rng.uniform(100, 250)
    wave = sum(np.sin(2 * np.pi * k * pitch * time + rng.uniform(0, 6)) / k for k in range(1, 20))
    return (0.05 * wave * (1 + np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6)))).astype(np.float32)


def batch_of(seeds: range) -> Batch:
    clean = [buzz(seed) for seed in seeds]
    return Batch.from_clips([Clip(one) for one in clean], clean)


def test_variance_of_drawn_noise_is_its_expected_power():
    torch.manual_seed(0)
    noise, variance = draw_noise(torch.randn(48, 16000), FFT, HOP, snr=(0.0, 0.0))
    power = stft(noise, FFT, HOP).abs().square().double()
    # Bins of a window overlap: single ratios scatter as exponentials do, their mean does not.
    ratio = (power / variance.double())[:, 1:-1, 8:-8]
    loud = variance[:, 1:-1, 8:-8] > 1e-3 * variance.amax(dim=(1, 2), keepdim=True)
    assert ratio[loud].mean().item() == pytest.approx(1.0, abs=0.1)


def test_window_spreads_the_spectrum_as_it_does_that_of_long_noise():
    spectrum = 10.0 * torch.randn(17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = noisy_encoder._through_window(spectrum[None, None], 32)[0, 0]
    window = np.sqrt(np.hanning(33)[:-1])
    grid = np.arange(64) / 64  # the density between bins, in dB on a line between them, periodic
    density = 10 ** (np.interp(np.minimum(grid, 1 - grid) * 32, np.arange(17), spectrum.numpy()) / 10)
    for bin in range(17):
        spread = [abs(np.sum(window * np.exp(-2j * np.pi * (bin / 32 - one) * np.arange(32)))) ** 2 for one in grid]
        assert found[bin].item() == pytest.approx(np.mean(density * spread), rel=1e-6)


def test_drawn_noise_keeps_the_ratio_asked_for():
    torch.manual_seed(0)
    clean = torch.randn(8, 8000) * torch.logspace(-3, 0, 8)[:, None]
    noise, _ = draw_noise(clean, FFT, HOP, snr=(5.0, 5.0))
    ratio = 10 * (clean.square().mean(dim=1) / noise.square().mean(dim=1)).log10()
    assert torch.allclose(ratio, torch.full((8,), 5.0), atol=1e-3)


def test_recognition_of_a_clip_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    network = NoisySpeechEncoder(bins=9, hidden_dim=8, latent_dim=2, layers=3)
    power, variance = torch.randn(2, 20, 9), torch.randn(2, 20, 9)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 12:] = False
    both = network(power, variance, Context(mask, mask))
    one = network(power[1:, :12], variance[1:, :12], Context(mask[1:, :12], mask[1:, :12]))
    assert torch.allclose(both[1, :12], one[0], atol=1e-5)


def test_only_the_second_encoder_learns_from_their_divergence(monkeypatch):
    prior, batch = VAE(latent_dim=2, hidden_dim=8, fft_size=FFT, noisy_encoder_layers=2), batch_of(range(2))
    reading = prior.read(batch)
    others = [one for name, one in prior.named_parameters() if not name.startswith("noisy_encoder.")]
    own = list(prior.noisy_encoder.parameters())

    def gradients(wanted):
        loss = prior.loss_and_evidence(batch, reading)[0]["loss"]
        return torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)

    torch.manual_seed(1)
    before = gradients(others)
    torch.manual_seed(1)
    assert all(one.abs().sum() > 0 for one in gradients(own))
    far = Gaussian(reading.posterior.mean.detach() + 5.0, torch.zeros_like(reading.latent).detach())
    monkeypatch.setattr(prior, "encode_noisy", lambda *_: far)
    torch.manual_seed(1)
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(others)))


@pytest.mark.slow
def test_trained_recognition_finds_the_voice_in_noise_better_than_the_encoder_of_clean_speech():
    torch.manual_seed(0)
    prior = VAE(latent_dim=4, hidden_dim=32, fft_size=FFT, noisy_encoder_layers=2)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=0.005)
    for step in range(120):
        loss = prior(batch_of(range(8 * step, 8 * step + 8)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prior.eval()
    torch.manual_seed(7)
    batch = batch_of(range(10_000, 10_008))
    noise, variance = draw_noise(batch.clean, FFT, HOP, snr=(0.0, 0.0))
    with torch.no_grad():
        context = prior.context(batch)
        truth = prior.encode(prior.analyse(batch.clean).abs().square(), context)
        power = prior.analyse(batch.clean + noise).abs().square()
        found = prior.encode_noisy(power, variance, context)
        encoded = prior.encode(power, context)

        def error(other: Gaussian) -> float:
            return (other.mean - truth.mean).square().mean().item()

        assert error(found) < 0.7 * error(encoded)


class Told(VAE):
    """Notes which of the two encoders is asked."""

    def encode(self, power, context):
        self.asked.append("encode")
        return super().encode(power, context)

    def encode_noisy(self, power, variance, context):
        self.asked.append("encode_noisy")
        return super().encode_noisy(power, variance, context)


@pytest.mark.parametrize("encoder", ["amortised", "published"])
@pytest.mark.parametrize("layers", [0, 2])
def test_inference_asks_the_encoder_that_knows_noise_where_there_is_one(layers, encoder):
    torch.manual_seed(0)
    prior = Told(latent_dim=2, hidden_dim=8, fft_size=FFT, noisy_encoder_layers=layers)
    prior.asked = []
    inference: LatentInference = VEM(prior, NMF(rank=2), iterations=3, encoder=encoder)
    estimate = inference(batch_of(range(1)))
    assert set(prior.asked) == ({"encode_noisy"} if layers and encoder == "amortised" else {"encode"})
    prior.asked.clear()
    inference(batch_of(range(1)), previous=estimate)
    assert prior.asked[0] == "encode"  # of the voice that was given


def test_recognition_without_a_mouth_is_that_of_the_sound_alone_bit_for_bit():
    torch.manual_seed(0)
    arguments = AVVAE.example_arguments() | {"noisy_encoder_layers": 2}
    prior = AVVAE(**arguments).eval()
    power, variance, seen = torch.rand(1, 12, 321), torch.rand(1, 12, 321), torch.zeros(1, 12, dtype=torch.bool)
    mask = ~seen
    alone = prior.encode_noisy(power, variance, Context(mask, seen))
    unseen = prior.encode_noisy(power, variance, Context(mask, seen, torch.zeros(1, 12, 6)))
    watched = prior.encode_noisy(power, variance, Context(mask, mask, torch.randn(1, 12, 6)))
    assert torch.equal(alone.mean, unseen.mean) and torch.equal(alone.log_variance, unseen.log_variance)
    assert not torch.equal(alone.mean, watched.mean)

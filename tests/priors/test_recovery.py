"""Speech drawn from a known model: training comes near its likelihood, finds its latent variable and uses the video."""

from __future__ import annotations

import math

import pytest
import torch
from small_priors import small
from torch import nn

from avse.conformance import seeded
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend
from avse.fusion.concat import Concat
from avse.priors.vae.base import VariationalPrior
from avse.priors.vae.vae import AVVAE

FFT, HOP, BINS, SAMPLES = 320, 160, 161, 12_800
STEPS = SAMPLES // HOP + 1
TILT = torch.linspace(-1.0, 1.0, BINS)


def _log_variance(latent: torch.Tensor) -> torch.Tensor:
    """The known decoder: one latent variable tilts the spectrum and sets its level."""
    return -3.0 + latent[..., None] * (TILT + 1.5)


def _draw(latent: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(*latent.shape, BINS, dtype=torch.complex64)
    return (0.5 * _log_variance(latent)).exp() * noise


def _true_loss(spectrum: torch.Tensor) -> float:
    """-log p(s) per bin without its constant, by quadrature over the latent variable."""
    grid = torch.linspace(-6, 6, 601)
    variance = _log_variance(grid)
    power = spectrum.abs().square().flatten(0, 1)
    given = -(power @ (-variance).exp().T) - variance.sum(dim=1) - 0.5 * grid.square() - 0.5 * math.log(2 * math.pi)
    return -float((torch.logsumexp(given, dim=1) + math.log(0.02)).mean()) / BINS


def _train(prior: VariationalPrior, draw, rate: float, updates: int = 200) -> None:
    """Adam on speech drawn anew for each update; `draw` gives a batch and its spectrum."""
    optimizer = torch.optim.Adam(prior.parameters(), lr=rate)
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, 3 * (1 - update / updates))
        batch, spectrum = draw()
        prior.analyse = lambda _, spectrum=spectrum: spectrum
        prior.kl_weight = min(1.0, (update + 1) / (0.2 * updates))
        optimizer.zero_grad()
        prior.loss(batch)["loss"].backward()
        optimizer.step()


def _batch(size: int, level: torch.Tensor | None = None) -> Batch:
    """Silent clips; a mouth as bright as `level` (batch, video_frames) says, in [-1, 1], where it is given."""
    frames = SAMPLES // 640
    bright = torch.zeros(size, frames) if level is None else 127.5 * (1 + level)
    mouth = bright.round().to(torch.uint8)[..., None, None].expand(size, frames, 88, 88)
    sound = torch.zeros(size, SAMPLES)
    seen = torch.full((size, frames), level is not None)
    return Batch(sound, torch.full((size,), SAMPLES), mouth, seen, clean=sound)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), [("vae", 0.01), ("recurrent_vae", 0.01), ("transformer_vae", 0.005)])
def test_training_comes_near_the_likelihood_of_the_truth_and_finds_its_variable(name: str, rate: float) -> None:
    def draw() -> tuple[Batch, torch.Tensor]:
        return _batch(4), _draw(torch.randn(4, STEPS))

    with seeded(0):
        more = {"video": False} if name != "vae" else {}
        sizes = {"fft_size": FFT, "hop": HOP, "hidden_dim": 32, "latent_dim": 3}
        prior = small(name, **sizes, **more)
        _train(prior, draw, rate)
        latent = torch.randn(16, STEPS)
        spectrum = _draw(latent)
        prior.analyse = lambda _: spectrum
        prior.eval()
        with torch.no_grad():
            batch = _batch(16)
            context = prior.context(batch)
            found = prior.loss(batch)
            posterior = prior.encode(spectrum.abs().square(), context)
            units = posterior.divergence_by_unit(prior.prior(posterior.sample(), context)).mean(dim=(0, 1))
            decoded = prior.decode(posterior.mean, context)
    truth = _true_loss(spectrum)
    without_latent = float(1.0 + spectrum.abs().square().mean(dim=(0, 1)).log().mean())
    assert truth - 0.01 < float(found["loss"]) < truth + 0.08 < without_latent - 1.0
    assert float(units.max()) > 1.0  # the posterior has not collapsed
    assert float((decoded - _log_variance(latent)).square().mean().sqrt()) < 0.4


class _Brightness(VisualFrontend):
    """Mean grey level."""

    output_dim = 1

    def features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See `VisualFrontend.features`."""
        return mouth.mean(dim=(2, 3))[..., None]


@pytest.mark.slow
def test_the_prior_network_learns_what_the_video_tells_of_the_latent_variable() -> None:
    def draw() -> tuple[Batch, torch.Tensor]:
        level = 2 * torch.rand(4, SAMPLES // 640) - 1
        steps = nn.functional.pad(2.0 * level.repeat_interleave(640 // HOP, dim=1), (0, 1))
        return _batch(4, level), _draw(steps + 0.3 * torch.randn(4, STEPS))

    with seeded(0):
        sizes = {"fft_size": FFT, "hop": HOP, "hidden_dim": 16, "latent_dim": 2}
        prior = AVVAE(_Brightness(), Concat(16, 1), **sizes)
        _train(prior, draw, rate=0.01)
        batch, spectrum = draw()
        prior.analyse = lambda _: spectrum
        with torch.no_grad():
            context = prior.context(batch)
            seen = prior.loss(batch)
            # What the prior expects of the spectrum before any sound is heard, against the truth.
            expected = prior.decode(prior.prior(torch.zeros(4, STEPS, 2), context).mean, context)[:, :-1]
            level = 2.0 * ((batch.mouth[..., 0, 0] / 127.5) - 1).repeat_interleave(640 // HOP, dim=1)
            posterior = prior.encode(spectrum.abs().square(), context)
            standard = prior.prior(posterior.mean, context.without_video())
            without = posterior.divergence(standard)[context.valid].mean()
            within = posterior.divergence(prior.prior(posterior.mean, context))[context.valid].mean()
    assert float((expected - _log_variance(level)).square().mean().sqrt()) < 0.3
    assert float(within) < float(without) - 0.3
    assert float(seen["prior_nll"]) < float(seen["nll"]) + 0.3

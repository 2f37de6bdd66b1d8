"""Checks of the kind `prior`."""

from __future__ import annotations

from dataclasses import replace

import torch

from avse.contracts.checks import (
    DOCUMENTED,
    Check,
    NotApplicable,
    build,
    every_parameter_learns,
    example_batch,
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    repeatable,
    seeded,
    weights_round_trip,
)
from avse.contracts.prior import LatentPrior, Prior
from avse.contracts.types import Batch
from avse.signal.stft import stft_steps


def _training_batch(lengths: tuple[int, ...] = (6400, 4000)) -> Batch:
    batch = example_batch(lengths, gap=(2, 4))
    return replace(batch, clean=batch.noisy)


def _outputs(prior: Prior) -> list[torch.Tensor]:
    with seeded(11):
        return [prior.loss(_training_batch())["loss"]]


def _loss(cls: type) -> None:
    prior = build(cls, train=True)
    for batch in (_training_batch((6400,)), _training_batch(), _training_batch().without_video()):
        with seeded(11):
            terms = prior.loss(batch)
        expect("loss" in terms, f"loss() returned {', '.join(terms)}, but no `loss`")
        for name, value in terms.items():
            expect(value.ndim == 0, f"{name} has shape {tuple(value.shape)}")
            expect_finite(value, name)


def _domain(cls: type) -> None:
    prior, batch = build(cls), example_batch((6400, 4000))
    spectrum = prior.analyse(batch.noisy)
    steps = stft_steps(6400, prior.fft_size, prior.hop)
    expect(
        tuple(spectrum.shape) == (2, steps, prior.bins) and spectrum.is_complex(),
        f"analyse gave {spectrum.dtype} {tuple(spectrum.shape)}, expected complex {(2, steps, prior.bins)}",
    )
    expect_close(prior.synthesise(spectrum, 6400), batch.noisy, "synthesise(analyse(sound)) and the sound", 1e-3)


def _latent(cls: type) -> None:
    if not issubclass(cls, LatentPrior):
        raise NotApplicable("not a latent prior")
    prior = build(cls)
    for lengths in ((640,), (6400, 4000)):
        batch = example_batch(lengths)
        context = prior.context(batch)
        power = prior.analyse(batch.noisy).abs().square()
        with torch.no_grad(), seeded():
            latent = prior.encode(power, context).sample()
            prior_mean = prior.prior(latent, context).mean
            log_variance = prior.decode(latent, context)
        shape = (*power.shape[:2], prior.latent_dim)
        expect(tuple(latent.shape) == shape, f"encode gave {tuple(latent.shape)}, expected {shape}")
        expect(tuple(prior_mean.shape) == shape, f"prior gave {tuple(prior_mean.shape)}, expected {shape}")
        expect(log_variance.shape == power.shape, f"decode gave {tuple(log_variance.shape)}")
        expect_finite(log_variance, "the log-variance")


def _no_video(cls: type) -> None:
    prior, batch = build(cls), _training_batch()
    with torch.no_grad():
        losses = []
        for one in (batch.without_video(), replace(batch, valid=torch.zeros_like(batch.valid))):
            with seeded(11):
                losses.append(prior.loss(one)["loss"])
    expect_equal(*losses, "the loss without video and with no valid frame")


CHECKS = [
    DOCUMENTED,
    Check("loss", _loss, "loss(batch) gives finite scalars, among them `loss`", "average over steps inside each clip"),
    Check("domain", _domain, "synthesise inverts analyse, complex (batch, steps, bins)", "override both or neither"),
    Check("latent", _latent, "encode, prior and decode keep batch and steps", "look at the order of axes"),
    Check(
        "no_video_is_audio_only",
        _no_video,
        "no valid frame is the same as no video, bit for bit",
        "take the video from `context`, and fuse it as audio + r * delta",
    ),
    Check(
        "gradients",
        lambda cls: every_parameter_learns(cls, _outputs),
        "a gradient of the loss reaches every parameter",
        "remove unused layers",
    ),
    Check(
        "weights_round_trip",
        lambda cls: weights_round_trip(cls, _outputs),
        "weights saved as safetensors and loaded strictly give the same loss",
        "keep all that is learnt in parameters or persistent buffers",
    ),
    Check("repeatable", lambda cls: repeatable(cls, _outputs), "one seed gives one loss", "use torch's generator"),
]

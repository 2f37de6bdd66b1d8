"""Checks of the kind `prior`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from avse.conformance import unrolled
from avse.conformance.common import DOCUMENTED
from avse.conformance.core import (
    Check,
    Checks,
    NotApplicable,
    build,
    example_batch,
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    seeded,
)
from avse.conformance.modules import (
    ModuleChecks,
    Probe,
    Views,
    before,
    causal_instance,
    changed_after,
    compare,
    hostile_audio,
    lengthen,
    to_dtype,
    white_where_invalid,
)
from avse.contracts.prior import Context, Gaussian, LatentPrior, Prior, ScorePrior, SwitchingPrior
from avse.contracts.types import SAMPLES_PER_FRAME, Batch
from avse.signal.stft import stft_frames

CHECKS = Checks([DOCUMENTED])
_SEEDS = 12


def _training_batch(lengths: tuple[int, ...] = (6400, 4000), gap: tuple[int, int] = (2, 4)) -> Batch:
    batch = example_batch(lengths, gap=gap)
    return replace(batch, clean=batch.noisy)


def _inputs(prior: Prior) -> tuple[Batch]:
    return (_training_batch(),)


def _long_inputs(prior: Prior, times: int) -> tuple[Batch]:
    return (_training_batch((48_000 * times,), gap=(0, 0)),)


def _losses(prior: Prior, batch: Batch) -> list[torch.Tensor]:
    return [prior.loss(batch)["loss"]]


def _outputs(prior: Prior, batch: Batch) -> list[torch.Tensor]:
    return [*_losses(prior, batch), *_views(prior, batch).values()]


def _components(prior: Prior) -> list[Prior]:
    """The components of a switching prior; of any other, the prior itself."""
    return list(prior.components) if isinstance(prior, SwitchingPrior) else [prior]  # type: ignore[arg-type]


def _views(prior: Prior, batch: Batch) -> Views:
    """What the methods of a prior return for a batch without drawing, each (batch, frames, ...)."""
    if isinstance(prior, SwitchingPrior):
        several = [_views(component, batch) for component in _components(prior)]
        return {f"{what} of component {i}": view for i, views in enumerate(several) for what, view in views.items()}
    with seeded(11):
        context, spectrum = prior.context(batch), prior.analyse(batch.noisy)
        if isinstance(prior, LatentPrior):
            posterior = prior.encode(spectrum.abs().square(), context)
            latent_prior = prior.prior(posterior.mean, context)
            return {
                "mean of q(z | s)": posterior.mean,
                "log-variance of q(z | s)": posterior.log_variance,
                "log-variance of p(s | z)": prior.decode(posterior.mean, context),
                "mean of p(z)": latent_prior.mean,
                "log-variance of p(z)": latent_prior.log_variance,
            }
        if isinstance(prior, ScorePrior):
            time = torch.full((len(batch),), 0.5, dtype=batch.noisy.dtype, device=batch.noisy.device)
            return {"score": torch.view_as_real(prior.score(spectrum, time, context)).flatten(2)}
    raise NotApplicable("belongs to none of the families LatentPrior, ScorePrior and SwitchingPrior")


def _look(prior: Prior, batch: Batch) -> Views:
    with torch.no_grad():
        return _views(prior, batch)


_PROBE = Probe(lambda prior, length, seed: (_training_batch((length,)),), _look, "samples")


def _loss_of(prior: Prior, batch: Batch) -> torch.Tensor:
    with torch.no_grad(), seeded(11):
        return prior.loss(batch)["loss"]


@CHECKS.add("loss", hint="average over frames inside each clip, those of `context.mask`")
def _loss(cls: type[Any]) -> None:
    """Loss(batch) gives finite scalars, among them `loss`, and counts nothing beyond the end of a clip."""
    prior = build(cls, train=True)
    for batch in (_training_batch((6400,)), _training_batch(), _training_batch().without_video()):
        with seeded(11):
            terms = prior.loss(batch)
        expect("loss" in terms, f"loss() returned {', '.join(terms)}, but no `loss`")
        for name, value in terms.items():
            expect(value.ndim == 0, f"{name} has shape {tuple(value.shape)}")
            expect_finite(value, name)
    prior.eval()
    short = _training_batch((1920,) * 4)
    [padded] = lengthen((short,), 5760)
    losses = torch.stack([_losses_by_seed(prior, batch) for batch in (short, padded)])
    change, spread = losses.diff(dim=0), losses.diff(dim=0).std() / _SEEDS**0.5
    limit = max(6 * float(spread), 0.02 * float(losses[0].abs().mean()))
    found = f"padding from 1920 to 5760 samples changes the loss from {losses[0].mean():.4g} to {losses[1].mean():.4g}"
    expect(abs(float(change.mean())) <= limit, found)


def _losses_by_seed(prior: Prior, batch: Batch) -> torch.Tensor:
    losses = []
    for seed in range(_SEEDS):
        with torch.no_grad(), seeded(seed):
            losses.append(prior.loss(batch)["loss"].double())
    return torch.stack(losses)


@CHECKS.add("evidence_bound", hint="minimise reconstruction + divergence of q(z | s) from p(z): both with a plus")
def _evidence_bound(cls: type[Any]) -> None:
    """The loss rises if p(z) is far from the posterior, and if p(s | z) is far from the speech."""
    prior, batch = build(cls), _training_batch()
    if not isinstance(prior, LatentPrior):
        raise NotApplicable("not a latent prior")
    usual, own_prior, own_decode = _loss_of(prior, batch), prior.prior, prior.decode

    def far(latent: torch.Tensor, context: Context) -> Gaussian:
        near = own_prior(latent, context)
        return Gaussian(near.mean + 30.0, near.log_variance)

    changes = {
        "prior": ("p(z) moved away by 30", far),
        "decode": (
            "the variance of p(s | z) divided by e^10",
            lambda latent, context: own_decode(latent, context) - 10,
        ),
    }
    for method, (what, changed) in changes.items():
        object.__setattr__(prior, method, changed)
        loss = _loss_of(prior, batch)
        object.__delattr__(prior, method)
        expect(loss >= usual, f"with {what} the loss falls from {usual:.4g} to {loss:.4g}")


@CHECKS.add("domain", hint="override both or neither")
def _domain(cls: type[Any]) -> None:
    """Synthesise inverts analyse, complex (batch, frames, bins)."""
    prior, batch = build(cls), example_batch((6400, 4000))
    spectrum = prior.analyse(batch.noisy)
    shape = 2, stft_frames(6400, prior.fft_size, prior.hop), prior.bins
    expect(
        tuple(spectrum.shape) == shape and spectrum.is_complex(),
        f"analyse gave {spectrum.dtype} {tuple(spectrum.shape)}, expected complex {shape}",
    )
    expect_close(prior.synthesise(spectrum, 6400), batch.noisy, "synthesise(analyse(audio)) and the audio", 1e-3)


@CHECKS.add("shapes", hint="look at the order of axes: (batch, frames, latent_dim) and (batch, frames, bins)")
def _shapes(cls: type[Any]) -> None:
    """The methods of its family keep batch and frames, for any batch and length."""
    prior = build(cls)
    for lengths in ((1,), (640,), (6400, 4000, 800)):
        for component in _components(prior):
            _shapes_of_views(component, _training_batch(lengths))
    if isinstance(prior, SwitchingPrior):
        count = len(prior.components)
        for name, table, shape in zip(("initial", "transition"), prior.switch(), ((count,), (count, count))):
            _expect_shape(name, table, shape)


def _expect_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    expect(tuple(tensor.shape) == shape, f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def _shapes_of_views(prior: Prior, batch: Batch) -> None:
    frames = stft_frames(batch.noisy.shape[1], prior.fft_size, prior.hop)
    for name, view in _look(prior, batch).items():
        if isinstance(prior, LatentPrior):
            features = prior.bins if name.endswith("of p(s | z)") else prior.latent_dim
        else:
            features = 2 * prior.bins  # real and imaginary part of the score
        _expect_shape(name, view, (len(batch), frames, features))
    if isinstance(prior, ScorePrior):
        spectrum, time = prior.analyse(batch.noisy), torch.linspace(0.2, 0.8, len(batch))
        with torch.no_grad():
            (scale, std), (drift, diffusion) = prior.marginal(time), prior.drift_and_diffusion(spectrum, time)
        for name, tensor in {"scale": scale, "std": std, "diffusion": diffusion}.items():
            _expect_shape(name, tensor, (len(batch),))
        _expect_shape("drift", drift, tuple(spectrum.shape))


@CHECKS.add("past_only", hint="shift z by one frame before the recurrence or a causally masked attention")
def _past_only(cls: type[Any]) -> None:
    """P(z_t | ...) depends on no z from t on."""
    prior = build(cls)
    if not isinstance(prior, LatentPrior):
        raise NotApplicable("not a latent prior")
    batch = _training_batch((6400,))
    with torch.no_grad(), seeded():
        context = prior.context(batch)
        latent = prior.encode(prior.analyse(batch.noisy).abs().square(), context).sample()
        other, frame = latent.clone(), latent.shape[1] // 2
        other[:, frame:] = 1.0 - 2.0 * other[:, frame:]
        one, two = (prior.prior(z, context).mean[:, : frame + 1] for z in (latent, other))
    expect_close(one, two, "mean of p(z_t | z before t), later z changed", 1e-5)


@CHECKS.add("switch", hint="end them with log_softmax(dim=-1)")
def _switch(cls: type[Any]) -> None:
    """Probabilities of the switch sum to one."""
    prior = build(cls)
    if not isinstance(prior, SwitchingPrior):
        raise NotApplicable("not a switching prior")
    for name, table in zip(("initial", "transition"), prior.switch()):
        total = table.detach().exp().sum(dim=-1)
        expect_close(total, torch.ones_like(total), f"sums of the {name} probabilities")


@CHECKS.add("batch_equals_singles")
def _batches(cls: type[Any]) -> None:
    for lengths in ((6400, 4000), (3840, 3841)):
        _PROBE.batches(cls, lengths, tolerance=1e-5)


@CHECKS.add("no_video_is_audio_only", hint="take the video from `context`, and fuse it as audio + r * delta")
def _no_video(cls: type[Any]) -> None:
    """No valid frame is the same as no video, bit for bit, also beside a clip with video."""
    prior, batch = build(cls), _training_batch()
    without, unseen = batch.without_video(), replace(batch, valid=torch.zeros_like(batch.valid))
    what = "without video and with no valid frame"
    expect_equal(_loss_of(prior, without), _loss_of(prior, unseen), f"the loss {what}")
    audio_only = _look(prior, without)
    compare(audio_only, _look(prior, unseen), what)
    valid = batch.valid.clone()
    valid[1] = False
    both = audio_only, _look(prior, replace(batch, valid=valid))
    one, two = ({name: view[1] for name, view in views.items()} for views in both)
    compare(one, two, "of a clip without video, beside another without and beside one with video")


@CHECKS.add("invalid_frames_ignored", hint="read crops only through a VisualFrontend, which sets invalid ones to zero")
def _invalid_frames(cls: type[Any]) -> None:
    prior, batch = build(cls), _training_batch()
    other = _look(prior, white_where_invalid(batch))
    compare(_look(prior, batch), other, "with black and with white crops in the invalid frames")


@CHECKS.add("precision")
def _precision(cls: type[Any]) -> None:
    """Float32 and float64 in, the same out; mixed precision in bfloat16 stays finite."""
    _PROBE.precision(cls, _inputs, {torch.float64: 1e-3})
    prior = build(cls)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expect_finite(_loss_of(prior, _training_batch()), "the loss in mixed precision (bfloat16)")


@CHECKS.add("causal", hint="use causal convolutions, attention and recurrences; or set causal = False")
def _causal(cls: type[Any]) -> None:
    """With `causal` true no frame depends on audio or crops after its window."""
    prior = causal_instance(cls).double()
    (batch,), frame = to_dtype((_training_batch((12800,)),), torch.float64), 12
    end = (frame * SAMPLES_PER_FRAME - prior.fft_size // 2) // prior.hop + 1  # frames whose window ends by the change
    one, two = (before(_look(prior, audio), end) for audio in (batch, changed_after(batch, frame)))
    compare(one, two, "before audio and crops change", 1e-7)


@CHECKS.add("hostile_input", hint="compare power with a floor; bound log-variances")
def _hostile(cls: type[Any]) -> None:
    """Silence, clipping, impulses, huge and tiny input give finite results and a finite loss."""
    prior, batch = build(cls), _training_batch((6400, 3000))
    for name, audio in hostile_audio(batch).items():
        case = replace(batch, noisy=audio, clean=audio)
        expect_finite(_loss_of(prior, case), f"the loss of {name}")
        for what, view in _look(prior, case).items():
            expect_finite(view, f"{what} of {name}")


CHECKS += [
    Check(
        "padding",
        partial(_PROBE.padding, lengths=(6400,), more=(3 * SAMPLES_PER_FRAME + 17,), tolerance=1e-5),
        hint="mask attention, means and backward recurrences by `context.mask`",
    ),
    *ModuleChecks(_inputs, _outputs, _long_inputs, losses=_losses, draws=True).all(),
    Check("unrolled", unrolled.check_prior, unrolled.PROMISE, unrolled.HINT),
]

"""Checks of the kind `prior`."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.complexity import grows_as_declared
from avse.conformance.core import (
    Check,
    NotApplicable,
    build,
    example_batch,
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    seeded,
)
from avse.conformance.devices import moves_to_devices
from avse.conformance.modules import (
    autocast,
    causal_instance,
    every_parameter_learns,
    repeatable,
    weights_round_trip,
)
from avse.contracts.prior import LatentPrior, Prior, ScorePrior, SwitchingPrior
from avse.contracts.types import SAMPLES_PER_FRAME, Batch
from avse.signal.stft import stft_frames

Views = dict[str, torch.Tensor]


def _training_batch(lengths: tuple[int, ...] = (6400, 4000), seed: int = 0) -> Batch:
    batch = example_batch(lengths, seed, gap=(2, 4))
    return replace(batch, clean=batch.noisy)


def _double(batch: Batch) -> Batch:
    return replace(batch, noisy=batch.noisy.double(), clean=batch.clean.double())


def _inputs(prior: Prior) -> tuple[Batch]:
    return (_training_batch(),)


def _long_inputs(prior: Prior, times: int) -> tuple[Batch]:
    return (_training_batch((48_000 * times,)),)


def _losses(prior: Prior, batch: Batch | None = None) -> list[torch.Tensor]:
    return [prior.loss(_training_batch() if batch is None else batch)["loss"]]


def _seeded_losses(prior: Prior) -> list[torch.Tensor]:
    with seeded(11):
        return _losses(prior)


def _outputs(prior: Prior, batch: Batch) -> list[torch.Tensor]:
    return [*_losses(prior, batch), *_views(prior, batch).values()]


def _views(prior: Prior, batch: Batch) -> Views:
    """What the methods of a prior say of a batch without drawing, each (batch, steps, ...)."""
    if isinstance(prior, SwitchingPrior):
        several = [_views(component, batch) for component in prior.components]
        return {f"{what} of component {i}": view for i, views in enumerate(several) for what, view in views.items()}
    with seeded(11):
        context, spectrum = prior.context(batch), prior.analyse(batch.noisy)
        if isinstance(prior, LatentPrior):
            posterior = prior.encode(spectrum.abs().square(), context)
            before = prior.prior(posterior.mean, context)
            return {
                "mean of q(z | s)": posterior.mean,
                "log-variance of q(z | s)": posterior.log_variance,
                "log-variance of p(s | z)": prior.decode(posterior.mean, context),
                "mean of p(z)": before.mean,
                "log-variance of p(z)": before.log_variance,
            }
        if isinstance(prior, ScorePrior):
            time = torch.full((len(batch),), 0.5, dtype=batch.noisy.dtype, device=batch.noisy.device)
            return {"score": torch.view_as_real(prior.score(spectrum, time, context)).flatten(2)}
    raise NotApplicable("belongs to none of the families LatentPrior, ScorePrior and SwitchingPrior")


def _look(prior: Prior, batch: Batch) -> Views:
    with torch.no_grad():
        return _views(prior, batch)


def _compare(one: Views, two: Views, what: str, how: Callable[..., None], **options: Any) -> None:
    for name, view in one.items():
        how(view, two[name], f"{name} {what}", **options)


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
    steps = stft_frames(6400, prior.fft_size, prior.hop)
    expect(
        tuple(spectrum.shape) == (2, steps, prior.bins) and spectrum.is_complex(),
        f"analyse gave {spectrum.dtype} {tuple(spectrum.shape)}, expected complex {(2, steps, prior.bins)}",
    )
    expect_close(prior.synthesise(spectrum, 6400), batch.noisy, "synthesise(analyse(sound)) and the sound", 1e-3)


def _shapes(cls: type) -> None:
    prior = build(cls)
    for lengths in ((1,), (640,), (6400, 4000, 800)):
        batch = _training_batch(lengths)
        if not isinstance(prior, SwitchingPrior):
            _shapes_of_views(prior, batch)
            continue
        count = len(prior.components)
        for component in prior.components:
            _shapes_of_views(component, batch)
        for name, table, axes in zip(("initial", "transition"), prior.switch(), (1, 2)):
            wanted = (count,) * axes
            expect(tuple(table.shape) == wanted, f"{name} has shape {tuple(table.shape)}, expected {wanted}")


def _shapes_of_views(prior: Prior, batch: Batch) -> None:
    steps = stft_frames(batch.noisy.shape[1], prior.fft_size, prior.hop)
    for name, view in _look(prior, batch).items():
        if isinstance(prior, LatentPrior):
            last = prior.bins if name.endswith("of p(s | z)") else prior.latent_dim
        else:
            last = 2 * prior.bins  # real and imaginary part of the score
        shape = (len(batch), steps, last)
        expect(tuple(view.shape) == shape, f"{name} has shape {tuple(view.shape)}, expected {shape}")
    if isinstance(prior, ScorePrior):
        _shapes_of_diffusion(prior, batch)


def _shapes_of_diffusion(prior: ScorePrior, batch: Batch) -> None:
    spectrum, time = prior.analyse(batch.noisy), torch.linspace(0.2, 0.8, len(batch))
    of_clips, whole = (len(batch),), tuple(spectrum.shape)
    with torch.no_grad():
        (scale, std), (drift, diffusion) = prior.marginal(time), prior.drift_and_diffusion(spectrum, time)
    for name, tensor, shape in (
        ("scale", scale, of_clips),
        ("std", std, of_clips),
        ("drift", drift, whole),
        ("diffusion", diffusion, of_clips),
    ):
        expect(tuple(tensor.shape) == shape, f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def _past_only(cls: type) -> None:
    prior = build(cls)
    if not isinstance(prior, LatentPrior):
        raise NotApplicable("not a latent prior")
    batch = _training_batch((6400,))
    with torch.no_grad(), seeded():
        context = prior.context(batch)
        latent = prior.encode(prior.analyse(batch.noisy).abs().square(), context).sample()
        other, step = latent.clone(), latent.shape[1] // 2
        other[:, step:] = 1.0 - 2.0 * other[:, step:]
        one, two = prior.prior(latent, context), prior.prior(other, context)
    expect_close(one.mean[:, : step + 1], two.mean[:, : step + 1], "mean of p(z_t | z before t), later z changed", 1e-5)


def _switch(cls: type) -> None:
    prior = build(cls)
    if not isinstance(prior, SwitchingPrior):
        raise NotApplicable("not a switching prior")
    for name, table in zip(("initial", "transition"), prior.switch()):
        total = table.detach().exp().sum(dim=-1)
        expect_close(total, torch.ones_like(total), f"sums of the {name} probabilities")


def _padding(cls: type) -> None:
    prior, batch = build(cls, dtype=torch.float64), _double(_training_batch((6400,)))
    longer = (0, 3 * SAMPLES_PER_FRAME + 17)
    padded = replace(
        batch,
        noisy=F.pad(batch.noisy, longer),
        clean=F.pad(batch.clean, longer),
        mouth=F.pad(batch.mouth, (0, 0, 0, 0, 0, 4)),
        valid=F.pad(batch.valid, (0, 4)),
    )
    one = _look(prior, batch)
    two = {name: view[:, : one[name].shape[1]] for name, view in _look(prior, padded).items()}
    _compare(one, two, "of a clip and of the same clip with padding", expect_close, tolerance=1e-5)


def _batches(cls: type) -> None:
    prior = build(cls, dtype=torch.float64)
    for lengths in ((6400, 4000), (3840, 3841)):
        together = _look(prior, _double(_training_batch(lengths)))
        for row, length in enumerate(lengths):
            alone = _look(prior, _double(_training_batch((length,))))
            beside = {name: view[row : row + 1, : alone[name].shape[1]] for name, view in together.items()}
            what = f"of a clip of {length} samples alone and in a batch of clips of {lengths[0]}, {lengths[1]}"
            _compare(alone, beside, what, expect_close, tolerance=1e-5)


def _no_video(cls: type) -> None:
    prior, batch = build(cls), _training_batch()
    unseen = replace(batch, valid=torch.zeros_like(batch.valid))
    with torch.no_grad():
        losses = []
        for one in (batch.without_video(), unseen):
            with seeded(11):
                losses.append(prior.loss(one)["loss"])
    expect_equal(*losses, "the loss without video and with no valid frame")
    audio_only = _look(prior, batch.without_video())
    _compare(audio_only, _look(prior, unseen), "without video and with no valid frame", expect_equal)
    valid = batch.valid.clone()
    valid[1] = False
    mixed = {name: view[1] for name, view in _look(prior, replace(batch, valid=valid)).items()}
    what = "of a clip without video, beside another without and beside one with video"
    _compare({name: view[1] for name, view in audio_only.items()}, mixed, what, expect_equal)


def _invalid_frames(cls: type) -> None:
    prior, batch = build(cls), _training_batch()
    mouth = batch.mouth.clone()
    mouth[~batch.valid] = 255
    other = _look(prior, replace(batch, mouth=mouth))
    _compare(_look(prior, batch), other, "with black and with white crops in the invalid frames", expect_equal)


def _precision(cls: type) -> None:
    batch = _training_batch()
    prior = build(cls)
    single, double = _look(prior, batch), _look(deepcopy(prior).double(), _double(batch))
    for name, view in single.items():
        expect(view.dtype == torch.float32, f"{name}: float32 in gave {view.dtype}")
        expect(double[name].dtype == torch.float64, f"{name}: float64 in gave {double[name].dtype}")
    _compare(single, double, "in float32 and float64", expect_close, tolerance=1e-3)
    with autocast(), torch.no_grad():
        for output in _outputs(prior, batch):
            expect_finite(output, "what it gives in mixed precision (bfloat16)")


def _causal(cls: type) -> None:
    prior = causal_instance(cls).double()
    batch, frame = _double(_training_batch((12800,))), 12
    later = replace(batch, noisy=batch.noisy.clone(), mouth=batch.mouth.clone())
    later.noisy[:, frame * SAMPLES_PER_FRAME :] *= -3.0
    later.mouth[:, frame:] = 255 - later.mouth[:, frame:]
    end = (frame * SAMPLES_PER_FRAME - prior.fft_size // 2) // prior.hop + 1  # steps whose window ends by the change
    one, two = ({n: v[:, :end] for n, v in _look(prior, each).items()} for each in (batch, later))
    _compare(one, two, "before sound and crops change", expect_close, tolerance=1e-7)


def _hostile(cls: type) -> None:
    prior, batch = build(cls), _training_batch((6400, 3000))
    impulse = torch.zeros_like(batch.noisy)
    impulse[:, 1000] = 1.0
    cases = {
        "silence": torch.zeros_like(batch.noisy),
        "clipping": (batch.noisy * 1e3).clamp(-1, 1),
        "huge input (1e4)": batch.noisy * 1e5,
        "tiny input (1e-9)": batch.noisy * 1e-8,
        "one impulse": impulse,
    }
    for name, sound in cases.items():
        given = replace(batch, noisy=sound, clean=sound)
        with torch.no_grad(), seeded(11):
            expect_finite(prior.loss(given)["loss"], f"the loss of {name}")
        for what, view in _look(prior, given).items():
            expect_finite(view, f"{what} of {name}")


CHECKS = [
    DOCUMENTED,
    Check("loss", _loss, "loss(batch) gives finite scalars, among them `loss`", "average over steps inside each clip"),
    Check("domain", _domain, "synthesise inverts analyse, complex (batch, steps, bins)", "override both or neither"),
    Check(
        "shapes",
        _shapes,
        "the methods of its family keep batch and steps, for any batch and length",
        "look at the order of axes: (batch, steps, latent_dim) and (batch, steps, bins)",
    ),
    Check(
        "past_only",
        _past_only,
        "p(z_t | ...) looks at no z from t on",
        "shift z by one step before the recurrence or a causally masked attention",
    ),
    Check("switch", _switch, "probabilities of the switch sum to one", "end them with log_softmax(dim=-1)"),
    Check(
        "padding",
        _padding,
        "padding beyond a clip's end changes nothing",
        "mask attention, means and backward recurrences by `context.mask`",
    ),
    Check(
        "batch_equals_singles",
        _batches,
        "a batch gives what its clips give one by one",
        "no statistics over the batch; see `padding` for clips of different lengths",
    ),
    Check(
        "no_video_is_audio_only",
        _no_video,
        "no valid frame is the same as no video, bit for bit, also beside a clip with video",
        "take the video from `context`, and fuse it as audio + r * delta",
    ),
    Check(
        "invalid_frames_ignored",
        _invalid_frames,
        "what crops of invalid frames hold changes nothing",
        "read crops only through a VisualFrontend, which blanks them",
    ),
    Check(
        "gradients",
        partial(every_parameter_learns, outputs=_seeded_losses),
        "a gradient of the loss reaches every parameter",
        "remove unused layers",
    ),
    Check(
        "precision",
        _precision,
        "float32 and float64 in, the same out; mixed precision in bfloat16 stays finite",
        "create tensors with dtype and device of x; exponentials and divisions in float32",
    ),
    Check(
        "weights_round_trip",
        partial(weights_round_trip, outputs=_seeded_losses),
        "weights saved by torch.save or as safetensors and loaded strictly give the same loss",
        "keep all that is learnt in parameters or persistent buffers",
    ),
    Check(
        "repeatable",
        partial(repeatable, outputs=_losses, draws=True),
        "one seed gives one loss; one batch leaves nothing behind for the next",
        "draw from torch's global generator only",
    ),
    RECIPE_ROUND_TRIP,
    Check(
        "causal",
        _causal,
        "with `causal` true no step depends on sound or crops after its window",
        "use causal convolutions, attention and recurrences; or set causal = False",
    ),
    Check(
        "devices",
        partial(moves_to_devices, inputs=_inputs, outputs=_outputs, draws=True),
        "moved to another device with its input, it gives its result there",
        "make tensors with device=x.device; keep constants in buffers (register_buffer)",
    ),
    Check(
        "hostile_input",
        _hostile,
        "silence, clipping, impulses, huge and tiny input give finite results and a finite loss",
        "compare power with a floor; bound log-variances",
    ),
    Check(
        "complexity",
        partial(grows_as_declared, inputs=_long_inputs, outputs=_outputs),
        "time and memory grow no faster with the length of a clip than the attribute `complexity` says",
        "attend to the steps around only; or set growth = 'quadratic'",
    ),
]
DOES_NOT_APPLY: dict[str, str] = {}

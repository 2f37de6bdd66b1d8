"""Checks shared by the kinds that turn a `Batch` into an `Estimate`: enhancers and inferences."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from avse.conformance.common import DOCUMENTED
from avse.conformance.core import (
    Check,
    Checks,
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
    causal_instance,
    changed_after,
    hostile_audio,
    to_dtype,
    white_where_invalid,
)
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate, video_frames

CHECKS = Checks([DOCUMENTED])
_LONG_WINDOW = 1024


def _run(module: torch.nn.Module, batch: Batch) -> Estimate:
    with torch.no_grad(), seeded(11):
        return module(batch)


def told(module: Any, batch: Batch) -> Batch:
    """The batch, with an embedding of the noise if the system takes one."""
    dim = getattr(module, "scene_dim", 0)
    drawn = [torch.randn(dim, generator=torch.Generator().manual_seed(int(length))) for length in batch.lengths]
    return replace(batch, scene=F.normalize(torch.stack(drawn).to(batch.noisy), dim=1)) if dim else batch


def _inputs(module: Any) -> tuple[Batch]:
    return (told(module, example_batch((3840, 3200), gap=(2, 4))),)


def _long_inputs(module: Any, times: int) -> tuple[Batch]:
    return (example_batch((48_000 * times,)),)


def _outputs(module: torch.nn.Module, batch: Batch) -> list[torch.Tensor]:
    estimate = module(batch)
    return [estimate.speech, estimate.noise, estimate.reliability]


def _look(module: torch.nn.Module, batch: Batch) -> Views:
    estimate = _run(module, batch)
    return {"speech": estimate.speech, "reliability": estimate.reliability}


def _of_audio(estimate: Estimate) -> torch.Tensor:
    return torch.zeros_like(estimate.reliability) if estimate.audio_reliability is None else estimate.audio_reliability


_WHOLE = Probe(lambda module, length, seed: (told(module, example_batch((length,))),), _look, "samples")
_WITH_GAP = Probe(
    lambda module, length, seed: (told(module, example_batch((length,), seed, gap=(2, 4))),), _look, "samples"
)
_SPEECH = replace(_WHOLE, look=lambda module, batch: {"speech": _run(module, batch).speech})


@CHECKS.add(
    "shapes", hint="cut or pad the inverse transform to the samples of the batch; multiply by a mask of `lengths`"
)
def _shapes(cls: type[Any]) -> None:
    """Speech and noise (batch, samples), reliability (batch, video_frames), zero beyond each clip's end."""
    model = build(cls)
    for lengths in ((1,), (640,), (641, 9600), (3000, 1, 6400)):
        batch = example_batch(lengths)
        estimate, what = _run(model, batch), f"clips of {', '.join(map(str, lengths))} samples"
        shapes = tuple(estimate.speech.shape), tuple(estimate.noise.shape)
        expect(shapes == (tuple(batch.noisy.shape),) * 2, f"{what}: speech and noise have shapes {shapes}")
        shape = tuple(estimate.reliability.shape)
        expect(shape == tuple(batch.valid.shape), f"{what}: reliability has shape {shape}")
        same = estimate.lengths is not None and estimate.lengths.tolist() == list(lengths)
        expect(same, f"{what}: lengths are {estimate.lengths}")
        for row, length in enumerate(lengths):
            for name, values in (
                ("speech", estimate.speech[row, length:]),
                ("reliability", estimate.reliability[row, video_frames(length) :]),
                ("audio reliability", _of_audio(estimate)[row, video_frames(length) :]),
            ):
                expect(not bool(values.any()), f"{what}: {name} is not zero beyond the end of clip {row}")


@CHECKS.add("sums_to_noisy", hint="return noisy - speech as noise")
def _sums_to_noisy(cls: type[Any]) -> None:
    """Speech + noise is the noisy audio."""
    batch = example_batch()
    estimate = _run(build(cls), batch)
    expect_close(estimate.speech + estimate.noise, batch.noisy, "speech + noise and the noisy audio", 1e-3)


@CHECKS.add("reliability", hint="pass on what the fusion returned, averaged to video frames")
def _reliability(cls: type[Any]) -> None:
    """Reliability of video and audio is in [0, 1], that of the video zero in frames without a mouth."""
    batch = example_batch(gap=(3, 6))
    estimate = _run(build(cls), batch)
    for name, values in (("reliability", estimate.reliability), ("audio reliability", _of_audio(estimate))):
        low, high = float(values.min()), float(values.max())
        expect(low >= 0.0 and high <= 1.0, f"{name} reaches from {low:.4g} to {high:.4g}")
    expect(not bool(estimate.reliability[~batch.valid].any()), "reliability is not zero in frames without a mouth")


@CHECKS.add(
    "batch_equals_singles",
    hint="no statistics over the batch or its padding; normalise each clip by itself; multiply what `synthesise` makes "
    "of frames inside each clip by `overlap_gain`",
)
def _batches(cls: type[Any]) -> None:
    for lengths in ((9600, 6400, 1700), (3840, 3840)):
        _WITH_GAP.batches(cls, lengths, tolerance=1e-5)
    if (long_windows := _long_windows(cls)) is not None:
        replace(_WITH_GAP, make=lambda cls: build(cls, **long_windows)).batches(cls, (9600, 6400), tolerance=1e-5)


def _long_windows(cls: type[Any]) -> dict[str, Any] | None:
    """A prior with a window of more than two hops, which reaches back from the padding; None if there is none."""
    prior: Any = getattr(build(cls), "prior", None)
    if "fft_size" not in getattr(prior, "config", {}):
        return None
    with seeded(2):
        return {"prior": type(prior)(**{**prior.config, "fft_size": _LONG_WINDOW})}


@CHECKS.add(
    "no_video_is_audio_only",
    hint="add the video as audio + r * delta with r = 0 where invalid, gated after any normalisation",
)
def _no_video(cls: type[Any]) -> None:
    """With no valid frame the result is bit for bit that of the clip without video."""
    model, batch = build(cls), example_batch()
    audio_only = _run(model, batch.without_video())
    unseen = _run(model, replace(batch, valid=torch.zeros_like(batch.valid)))
    expect_equal(unseen.speech, audio_only.speech, "speech with no valid frame, whatever the crops hold")
    expect(not bool(unseen.reliability.any()), "reliability is not zero although no frame is valid")
    valid = batch.valid.clone()
    valid[1] = False
    mixed = _run(model, replace(batch, valid=valid))
    expect_equal(mixed.speech[1], audio_only.speech[1], "speech of a clip without video beside one with video")


@CHECKS.add("invalid_frames_ignored", hint="read crops only through a VisualFrontend, which sets invalid ones to zero")
def _invalid_frames(cls: type[Any]) -> None:
    model, batch = build(cls), example_batch(gap=(3, 6))
    black, white = (_run(model, crops).speech for crops in (batch, white_where_invalid(batch)))
    expect_equal(black, white, "speech with black and with white crops in the invalid frames")


@CHECKS.add("hostile_input", hint="divide by max(level, small); take logarithms and roots of value + small")
def _hostile(cls: type[Any]) -> None:
    """Silence, clipping, impulses, huge and tiny input give finite results."""
    model, batch = build(cls), example_batch((6400, 3000))
    for name, noisy in hostile_audio(batch).items():
        for what, view in _look(model, replace(batch, noisy=noisy)).items():
            expect_finite(view, f"{what} of {name}")


@CHECKS.add("causal", hint="use causal convolutions and attention; no normalisation over time; or set causal = False")
def _causal(cls: type[Any]) -> None:
    """With `causal` true nothing depends on input later than the own frame (or `latency` samples)."""
    model = causal_instance(cls).double()
    delay = getattr(model, "latency", None) or SAMPLES_PER_FRAME
    (batch,), frame = to_dtype((example_batch((12800,)),), torch.float64), 12
    end = frame * SAMPLES_PER_FRAME - delay
    one, two = (_run(model, audio).speech[:, :end] for audio in (batch, changed_after(batch, frame)))
    expect_close(one, two, f"speech up to {delay} samples before audio and crops change", 1e-7)


def estimate_checks(draws: bool, others: str = "") -> list[Check]:
    """The checks that enhancers and inferences share.

    Arguments
    ---------
    draws : bool
        Whether the kind may draw at random when it is not trained.
    others : str
        Names of submodules that are plugins of other kinds and need not learn.
    """
    return [
        *CHECKS,
        Check(
            "padding",
            partial(_WHOLE.padding, lengths=(6400,), more=(3 * SAMPLES_PER_FRAME + 17,), tolerance=1e-5),
            hint="mask means, normalisations, attention, convolutions and recurrences by `lengths`",
        ),
        Check(
            "precision",
            partial(
                _SPEECH.precision,
                inputs=_inputs,
                tolerances={torch.float64: 1e-3},
                mixed_tolerance=None if draws else 0.2,
            ),
            f"float32 and float64 in, the same out; mixed precision in bfloat16 stays {'finite' if draws else 'close'}",
        ),
        *ModuleChecks(_inputs, _outputs, _long_inputs, draws=draws, others=others).all(),
    ]

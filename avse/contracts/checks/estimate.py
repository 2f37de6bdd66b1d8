"""Checks shared by the kinds that turn a `Batch` into an `Estimate`: enhancers and inferences."""

from __future__ import annotations

import inspect
from dataclasses import replace

import torch
from torch.nn import functional as F

from avse.contracts.checks import (
    Check,
    CheckFailed,
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
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate, video_frames


def _run(module: torch.nn.Module, batch: Batch) -> Estimate:
    with torch.no_grad(), seeded(11):
        return module(batch)


def _outputs(module: torch.nn.Module) -> list[torch.Tensor]:
    with seeded(11):
        estimate = module(example_batch(gap=(2, 4)))
    return [estimate.speech, estimate.reliability]


def _double(batch: Batch) -> Batch:
    return replace(batch, noisy=batch.noisy.double())


def _shapes(cls: type) -> None:
    model = build(cls)
    for lengths in ((1,), (640,), (641, 9600), (3000, 1, 6400)):
        batch = example_batch(lengths)
        estimate, what = _run(model, batch), f"clips of {', '.join(map(str, lengths))} samples"
        shapes = tuple(estimate.speech.shape), tuple(estimate.noise.shape)
        expect(shapes == (tuple(batch.noisy.shape),) * 2, f"{what}: speech and noise have shapes {shapes}")
        shape = tuple(estimate.reliability.shape)
        expect(shape == tuple(batch.valid.shape), f"{what}: reliability has shape {shape}")
        expect(
            estimate.lengths is not None and estimate.lengths.tolist() == list(lengths),
            f"{what}: lengths are {estimate.lengths}",
        )
        for row, length in enumerate(lengths):
            beyond = estimate.speech[row, length:]
            expect(not bool(beyond.any()), f"{what}: speech is not zero beyond the end of clip {row}")
            expect(
                not bool(estimate.reliability[row, video_frames(length) :].any()),
                f"{what}: reliability is not zero beyond the end of clip {row}",
            )


def _sums_to_noisy(cls: type) -> None:
    batch = example_batch()
    estimate = _run(build(cls), batch)
    expect_close(estimate.speech + estimate.noise, batch.noisy, "speech + noise against the noisy sound", 1e-3)


def _reliability(cls: type) -> None:
    batch = example_batch(gap=(3, 6))
    reliability = _run(build(cls), batch).reliability
    low, high = float(reliability.min()), float(reliability.max())
    expect(low >= 0.0 and high <= 1.0, f"reliability reaches from {low:.4g} to {high:.4g}")
    expect(not bool(reliability[~batch.valid].any()), "reliability is not zero in frames without a mouth")


def _padding(cls: type) -> None:
    model, batch = build(cls, dtype=torch.float64), _double(example_batch((6400,)))
    padded = replace(
        batch,
        noisy=F.pad(batch.noisy, (0, 3 * SAMPLES_PER_FRAME + 17)),
        mouth=F.pad(batch.mouth, (0, 0, 0, 0, 0, 4)),
        valid=F.pad(batch.valid, (0, 4)),
    )
    one, two = _run(model, batch), _run(model, padded)
    expect_close(one.speech, two.speech[:, :6400], "speech of a clip and of the same clip with padding", 1e-5)
    frames = batch.valid.shape[1]
    expect_close(one.reliability, two.reliability[:, :frames], "reliability with and without padding", 1e-5)


def _batches(cls: type) -> None:
    lengths = (9600, 6400, 1700)
    model = build(cls, dtype=torch.float64)
    together = _run(model, _double(example_batch(lengths, gap=(2, 4))))
    for row, length in enumerate(lengths):
        alone = _run(model, _double(example_batch((length,), gap=(2, 4))))
        what = f"a clip of {length} samples alone and in a batch of clips up to {max(lengths)}"
        expect_close(alone.speech[0], together.speech[row, :length], f"speech of {what}", 1e-5)
        frames = video_frames(length)
        expect_close(alone.reliability[0], together.reliability[row, :frames], f"reliability of {what}", 1e-5)


def _no_video(cls: type) -> None:
    model, batch = build(cls), example_batch()
    audio_only = _run(model, batch.without_video())
    unseen = _run(model, replace(batch, valid=torch.zeros_like(batch.valid)))
    expect_equal(unseen.speech, audio_only.speech, "speech with no valid frame, whatever the crops hold")
    expect(not bool(unseen.reliability.any()), "reliability is not zero although no frame is valid")
    valid = batch.valid.clone()
    valid[1] = False
    mixed = _run(model, replace(batch, valid=valid))
    expect_equal(mixed.speech[1], audio_only.speech[1], "speech of a clip without video beside one with video")


def _invalid_frames(cls: type) -> None:
    model, batch = build(cls), example_batch(gap=(3, 6))
    mouth = batch.mouth.clone()
    mouth[~batch.valid] = 255
    expect_equal(
        _run(model, batch).speech,
        _run(model, replace(batch, mouth=mouth)).speech,
        "speech with black and with white crops in the invalid frames",
    )


def _precision(cls: type) -> None:
    batch = example_batch(gap=(2, 4))
    single = _run(build(cls), batch)
    double = _run(build(cls, dtype=torch.float64), _double(batch))
    expect(single.speech.dtype == torch.float32, f"float32 in gave {single.speech.dtype} out")
    expect(double.speech.dtype == torch.float64, f"float64 in gave {double.speech.dtype} out")
    expect_close(single.speech, double.speech, "speech in float32 and float64", 1e-3)


def _hostile(cls: type) -> None:
    model, batch = build(cls), example_batch((6400, 3000))
    impulse = torch.zeros_like(batch.noisy)
    impulse[:, 1000] = 1.0
    cases = {
        "silence": torch.zeros_like(batch.noisy),
        "clipping": (batch.noisy * 1e3).clamp(-1, 1),
        "huge input (1e4)": batch.noisy * 1e5,
        "tiny input (1e-9)": batch.noisy * 1e-8,
        "one impulse": impulse,
        "a constant": torch.where(batch.noisy != 0, 0.5, 0.0),
    }
    for name, noisy in cases.items():
        estimate = _run(model, replace(batch, noisy=noisy))
        expect_finite(estimate.speech, f"speech of {name}")
        expect_finite(estimate.reliability, f"reliability of {name}")


def _causal(cls: type) -> None:
    model = causal_instance(cls).double()
    delay = getattr(model, "latency", None) or SAMPLES_PER_FRAME
    batch = _double(example_batch((12800,)))
    frame = 12
    later = replace(batch, noisy=batch.noisy.clone(), mouth=batch.mouth.clone())
    later.noisy[:, frame * SAMPLES_PER_FRAME :] *= -3.0
    later.mouth[:, frame:] = 255 - later.mouth[:, frame:]
    end = frame * SAMPLES_PER_FRAME - delay
    one, two = _run(model, batch), _run(model, later)
    what = f"speech up to {delay} samples before sound and crops change"
    expect_close(one.speech[:, :end], two.speech[:, :end], what, 1e-7)


def causal_instance(cls: type) -> torch.nn.Module:
    """An example that declares itself causal; the variant `causal=True` where the plain one is not.

    Raises
    ------
    NotApplicable
        If there is none.
    """
    instance = build(cls)
    if instance.causal:
        return instance
    if "causal" in inspect.signature(cls).parameters:
        try:
            with seeded():
                variant = cls(**{**cls.example_arguments(), "causal": True}).eval()
        except ValueError as error:
            raise NotApplicable(f"the example has no causal variant: {error}") from error
        if not variant.causal:
            raise CheckFailed("built with causal=True, its attribute `causal` is False")
        return variant
    raise NotApplicable("does not claim to be causal")


ESTIMATE_CHECKS = [
    Check(
        "shapes",
        _shapes,
        "speech and noise (batch, samples), reliability (batch, frames), zero beyond each clip's end, for any length",
        "cut or pad the inverse transform to the samples of the batch; multiply by a mask of `lengths`",
    ),
    Check("sums_to_noisy", _sums_to_noisy, "speech + noise is the noisy sound", "return noisy - speech as noise"),
    Check(
        "reliability",
        _reliability,
        "reliability is in [0, 1] and zero in frames without a mouth",
        "pass on what the fusion returned, averaged to video frames",
    ),
    Check(
        "padding",
        _padding,
        "padding beyond a clip's end changes nothing",
        "mask means, normalisations, attention, convolutions and recurrences by `lengths`",
    ),
    Check(
        "batch_equals_singles",
        _batches,
        "a batch gives what its clips give one by one",
        "no statistics over the batch or its padding; normalise each clip by itself",
    ),
    Check(
        "no_video_is_audio_only",
        _no_video,
        "with no valid frame the result is bit for bit that of the clip without video",
        "add the video as audio + r * delta with r = 0 where invalid, gated after any normalisation",
    ),
    Check(
        "invalid_frames_ignored",
        _invalid_frames,
        "what crops of invalid frames hold changes nothing",
        "read crops only through a VisualFrontend, which blanks them",
    ),
    Check(
        "gradients",
        lambda cls: every_parameter_learns(cls, _outputs),
        "a gradient reaches every parameter",
        "remove unused layers; detach nothing that should learn; freeze what should not (requires_grad_(False))",
    ),
    Check("precision", _precision, "float32 and float64 in, the same out", "create tensors with dtype and device of x"),
    Check(
        "weights_round_trip",
        lambda cls: weights_round_trip(cls, _outputs),
        "weights saved as safetensors and loaded strictly give the same result",
        "keep all that is learnt in parameters or persistent buffers; share no tensor under two names",
    ),
    Check(
        "repeatable",
        lambda cls: repeatable(cls, _outputs),
        "one seed gives one result, and evaluation mode draws nothing",
        "draw from torch's global generator only, and in training mode only",
    ),
    Check(
        "causal",
        _causal,
        "with `causal` true nothing depends on later input than the own frame (or `latency` samples)",
        "use causal convolutions and attention; no normalisation over time; or set causal = False",
    ),
    Check(
        "hostile_input",
        _hostile,
        "silence, clipping, impulses, huge and tiny input give finite results",
        "divide by max(level, small); take logarithms and roots of value + small",
    ),
]

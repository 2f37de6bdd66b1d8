"""Checks shared by the kinds that turn a `Batch` into an `Estimate`: enhancers and inferences."""

from __future__ import annotations

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
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate, video_frames


def _run(module: torch.nn.Module, batch: Batch) -> Estimate:
    with torch.no_grad(), seeded(11):
        return module(batch)


def _inputs(module: Any, times: int = 1) -> tuple[Batch]:
    return (example_batch((3840 * times, 3200 * times), gap=(2, 4)),)


def _long_inputs(module: Any, times: int) -> tuple[Batch]:
    return (example_batch((48_000 * times,)),)


def _outputs(module: torch.nn.Module, batch: Batch | None = None) -> list[torch.Tensor]:
    estimate = module(_inputs(module)[0] if batch is None else batch)
    return [estimate.speech, estimate.noise, estimate.reliability]


def _seeded_outputs(module: torch.nn.Module) -> list[torch.Tensor]:
    with seeded(11):
        return _outputs(module)


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
    model = build(cls, dtype=torch.float64)
    for lengths, seeds in (((9600, 6400, 1700), (0, 0, 0)), ((3840, 3840), (0, 1))):
        clips = [_double(example_batch((n,), seed, gap=(2, 4))) for n, seed in zip(lengths, seeds)]
        together = _run(model, _side_by_side(clips))
        for row, (length, clip) in enumerate(zip(lengths, clips)):
            alone = _run(model, clip)
            what = f"a clip of {length} samples alone and in a batch of clips of {', '.join(map(str, lengths))}"
            expect_close(alone.speech[0], together.speech[row, :length], f"speech of {what}", 1e-5)
            frames = video_frames(length)
            expect_close(alone.reliability[0], together.reliability[row, :frames], f"reliability of {what}", 1e-5)


def _side_by_side(clips: list[Batch]) -> Batch:
    samples, frames = max(len(c.noisy[0]) for c in clips), max(len(c.valid[0]) for c in clips)
    return Batch(
        noisy=torch.cat([F.pad(c.noisy, (0, samples - c.noisy.shape[1])) for c in clips]),
        lengths=torch.cat([c.lengths for c in clips]),
        mouth=torch.cat([F.pad(c.mouth, (0, 0, 0, 0, 0, frames - c.mouth.shape[1])) for c in clips]),
        valid=torch.cat([F.pad(c.valid, (0, frames - c.valid.shape[1])) for c in clips]),
    )


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


def _precision(cls: type, draws: bool) -> None:
    batch = example_batch((3840, 3200), gap=(2, 4))
    model = build(cls)
    single = _run(model, batch)
    double = _run(deepcopy(model).double(), _double(batch))
    expect(single.speech.dtype == torch.float32, f"float32 in gave {single.speech.dtype} out")
    expect(double.speech.dtype == torch.float64, f"float64 in gave {double.speech.dtype} out")
    expect_close(single.speech, double.speech, "speech in float32 and float64", 1e-3)
    with autocast():
        mixed = _run(model, batch)
    expect_finite(mixed.speech, "speech in mixed precision (bfloat16)")
    if not draws:
        expect_close(single.speech, mixed.speech, "speech in float32 and in mixed precision (bfloat16)", 0.2)


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


def estimate_checks(draws: bool, others: str = "") -> list[Check]:
    """What enhancers and inferences share.

    Arguments
    ---------
    draws : bool
        Whether the kind may draw at random when it is not trained.
    others : str
        Names of submodules that are plugins of other kinds and need not learn.
    """
    seed = "one seed gives one result" if draws else "one seed gives one result, and evaluation mode draws nothing"
    return [
        DOCUMENTED,
        Check(
            "shapes",
            _shapes,
            "speech and noise (batch, samples), reliability (batch, frames), zero beyond each clip's end, for any "
            "length",
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
            partial(every_parameter_learns, outputs=_seeded_outputs, others=others),
            "a gradient reaches every parameter" + (" of its own" if others else ""),
            "remove unused layers; detach nothing that should learn; freeze what should not (requires_grad_(False))",
        ),
        Check(
            "precision",
            partial(_precision, draws=draws),
            "float32 and float64 in, the same out; mixed precision in bfloat16 stays "
            + ("finite" if draws else "close"),
            "create tensors with dtype and device of x; transform and divide in the dtype of the sound",
        ),
        Check(
            "weights_round_trip",
            partial(weights_round_trip, outputs=_seeded_outputs),
            "weights saved by torch.save or as safetensors and loaded strictly give the same result",
            "keep all that is learnt in parameters or persistent buffers; share no tensor under two names",
        ),
        Check(
            "repeatable",
            partial(repeatable, outputs=_outputs, draws=draws),
            f"{seed}; one clip leaves nothing behind for the next",
            "draw from torch's global generator only" + (", and in training mode only" if not draws else ""),
        ),
        RECIPE_ROUND_TRIP,
        Check(
            "causal",
            _causal,
            "with `causal` true nothing depends on later input than the own frame (or `latency` samples)",
            "use causal convolutions and attention; no normalisation over time; or set causal = False",
        ),
        Check(
            "devices",
            partial(moves_to_devices, inputs=_inputs, outputs=_outputs, draws=draws),
            "moved to another device with its input, it gives its result there",
            "make tensors with device=x.device; keep constants in buffers (register_buffer)",
        ),
        Check(
            "hostile_input",
            _hostile,
            "silence, clipping, impulses, huge and tiny input give finite results",
            "divide by max(level, small); take logarithms and roots of value + small",
        ),
        Check(
            "complexity",
            partial(grows_as_declared, inputs=_long_inputs, outputs=_outputs),
            "time and memory grow no faster with the length of a clip than the attribute `complexity` says",
            "look at parts of a clip at a time; or set growth = 'quadratic'",
        ),
    ]

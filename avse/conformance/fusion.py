"""Checks of the kind `fusion`."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from avse.conformance.common import DOCUMENTED, RECIPE_ROUND_TRIP
from avse.conformance.complexity import grows_as_declared
from avse.conformance.core import Check, build, expect, expect_close, expect_equal, expect_finite
from avse.conformance.devices import moves_to_devices
from avse.conformance.modules import (
    autocast,
    causal_instance,
    every_parameter_learns,
    perturb,
    repeatable,
    weights_round_trip,
)
from avse.contracts.fusion import Fusion


def _streams(
    fusion: Fusion,
    batch: int = 2,
    steps: int = 12,
    gap: tuple[int, int] = (0, 0),
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed * 100_000 + batch * 1000 + steps)
    audio = torch.randn(batch, steps, fusion.audio_dim, generator=generator, dtype=torch.float64)
    video = torch.randn(batch, steps, fusion.video_dim, generator=generator, dtype=torch.float64)
    valid = torch.ones(batch, steps, dtype=torch.bool)
    valid[:, gap[0] : gap[1]] = False
    return audio.to(dtype), video.to(dtype), valid


def _inputs(fusion: Fusion) -> tuple[torch.Tensor, ...]:
    return _streams(fusion, gap=(3, 5))


def _long_inputs(fusion: Fusion, times: int) -> tuple[torch.Tensor, ...]:
    return _streams(fusion, steps=400 * times)


def _outputs(fusion: Fusion, *streams: torch.Tensor) -> list[torch.Tensor]:
    return list(fusion(*(streams or _inputs(fusion))))


def _shapes(cls: type) -> None:
    for sizes in ({}, {"audio_dim": 16, "video_dim": 4}):
        fusion = build(cls, **sizes)
        for batch, steps in ((1, 1), (1, 7), (3, 12)):
            streams = _streams(fusion, batch, steps)
            with torch.no_grad():
                fused, reliability = fusion(*streams)
            what = f"audio {tuple(streams[0].shape)}, video {tuple(streams[1].shape)}"
            expect(fused.shape == streams[0].shape, f"{what}: fused has shape {tuple(fused.shape)}")
            expect(reliability.shape == streams[2].shape, f"{what}: reliability has shape {tuple(reliability.shape)}")


def _reliability(cls: type) -> None:
    fusion = build(cls)
    audio, video, valid = _streams(fusion, gap=(3, 5))
    with torch.no_grad():
        reliability = fusion(10 * audio, 10 * video, valid)[1]
    low, high = float(reliability.min()), float(reliability.max())
    expect(low >= 0.0 and high <= 1.0, f"reliability reaches from {low:.4g} to {high:.4g}")
    expect(not bool(reliability[~valid].any()), "reliability is not zero in invalid steps")


def _no_video(cls: type) -> None:
    fusion = _trained(cls)
    audio, video, valid = _streams(fusion, batch=3)
    with torch.no_grad():
        fused, reliability = fusion(audio, video, torch.zeros_like(valid))
        expect_equal(fused, audio, "fused features and the audio, no step valid")
        expect(not bool(reliability.any()), "reliability is not zero although no step is valid")
        valid[1] = False
        fused, _ = fusion(audio, video, valid)
        expect_equal(fused[1], audio[1], "fused features and the audio of a clip without video beside clips with it")
        expect_finite(fused, "fused features of clips beside one without video")


def _invalid_steps(cls: type) -> None:
    fusion = _trained(cls)
    audio, video, valid = _streams(fusion, gap=(3, 5))
    for garbage in (1e6, float("nan")):
        other = torch.where(valid[..., None], video, torch.full_like(video, garbage))
        with torch.no_grad():
            one, two = fusion(audio, video, valid), fusion(audio, other, valid)
        expect_equal(one[0], two[0], f"fused features with {garbage} in the invalid steps of the video")
        expect_equal(one[1], two[1], f"reliability with {garbage} in the invalid steps of the video")
        expect_equal(one[0][~valid], audio[~valid], "fused features and the audio in invalid steps")


def _padding(cls: type) -> None:
    fusion = _trained(cls).double()
    streams = _streams(fusion, 1, 9, dtype=torch.float64)
    with torch.no_grad():
        for more in (1, 6):
            one, two = fusion(*streams), fusion(*_padded(streams, 9 + more))
            for alone, padded, what in zip(one, two, ("fused features", "reliability")):
                what = f"{what} of 9 steps alone and padded to {9 + more}"
                expect_close(alone[0], padded[0, :9], what, 1e-6)


def _batches(cls: type) -> None:
    fusion = _trained(cls).double()
    lengths = (12, 12, 9, 4)
    clips = [_streams(fusion, 1, n, dtype=torch.float64, seed=row) for row, n in enumerate(lengths)]
    together = [torch.cat(parts) for parts in zip(*(_padded(clip, max(lengths)) for clip in clips))]
    with torch.no_grad():
        outputs = fusion(*together)
        for row, (clip, length) in enumerate(zip(clips, lengths)):
            what = f"of {length} steps alone and in a batch of clips of {', '.join(map(str, lengths))}"
            for alone, beside, name in zip(fusion(*clip), outputs, ("fused features", "reliability")):
                expect_close(alone[0], beside[row, :length], f"{name} {what}", 1e-6)


def _padded(streams: tuple[torch.Tensor, ...], steps: int) -> list[torch.Tensor]:
    more = steps - streams[0].shape[1]
    return [nn.functional.pad(stream, (0, 0, 0, more) if stream.ndim == 3 else (0, more)) for stream in streams]


def _precision(cls: type) -> None:
    fusion = _trained(cls)
    with torch.no_grad():
        single = fusion(*_inputs(fusion))
        with autocast():
            mixed = fusion(*_inputs(fusion))
        for dtype, tolerance in ((torch.float64, 1e-3), (torch.bfloat16, 0.1)):
            other = fusion.to(dtype)(*_streams(fusion, gap=(3, 5), dtype=dtype))
            for one, two, what in zip(single, other, ("fused features", "reliability")):
                expect(two.dtype == dtype, f"{what}: {dtype} in gave {two.dtype}")
                expect_close(one, two, f"{what} in float32 and {dtype}", tolerance)
    for one, two, what in zip(single, mixed, ("fused features", "reliability")):
        expect(one.dtype == torch.float32, f"{what}: float32 in gave {one.dtype}")
        expect_close(one, two, f"{what} in float32 and in mixed precision (bfloat16)", 0.1)


def _causal(cls: type) -> None:
    fusion = causal_instance(cls).double()
    perturb(fusion)
    audio, video, valid = _streams(fusion, steps=20, dtype=torch.float64)
    later = [stream.clone() for stream in (audio, video, valid)]
    later[0][:, 12:] *= -3.0
    later[1][:, 12:] += 2.0
    later[2][:, 15:] = False
    with torch.no_grad():
        one, two = fusion(audio, video, valid), fusion(*later)
    expect_close(one[0][:, :12], two[0][:, :12], "fused features before audio and video change", 1e-9)
    expect_close(one[1][:, :12], two[1][:, :12], "reliability before audio and video change", 1e-9)


def _hostile(cls: type) -> None:
    fusion = _trained(cls)
    audio, video, valid = _streams(fusion, gap=(3, 5))
    cases = {"zeros": (0.0, 0.0), "huge audio (1e4)": (1e4, 1.0), "huge video (1e4)": (1.0, 1e4), "tiny": (1e-9, 1e-9)}
    for name, (of_audio, of_video) in cases.items():
        with torch.no_grad():
            fused, reliability = fusion(of_audio * audio, of_video * video, valid)
        expect_finite(fused, f"fused features of {name}")
        expect_finite(reliability, f"reliability of {name}")


def _trained(cls: type) -> Fusion:
    fusion = build(cls)
    perturb(fusion)
    return fusion


CHECKS = [
    DOCUMENTED,
    Check(
        "shapes",
        _shapes,
        "fused (batch, steps, audio_dim) and reliability (batch, steps) for any batch, steps, audio_dim and video_dim",
        "project the video to audio_dim; return reliability without a last axis of one",
    ),
    Check("reliability", _reliability, "reliability is in [0, 1], zero in invalid steps", "end it with a sigmoid"),
    Check(
        "no_video_is_audio_only",
        _no_video,
        "with no valid step the audio passes bit for bit, also beside clips with video",
        "implement `delta` and leave `forward` to the contract",
    ),
    Check(
        "invalid_frames_ignored",
        _invalid_steps,
        "what the video holds in invalid steps changes nothing",
        "implement `delta` and leave `forward` to the contract, which blanks them",
    ),
    Check(
        "padding",
        _padding,
        "padding beyond a clip's end changes nothing",
        "mask attention, means and recurrences by `valid`; run no recurrence or convolution backwards from padding",
    ),
    Check(
        "batch_equals_singles",
        _batches,
        "a batch gives what its clips give one by one",
        "take no statistics over the batch; see `padding` for clips of different lengths",
    ),
    Check(
        "gradients",
        partial(every_parameter_learns, outputs=_outputs),
        "a gradient reaches every parameter",
        "remove unused layers",
    ),
    Check(
        "precision",
        _precision,
        "float32, bfloat16 and float64 in, the same out; mixed precision in bfloat16 stays close",
        "create tensors with dtype and device of x",
    ),
    Check(
        "weights_round_trip",
        partial(weights_round_trip, outputs=_outputs),
        "weights saved by torch.save or as safetensors and loaded strictly give the same result",
        "keep all that is learnt in parameters or persistent buffers",
    ),
    Check(
        "repeatable",
        partial(repeatable, outputs=_outputs),
        "one seed gives one result, and evaluation mode draws nothing",
        "draw in training mode only",
    ),
    RECIPE_ROUND_TRIP,
    Check(
        "causal",
        _causal,
        "with `causal` true no step depends on later steps",
        "mask attention to the past, use causal convolutions; or set causal = False",
    ),
    Check(
        "devices",
        partial(moves_to_devices, inputs=_inputs, outputs=_outputs),
        "moved to another device with its input, it gives its result there",
        "make tensors with device=audio.device; keep constants in buffers (register_buffer)",
    ),
    Check(
        "hostile_input",
        _hostile,
        "zeros, huge and tiny features give finite results",
        "normalise with an epsilon; subtract the maximum before an exponential",
    ),
    Check(
        "complexity",
        partial(grows_as_declared, inputs=_long_inputs, outputs=_outputs),
        "time and memory grow no faster with the steps of a clip than the attribute `complexity` says",
        "attend to the steps around only; or set growth = 'quadratic'",
    ),
]
DOES_NOT_APPLY: dict[str, str] = {}

"""Checks of the kind `visual_frontend`."""

from __future__ import annotations

import inspect
from copy import deepcopy
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
    repeatable,
    weights_round_trip,
)
from avse.contracts.types import MOUTH_SIZE
from avse.contracts.visual_frontend import VisualFrontend


def _crops(
    batch: int = 2, frames: int = 6, gap: tuple[int, int] = (0, 0), seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed * 100_000 + batch * 1000 + frames)
    # Coarse patterns that change from frame to frame: what a camera gives, other than white noise.
    coarse = torch.rand(batch, frames, 11, 11, generator=generator)
    mouth = nn.functional.interpolate(coarse, (MOUTH_SIZE, MOUTH_SIZE), mode="bilinear") * 255
    valid = torch.ones(batch, frames, dtype=torch.bool)
    valid[:, gap[0] : gap[1]] = False
    return mouth.to(torch.uint8), valid


def _inputs(frontend: VisualFrontend) -> tuple[torch.Tensor, ...]:
    return _crops(gap=(2, 4))


def _long_inputs(frontend: VisualFrontend, times: int) -> tuple[torch.Tensor, ...]:
    return _crops(1, 60 * times)


def _outputs(frontend: VisualFrontend, *crops: torch.Tensor) -> list[torch.Tensor]:
    return [frontend(*(crops or _inputs(frontend)))]


def _features(frontend: VisualFrontend, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return frontend(mouth, valid)


def _shapes(cls: type) -> None:
    sizes = ({}, {"output_dim": 5}) if "output_dim" in inspect.signature(cls).parameters else ({},)
    for size in sizes:
        frontend = build(cls, **size)
        dim = getattr(frontend, "output_dim", None)
        wanted = size.get("output_dim", dim)
        expect(isinstance(dim, int) and dim > 0, f"output_dim is {dim!r}")
        expect(dim == wanted, f"output_dim={wanted} was asked for, the attribute output_dim is {dim}")
        for batch, frames in ((1, 1), (1, 2), (3, 7)):
            shape = tuple(_features(frontend, *_crops(batch, frames)).shape)
            expect(shape == (batch, frames, dim), f"{batch} clips of {frames} frames gave {shape}, output_dim is {dim}")


def _padding(cls: type) -> None:
    frontend = build(cls, dtype=torch.float64)
    for frames in (1, 6):
        alone = _features(frontend, *_crops(1, frames))
        for more in (1, 4):
            padded = _features(frontend, *_padded(_crops(1, frames), frames + more))
            what = f"features of {frames} frames alone and padded to {frames + more}"
            expect_close(alone[0], padded[0, :frames], what, 1e-6)


def _batches(cls: type) -> None:
    frontend = build(cls, dtype=torch.float64)
    lengths = (8, 8, 5, 1)
    clips = [_crops(1, length, seed=row) for row, length in enumerate(lengths)]
    mouth, valid = (torch.cat(parts) for parts in zip(*(_padded(clip, max(lengths)) for clip in clips)))
    together = _features(frontend, mouth, valid)
    for row, (clip, length) in enumerate(zip(clips, lengths)):
        what = f"features of {length} frames alone and in a batch of clips of {', '.join(map(str, lengths))}"
        expect_close(_features(frontend, *clip)[0], together[row, :length], what, 1e-6)


def _padded(crops: tuple[torch.Tensor, torch.Tensor], frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    more = frames - crops[0].shape[1]
    return nn.functional.pad(crops[0], (0, 0, 0, 0, 0, more)), nn.functional.pad(crops[1], (0, more))


def _invalid_frames(cls: type) -> None:
    frontend = build(cls)
    mouth, valid = _crops(gap=(2, 4))
    other = torch.where(valid[..., None, None], mouth, 255 - mouth)
    one = _features(frontend, mouth, valid)
    expect_equal(one, _features(frontend, other, valid), "features with other crops in the invalid frames")
    expect(not bool(one[~valid].any()), "features of invalid frames are not zero")


def _no_video(cls: type) -> None:
    frontend = build(cls)
    mouth, valid = _crops(3)
    nothing = _features(frontend, mouth, torch.zeros_like(valid))
    expect(not bool(nothing.any()), "features are not zero although no frame is valid")
    valid[1] = False
    beside = _features(frontend, mouth, valid)
    expect(not bool(beside[1].any()), "features of a clip without a valid frame, beside others, are not zero")
    expect_finite(beside, "features of clips beside one without a valid frame")


def _sees(cls: type) -> None:
    frontend = build(cls)
    mouth, valid = _crops()
    moved = _features(frontend, mouth.flip(1), valid)
    expect(not torch.equal(moved, _features(frontend, mouth, valid)), "features do not depend on the crops")


def _precision(cls: type) -> None:
    single = build(cls)
    one = _features(single, *_crops())
    expect(one.dtype == torch.float32, f"float32 weights gave {one.dtype}")
    with autocast():
        mixed = _features(single, *_crops())
    expect_close(one, mixed, "features in float32 and in mixed precision (bfloat16)", 0.2)
    if next(single.parameters(), None) is None:  # then nothing says which precision is wanted
        return
    for dtype, tolerance in ((torch.float64, 1e-3), (torch.bfloat16, 0.2)):
        two = _features(deepcopy(single).to(dtype), *_crops())
        expect(two.dtype == dtype, f"weights in {dtype} gave {two.dtype}")
        expect_close(one, two, f"features in float32 and {dtype}", tolerance)


def _causal(cls: type) -> None:
    frontend = causal_instance(cls).double()
    mouth, valid = _crops(frames=12)
    later, seen = mouth.clone(), valid.clone()
    later[:, 7:] = 255 - later[:, 7:]
    seen[:, 10:] = False
    one, two = _features(frontend, mouth, valid), _features(frontend, later, seen)
    expect_close(one[:, :7], two[:, :7], "features before the crops change", 1e-9)


def _hostile(cls: type) -> None:
    frontend = build(cls)
    mouth, valid = _crops()
    alternating = torch.zeros_like(mouth)
    alternating[:, ::2] = 255
    for name, crops in {"black": mouth * 0, "white": mouth * 0 + 255, "flickering": alternating}.items():
        expect_finite(_features(frontend, crops, valid), f"features of {name} crops")


CHECKS = [
    DOCUMENTED,
    Check(
        "shapes",
        _shapes,
        "features (batch, frames, output_dim), for any batch and from one frame on",
        "set self.output_dim in the constructor; pad in time so that frames are kept",
    ),
    Check(
        "padding",
        _padding,
        "padding beyond a clip's end changes nothing",
        "let time see zeros beyond the end; mask means and attention by `valid`",
    ),
    Check(
        "batch_equals_singles",
        _batches,
        "a batch gives what its clips give one by one",
        "no batch statistics in evaluation mode; see `padding` for clips of different lengths",
    ),
    Check(
        "no_video_is_audio_only",
        _no_video,
        "with no valid frame the features are zero, also beside clips with video",
        "implement `features` and leave `forward` to the contract",
    ),
    Check(
        "invalid_frames_ignored",
        _invalid_frames,
        "what invalid frames hold changes nothing, and their features are zero",
        "implement `features` and leave `forward` to the contract",
    ),
    Check("sees", _sees, "features depend on the crops", "look at the order of axes"),
    Check(
        "gradients",
        partial(every_parameter_learns, outputs=_outputs),
        "a gradient reaches every parameter",
        "remove unused layers",
    ),
    Check(
        "precision",
        _precision,
        "weights in float32, bfloat16 and float64 give features in the same; mixed precision in bfloat16 stays close",
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
        "with `causal` true no frame depends on later frames",
        "pad convolutions in time on the left only; or set causal = False",
    ),
    Check(
        "devices",
        partial(moves_to_devices, inputs=_inputs, outputs=_outputs),
        "moved to another device with its input, it gives its result there",
        "make tensors with device=mouth.device; keep constants in buffers (register_buffer)",
    ),
    Check(
        "hostile_input",
        _hostile,
        "black, white and flickering crops give finite features",
        "divide by std + small",
    ),
    Check(
        "complexity",
        partial(grows_as_declared, inputs=_long_inputs, outputs=_outputs),
        "time and memory grow no faster with the frames of a clip than the attribute `complexity` says",
        "attend to the frames around only; or set growth = 'quadratic'",
    ),
]
DOES_NOT_APPLY: dict[str, str] = {}

"""Checks of the kind `visual_frontend`."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.checks import (
    DOCUMENTED,
    Check,
    build,
    every_parameter_learns,
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    repeatable,
    weights_round_trip,
)
from avse.contracts.checks.estimate import causal_instance
from avse.contracts.types import MOUTH_SIZE
from avse.contracts.visual_frontend import VisualFrontend


def _crops(batch: int = 2, frames: int = 6, gap: tuple[int, int] = (0, 0)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 1000 + frames)
    # Coarse patterns that change from frame to frame: what a camera gives, other than white noise.
    coarse = torch.rand(batch, frames, 11, 11, generator=generator)
    mouth = nn.functional.interpolate(coarse, (MOUTH_SIZE, MOUTH_SIZE), mode="bilinear") * 255
    valid = torch.ones(batch, frames, dtype=torch.bool)
    valid[:, gap[0] : gap[1]] = False
    return mouth.to(torch.uint8), valid


def _outputs(frontend: VisualFrontend) -> list[torch.Tensor]:
    return [frontend(*_crops(gap=(2, 4)))]


def _features(frontend: VisualFrontend, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return frontend(mouth, valid)


def _shapes(cls: type) -> None:
    frontend = build(cls)
    dim = getattr(frontend, "output_dim", None)
    expect(isinstance(dim, int) and dim > 0, f"output_dim is {dim!r}")
    for batch, frames in ((1, 1), (1, 2), (3, 7)):
        shape = tuple(_features(frontend, *_crops(batch, frames)).shape)
        expect(shape == (batch, frames, dim), f"{batch} clips of {frames} frames gave {shape}, output_dim is {dim}")


def _padding(cls: type) -> None:
    frontend = build(cls, dtype=torch.float64)
    lengths = (8, 5, 1)
    clips = [_crops(1, length) for length in lengths]
    mouth = torch.cat([nn.functional.pad(m, (0, 0, 0, 0, 0, max(lengths) - m.shape[1])) for m, _ in clips])
    valid = torch.cat([nn.functional.pad(v, (0, max(lengths) - v.shape[1])) for _, v in clips])
    together = _features(frontend, mouth, valid)
    for row, (clip, length) in enumerate(zip(clips, lengths)):
        what = f"features of {length} frames alone and padded to {max(lengths)} in a batch"
        expect_close(_features(frontend, *clip)[0], together[row, :length], what, 1e-6)


def _invalid_frames(cls: type) -> None:
    frontend = build(cls)
    mouth, valid = _crops(gap=(2, 4))
    other = torch.where(valid[..., None, None], mouth, 255 - mouth)
    one = _features(frontend, mouth, valid)
    expect_equal(one, _features(frontend, other, valid), "features with other crops in the invalid frames")
    expect(not bool(one[~valid].any()), "features of invalid frames are not zero")
    nothing = _features(frontend, mouth, torch.zeros_like(valid))
    expect(not bool(nothing.any()), "features are not zero although no frame is valid")


def _sees(cls: type) -> None:
    frontend = build(cls)
    mouth, valid = _crops()
    moved = _features(frontend, mouth.flip(1), valid)
    expect(not torch.equal(moved, _features(frontend, mouth, valid)), "features do not depend on the crops")


def _precision(cls: type) -> None:
    single, double = build(cls), build(cls, dtype=torch.float64)
    one, two = _features(single, *_crops()), _features(double, *_crops())
    expect(one.dtype == torch.float32, f"float32 weights gave {one.dtype}")
    expect_finite(two, "features in float64")
    if next(double.parameters(), None) is not None:
        expect(two.dtype == torch.float64, f"float64 weights gave {two.dtype}")
    expect_close(one, two, "features in float32 and float64", 1e-3)


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
        "a padded batch gives what its clips give one by one",
        "make time see zeros beyond the end; no batch statistics in evaluation mode; mask by `valid`",
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
        lambda cls: every_parameter_learns(cls, _outputs),
        "a gradient reaches every parameter",
        "remove unused layers",
    ),
    Check("precision", _precision, "float32 and float64 weights work", "create tensors with dtype and device of x"),
    Check(
        "weights_round_trip",
        lambda cls: weights_round_trip(cls, _outputs),
        "weights saved as safetensors and loaded strictly give the same result",
        "keep all that is learnt in parameters or persistent buffers",
    ),
    Check(
        "repeatable",
        lambda cls: repeatable(cls, _outputs),
        "one seed gives one result, and evaluation mode draws nothing",
        "draw in training mode only",
    ),
    Check(
        "causal",
        _causal,
        "with `causal` true no frame depends on later frames",
        "pad convolutions in time on the left only; or set causal = False",
    ),
    Check("hostile_input", _hostile, "black, white and flickering crops give finite features", "divide by std + small"),
]

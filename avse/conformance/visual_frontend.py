"""Checks of the kind `visual_frontend`."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import nn

from avse.conformance.common import DOCUMENTED
from avse.conformance.core import Check, Checks, build, expect, expect_equal, expect_finite
from avse.conformance.modules import ModuleChecks, Probe, Views, before, causal_instance, compare, streams
from avse.contracts.types import MOUTH_SIZE
from avse.contracts.visual_frontend import VisualFrontend

CHECKS = Checks([DOCUMENTED])

Crops = tuple[torch.Tensor, torch.Tensor]


def _crops(batch: int = 2, frames: int = 6, gap: tuple[int, int] = (0, 0), seed: int = 0) -> Crops:
    """Coarse patterns that change from frame to frame, as a camera gives them, unlike white noise."""
    generator = torch.Generator().manual_seed(seed * 100_000 + batch * 1000 + frames)
    coarse = torch.rand(batch, frames, 11, 11, generator=generator)
    mouth = nn.functional.interpolate(coarse, (MOUTH_SIZE, MOUTH_SIZE), mode="bilinear") * 255
    valid = torch.ones(batch, frames, dtype=torch.bool)
    valid[:, gap[0] : gap[1]] = False
    return mouth.to(torch.uint8), valid


def _inputs(frontend: VisualFrontend) -> Crops:
    return _crops(gap=(2, 4))


def _look(frontend: VisualFrontend, mouth: torch.Tensor, valid: torch.Tensor) -> Views:
    with torch.no_grad():
        return {"features": frontend(mouth, valid)}


def _features(frontend: VisualFrontend, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return _look(frontend, mouth, valid)["features"]


_PROBE = Probe(lambda frontend, frames, seed: _crops(1, frames, seed=seed), _look)


@CHECKS.add("shapes", hint="set self.output_dim in the constructor; pad in time so that the number of frames stays")
def _shapes(cls: type[Any]) -> None:
    """Features (batch, frames, output_dim), for any batch and from one frame on."""
    sizes: list[dict[str, Any]] = [{}]
    if "output_dim" in inspect.signature(cls).parameters:
        sizes.append({"output_dim": 5})
    for size in sizes:
        frontend = build(cls, **size)
        dim = getattr(frontend, "output_dim", None)
        wanted = size.get("output_dim", dim)
        expect(isinstance(dim, int) and dim > 0, f"output_dim is {dim!r}")
        expect(dim == wanted, f"output_dim={wanted} was asked for, the attribute output_dim is {dim}")
        for batch, frames in ((1, 1), (1, 2), (3, 7)):
            shape = tuple(_features(frontend, *_crops(batch, frames)).shape)
            expect(shape == (batch, frames, dim), f"{batch} clips of {frames} frames gave {shape}, output_dim is {dim}")


@CHECKS.add("invalid_frames_ignored", hint="implement `features` and leave `forward` to the contract")
def _invalid_frames(cls: type[Any]) -> None:
    """What invalid frames hold changes nothing, and their features are zero."""
    frontend = build(cls)
    mouth, valid = _inputs(frontend)
    other = torch.where(valid[..., None, None], mouth, 255 - mouth)
    features = _features(frontend, mouth, valid)
    expect_equal(features, _features(frontend, other, valid), "features with other crops in the invalid frames")
    expect(not bool(features[~valid].any()), "features of invalid frames are not zero")


@CHECKS.add("no_video_is_audio_only", hint="implement `features` and leave `forward` to the contract")
def _no_video(cls: type[Any]) -> None:
    """With no valid frame the features are zero, also beside clips with video."""
    frontend = build(cls)
    mouth, valid = _crops(3)
    nothing = _features(frontend, mouth, torch.zeros_like(valid))
    expect(not bool(nothing.any()), "features are not zero although no frame is valid")
    valid[1] = False
    beside = _features(frontend, mouth, valid)
    expect(not bool(beside[1].any()), "features of a clip without a valid frame, beside others, are not zero")
    expect_finite(beside, "features of clips beside one without a valid frame")


@CHECKS.add("sees", hint="look at the order of axes")
def _sees(cls: type[Any]) -> None:
    """Features depend on the crops."""
    frontend = build(cls)
    mouth, valid = _crops()
    moved = _features(frontend, mouth.flip(1), valid)
    expect(not torch.equal(moved, _features(frontend, mouth, valid)), "features do not depend on the crops")


@CHECKS.add("precision")
def _precision(cls: type[Any]) -> None:
    """Weights in float32, bfloat16 and float64 give features in the same; mixed precision in bfloat16 stays close."""
    weights = any(True for _ in build(cls).parameters())  # without weights, the precision is not defined
    tolerances = {torch.float64: 1e-3, torch.bfloat16: 0.2} if weights else {}
    _PROBE.precision(cls, lambda frontend: _crops(), tolerances, mixed_tolerance=0.2)


@CHECKS.add("causal", hint="pad convolutions in time on the left only; or set causal = False")
def _causal(cls: type[Any]) -> None:
    frontend = causal_instance(cls).double()
    mouth, valid = _crops(frames=12)
    later_mouth, later_valid = mouth.clone(), valid.clone()
    later_mouth[:, 7:] = 255 - later_mouth[:, 7:]
    later_valid[:, 10:] = False
    one, two = _look(frontend, mouth, valid), _look(frontend, later_mouth, later_valid)
    compare(before(one, 7), before(two, 7), "before the crops change", 1e-9)


@CHECKS.add("hostile_input", hint="divide by std + small")
def _hostile(cls: type[Any]) -> None:
    """Black, white and flickering crops give finite features."""
    frontend = build(cls)
    mouth, valid = _crops()
    alternating = torch.zeros_like(mouth)
    alternating[:, ::2] = 255
    for name, crops in {"black": mouth * 0, "white": mouth * 0 + 255, "flickering": alternating}.items():
        expect_finite(_features(frontend, crops, valid), f"features of {name} crops")


CHECKS += [
    Check(
        "padding",
        partial(_PROBE.padding, lengths=(1, 6), more=(1, 4)),
        hint="make convolutions in time see zeros beyond the end; mask means and attention by `valid`",
    ),
    Check(
        "streams",
        partial(streams, _PROBE),
        "block by block, the result is that of the whole clip",
        hint="look back through `avse.contracts.streaming` only; or set streams = False",
    ),
    Check("batch_equals_singles", partial(_PROBE.batches, lengths=(8, 8, 5, 1))),
    *ModuleChecks(
        _inputs,
        outputs=lambda frontend, mouth, valid: [frontend(mouth, valid)],
        long_inputs=lambda frontend, times: _crops(1, 60 * times),
    ).all(),
]

"""Checks of the kind `fusion`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from avse.conformance.common import DOCUMENTED
from avse.conformance.core import (
    Check,
    CheckFailed,
    Checks,
    NotApplicable,
    build,
    expect,
    expect_equal,
    expect_finite,
)
from avse.conformance.modules import ModuleChecks, Probe, Views, before, causal_instance, compare, perturb, streams
from avse.contracts.fusion import Fusion

CHECKS = Checks([DOCUMENTED])

Streams = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _streams(fusion: Fusion, batch: int = 2, frames: int = 12, gap: tuple[int, int] = (0, 0), seed: int = 0) -> Streams:
    generator = torch.Generator().manual_seed(seed * 100_000 + batch * 1000 + frames)
    audio = torch.randn(batch, frames, fusion.audio_dim, generator=generator, dtype=torch.float64)
    video = torch.randn(batch, frames, fusion.video_dim, generator=generator, dtype=torch.float64)
    valid = torch.ones(batch, frames, dtype=torch.bool)
    valid[:, gap[0] : gap[1]] = False
    return audio.float(), video.float(), valid


def _inputs(fusion: Fusion) -> Streams:
    return _streams(fusion, gap=(3, 5))


def _look(fusion: Fusion, *streams: torch.Tensor) -> Views:
    with torch.no_grad():
        views = dict(zip(("fused features", "reliability"), fusion(*streams)))
        of_audio = fusion.audio_reliability(streams[0])
        return views if of_audio is None else {**views, "audio reliability": of_audio}


def _trained(cls: type[Any]) -> Fusion:
    fusion = build(cls)
    perturb(fusion)
    return fusion


_PROBE = Probe(lambda fusion, frames, seed: _streams(fusion, 1, frames, seed=seed), _look, make=_trained)


@CHECKS.add("shapes", hint="project the video to audio_dim; return reliability without a last axis of one")
def _shapes(cls: type[Any]) -> None:
    """Fused (batch, frames, audio_dim), reliability (batch, frames), for any batch, frames, audio_dim and video_dim."""
    sizes: tuple[dict[str, Any], ...] = ({}, {"audio_dim": 16, "video_dim": 4})
    for size in sizes:
        fusion = build(cls, **size)
        for batch, frames in ((1, 1), (1, 7), (3, 12)):
            streams = _streams(fusion, batch, frames)
            fused, reliability = list(_look(fusion, *streams).values())[:2]
            what = f"audio {tuple(streams[0].shape)}, video {tuple(streams[1].shape)}"
            expect(fused.shape == streams[0].shape, f"{what}: fused has shape {tuple(fused.shape)}")
            expect(reliability.shape == streams[2].shape, f"{what}: reliability has shape {tuple(reliability.shape)}")


@CHECKS.add("reliability", hint="end it with a sigmoid")
def _reliability(cls: type[Any]) -> None:
    """Reliability is in [0, 1], zero in invalid frames."""
    fusion = build(cls)
    audio, video, valid = _inputs(fusion)
    reliability = _look(fusion, 10 * audio, 10 * video, valid)["reliability"]
    low, high = float(reliability.min()), float(reliability.max())
    expect(low >= 0.0 and high <= 1.0, f"reliability reaches from {low:.4g} to {high:.4g}")
    expect(not bool(reliability[~valid].any()), "reliability is not zero in invalid frames")


@CHECKS.add("audio_reliability", hint="read it off from the audio alone, and end it with a sigmoid")
def _audio_reliability(cls: type[Any]) -> None:
    """The audio's reliability, where `tells_audio` says that there is one, is (batch, frames) and in [0, 1]."""
    fusion = build(cls)
    audio, _, valid = _inputs(fusion)
    with torch.no_grad():
        told = fusion.audio_reliability(10 * audio)
    if not fusion.tells_audio:
        expect(told is None, "audio_reliability gives something although tells_audio is false")
        raise NotApplicable("tells_audio is false")
    if told is None:
        raise CheckFailed("audio_reliability gives None although tells_audio is true")
    expect(told.shape == valid.shape, f"audio reliability has shape {tuple(told.shape)}")
    low, high = float(told.min()), float(told.max())
    expect(low >= 0.0 and high <= 1.0, f"audio reliability reaches from {low:.4g} to {high:.4g}")


@CHECKS.add("no_video_is_audio_only", hint="implement `delta` and leave `forward` to the contract")
def _no_video(cls: type[Any]) -> None:
    """With no valid frame the audio passes bit for bit, also beside clips with video."""
    fusion = _trained(cls)
    audio, video, valid = _streams(fusion, batch=3)
    fused, reliability = list(_look(fusion, audio, video, torch.zeros_like(valid)).values())[:2]
    expect_equal(fused, audio, "fused features and the audio, no frame valid")
    expect(not bool(reliability.any()), "reliability is not zero although no frame is valid")
    valid[1] = False
    fused = _look(fusion, audio, video, valid)["fused features"]
    expect_equal(fused[1], audio[1], "fused features and the audio of a clip without video beside clips with it")
    expect_finite(fused, "fused features of clips beside one without video")


@CHECKS.add(
    "invalid_frames_ignored", hint="implement `delta` and leave `forward` to the contract, which sets them to zero"
)
def _invalid_frames(cls: type[Any]) -> None:
    """What the video holds in invalid frames changes nothing."""
    fusion = _trained(cls)
    audio, video, valid = _inputs(fusion)
    expected = _look(fusion, audio, video, valid)
    for garbage in (1e6, float("nan")):
        other = torch.where(valid[..., None], video, torch.full_like(video, garbage))
        compare(expected, _look(fusion, audio, other, valid), f"with {garbage} in the invalid frames of the video")
    expect_equal(expected["fused features"][~valid], audio[~valid], "fused features and the audio in invalid frames")


@CHECKS.add("causal", hint="mask attention to the past, use causal convolutions; or set causal = False")
def _causal(cls: type[Any]) -> None:
    fusion = causal_instance(cls).double()
    perturb(fusion)
    audio, video, valid = _streams(fusion, frames=20)
    audio, video = audio.double(), video.double()
    later_audio, later_video, later_valid = audio.clone(), video.clone(), valid.clone()
    later_audio[:, 12:] *= -3.0
    later_video[:, 12:] += 2.0
    later_valid[:, 15:] = False
    one, two = _look(fusion, audio, video, valid), _look(fusion, later_audio, later_video, later_valid)
    compare(before(one, 12), before(two, 12), "before audio and video change", 1e-9)


@CHECKS.add("hostile_input", hint="normalise with an epsilon; subtract the maximum before an exponential")
def _hostile(cls: type[Any]) -> None:
    """Zeros, huge and tiny features give finite results."""
    fusion = _trained(cls)
    audio, video, valid = _inputs(fusion)
    cases = {"zeros": (0.0, 0.0), "huge audio (1e4)": (1e4, 1.0), "huge video (1e4)": (1.0, 1e4), "tiny": (1e-9, 1e-9)}
    for name, (of_audio, of_video) in cases.items():
        for what, view in _look(fusion, of_audio * audio, of_video * video, valid).items():
            expect_finite(view, f"{what} of {name}")


CHECKS += [
    Check(
        "padding",
        partial(_PROBE.padding, lengths=(9,), more=(1, 6)),
        hint="mask attention, means and recurrences by `valid`; run nothing backwards from padding",
    ),
    Check(
        "streams",
        partial(streams, _PROBE),
        "block by block, the result is that of the whole clip",
        hint="look back through `avse.contracts.streaming` only; or set streams = False",
    ),
    Check("batch_equals_singles", partial(_PROBE.batches, lengths=(12, 12, 9, 4))),
    Check(
        "precision",
        partial(
            _PROBE.precision,
            inputs=_inputs,
            tolerances={torch.float64: 1e-3, torch.bfloat16: 0.1},
            mixed_tolerance=0.1,
        ),
        "float32, bfloat16 and float64 in, the same out; mixed precision in bfloat16 stays close",
    ),
    *ModuleChecks(
        _inputs,
        outputs=lambda fusion, *streams: list(fusion(*streams)),
        long_inputs=lambda fusion, times: _streams(fusion, frames=400 * times),
    ).all(),
]

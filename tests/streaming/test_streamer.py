"""A stream gives what the causal model gives for the whole clip, however it is cut and whenever pictures come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from avse.conformance.modules import perturb
from avse.contracts.types import Batch, Clip, video_frames
from avse.enhancers.tf_masker import TFMasker
from avse.errors import AvseError
from avse.fusion.concat import Concat
from avse.fusion.cross_attention import CrossAttention
from avse.fusion.film import FiLM
from avse.fusion.reliability_attention import ReliabilityAttention
from avse.model import Model
from avse.streaming import Block, Streamer
from avse.visual_frontends.conv3d import Conv3d
from avse.visual_frontends.motion import Motion
from avse.visual_frontends.pixel_mlp import PixelMLP
from avse.visual_frontends.resnet3d import ResNet3d


def _conv3d() -> Conv3d:
    return Conv3d(6, channels=(4, 6), size=12, causal=True)


def _trusting(audio_dim: int, video_dim: int) -> ReliabilityAttention:
    return ReliabilityAttention(audio_dim, video_dim, 2, context=4, window=9, causal=True, trust_layers=2)


def _attending(audio_dim: int, video_dim: int) -> CrossAttention:
    return CrossAttention(audio_dim, video_dim, heads=2, context=4, causal=True)


_SYSTEMS: dict[str, Callable[[], TFMasker]] = {
    "as avse-live": lambda: _masker(_conv3d(), _trusting, noise_aware=True, speaking=True),
    "window of 20 ms": lambda: _masker(_conv3d(), _trusting, fft_size=320, hop=160, noise_aware=True),
    "overlap of 75 %": lambda: _masker(Motion(grid=2), FiLM, fft_size=640, hop=160, mask="magnitude"),
    "residual front-end": lambda: _masker(ResNet3d(6, channels=(4, 6), size=12, causal=True), _attending),
    "frame by frame": lambda: _masker(PixelMLP(6, 8, 11), Concat, kernel_size=4),
    "audio only": lambda: _masker(None, None, noise_aware=True),
}


def _masker(frontend: object, fusion: object, **options: object) -> TFMasker:
    torch.manual_seed(1)
    common = {"channels": 16, "blocks": 2, "fusion_block": 1, "heads": 2, "kernel_size": 5, "context": 12}
    system = TFMasker(frontend, fusion, **{**common, **options}, causal=True).eval()  # type: ignore[arg-type]
    perturb(system, 0.1)
    return system


def _clip(samples: int, seed: int) -> Clip:
    """Noise in bursts; the mouth is hidden at the start, in the middle, and for single frames."""
    rng = np.random.default_rng(seed)
    audio = 0.1 * rng.standard_normal(samples) * (1 + np.sin(np.arange(samples) / 3000)) ** 2
    frames = video_frames(samples)
    valid = rng.random(frames) > 0.15
    valid[: frames // 5] = valid[frames // 2 : frames // 2 + 9] = False
    return Clip(audio, rng.integers(0, 256, (frames, 88, 88), dtype=np.uint8), valid)


def _together(blocks: list[Block]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([b.speech for b in blocks]), np.concatenate([b.reliability for b in blocks])


def _stream(system: TFMasker, clip: Clip, sizes: list[int]) -> list[Block]:
    """Each picture is there before its video frame is computed; a hidden mouth is an old picture."""
    streamer, blocks, place, shown = Streamer(Model(system, "")), [], 0, 0
    streamer._pictures.hold = 0.03
    for size in [*sizes, len(clip.audio)]:
        part = clip.audio[place : place + size]
        while shown < len(clip.valid) and 640 * shown < place + len(part):
            if clip.valid[shown]:
                blocks.append(streamer.push(np.zeros(0), clip.mouth[shown], shown / 25))
            shown += 1
        blocks.append(streamer.push(part))
        place += len(part)
    return [*blocks, streamer.finish()]


@pytest.mark.parametrize("name", _SYSTEMS)
def test_every_split_into_blocks_gives_the_speech_of_the_whole_clip(name: str) -> None:
    """To 1e-6 in double precision; to 1e-5 in single, but for the reliability, which single precision blurs."""
    system = _SYSTEMS[name]()
    rng = np.random.default_rng(len(name))
    lengths, longest = [1, 24_321, *rng.integers(1, 12_000, 3)], [3, 700, *rng.permutation([200, 321, 30_000])]
    for seed, dtype in enumerate([torch.float64] * 4 + [torch.float32]):
        clip = _clip(int(lengths[seed]), seed)
        batch = Batch.from_clips([clip])
        with torch.no_grad():
            whole = system.to(dtype)(replace(batch, noisy=batch.noisy.to(dtype)))
        blocks = _stream(system, clip, rng.integers(0, longest[seed] + 1, 40).tolist())
        speech, reliability = _together(blocks)
        single = dtype == torch.float32
        assert np.abs(speech - whole.speech[0].numpy()).max() < (1e-5 if single else 1e-6)
        assert np.abs(reliability - whole.reliability[0].numpy()).max() < (1e-4 if single else 1e-6)
        if whole.speaking is not None:
            speaking = np.concatenate([block.speaking for block in blocks if block.speaking is not None])
            assert np.abs(speaking - whole.speaking[0].numpy()).max() < (1e-5 if single else 1e-6)
        if len(speech) > 9000:
            assert np.abs(speech).max() > 1e-3 and reliability.any() == (name != "audio only")

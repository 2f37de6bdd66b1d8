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
from avse.fusion.product_of_experts import ProductOfExperts
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


def _experts(audio_dim: int, video_dim: int) -> ProductOfExperts:
    return ProductOfExperts(audio_dim, video_dim, window=9, agreement_dim=4, causal=True)


def _attending(audio_dim: int, video_dim: int) -> CrossAttention:
    return CrossAttention(audio_dim, video_dim, heads=2, context=4, causal=True)


_SYSTEMS: dict[str, Callable[[], TFMasker]] = {
    "as avse-live": lambda: _masker(_conv3d(), _trusting, noise_aware=True, speaking=True),
    "window of 20 ms": lambda: _masker(_conv3d(), _trusting, fft_size=320, hop=160, noise_aware=True),
    "overlap of 75 %": lambda: _masker(Motion(grid=2), FiLM, fft_size=640, hop=160, mask="magnitude"),
    "experts": lambda: _masker(_conv3d(), _experts),
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


@pytest.mark.parametrize("name", _SYSTEMS)
def test_every_split_into_blocks_gives_the_speech_of_the_whole_clip(name: str, in_blocks: Callable) -> None:
    """To 1e-6 in double precision; to 1e-5 in single, but for the reliability, which single precision blurs."""
    system = _SYSTEMS[name]()
    rng = np.random.default_rng(len(name))
    lengths, longest = [1, 24_321, *rng.integers(1, 12_000, 3)], [3, 700, *rng.permutation([200, 321, 30_000])]
    for seed, dtype in enumerate([torch.float64] * 4 + [torch.float32]):
        clip = _clip(int(lengths[seed]), seed)
        batch = Batch.from_clips([clip])
        with torch.no_grad():
            whole = system.to(dtype)(replace(batch, noisy=batch.noisy.to(dtype)))
        blocks = in_blocks(system, clip, rng.integers(0, longest[seed] + 1, 40).tolist())
        speech, reliability = _together(blocks)
        single = dtype == torch.float32
        assert np.abs(speech - whole.speech[0].numpy()).max() < (1e-5 if single else 1e-6)
        assert np.abs(reliability - whole.reliability[0].numpy()).max() < (1e-4 if single else 1e-6)
        for what in ("speaking", "audio_reliability"):
            told = [getattr(block, what) for block in blocks if getattr(block, what) is not None]
            if (expected := getattr(whole, what)) is not None:
                assert np.abs(np.concatenate(told) - expected[0].numpy()).max() < (1e-5 if single else 1e-6)
            else:
                assert not told
        if len(speech) > 9000:
            assert np.abs(speech).max() > 1e-3 and reliability.any() == (name != "audio only")


def _expected(events: list[tuple[int, float, int]], frames: int, wait: int) -> list[int | None]:
    """Which picture each video frame shows, of those that came (number of the block, time, picture); one by one."""
    shown: list[int | None] = []
    for frame in range(frames):
        block = (640 * frame + 320 + wait) // 320 - 1  # with this block, the video frame is computed
        middle = (frame + 0.5) / 25
        come = [(time, -number, picture) for number, (at, time, picture) in enumerate(events) if at <= block]
        fitting = [(time, -number, picture) for time, number, picture in come if middle - 0.25 < time <= middle]
        shown.append(max(fitting)[2] if fitting else None)
    return shown


@pytest.mark.parametrize("wait", [0.0, 0.1])
def test_pictures_late_twice_out_of_order_or_never(wait: float) -> None:
    rng = np.random.default_rng(0)
    clip = _clip(25 * 640, 3)
    crops = clip.mouth
    events = [(2 * n + int(rng.integers(-3, 6)), n / 25 + rng.uniform(0, 0.02), n) for n in range(25) if n % 9 < 6]
    events += [(at + 1, time, number) for at, time, number in events[::4]]  # twice
    events = sorted((max(at, 0), time, number) for at, time, number in events if not 8 <= number < 16)
    system = _masker(PixelMLP(6, 8, 11), _trusting)
    streamer, blocks = Streamer(Model(system, ""), wait=wait), []
    for block in range(50):
        for _, time, number in [event for event in events if event[0] == block]:
            blocks.append(streamer.push(np.zeros(0), crops[number], time))
        blocks.append(streamer.push(clip.audio[block * 320 : block * 320 + 320]))
    assert max(one.latency for one in blocks) == pytest.approx(0.02 + wait)
    assert streamer.latency == pytest.approx(0.04 + wait)  # a block of 20 ms waits for its own end, too
    speech, reliability = _together([*blocks, streamer.finish()])
    shown = _expected(events, 25, round(16_000 * wait))
    valid = np.array([number is not None for number in shown])
    seen = Clip(clip.audio, np.stack([crops[number or 0] for number in shown]), valid)
    whole = Model(system, "").enhance_batch([seen])[0]
    assert 5 < valid.sum() < 23 and ((reliability > 0) == valid).all()
    assert np.abs(speech - whole.speech.numpy()).max() < 1e-5


def test_a_picture_without_a_time_is_that_of_the_first_sample_and_wrong_input_changes_nothing() -> None:
    system, clip = _masker(PixelMLP(6, 8, 11), Concat), _clip(6400, 1)
    clip.valid[:] = True
    streamer, blocks = Streamer(Model(system, "")), []
    for frame in range(10):
        samples = clip.audio[frame * 640 : frame * 640 + 640]
        for wrong in (np.zeros((2, 640)), np.full(640, np.nan)):
            with pytest.raises(AvseError):
                streamer.push(wrong)
        for picture, time in ((np.zeros((88, 88)), 0.0), (np.zeros((3, 3), np.uint8), 0.0), (clip.mouth[0], np.nan)):
            with pytest.raises(AvseError, match="picture"):
                streamer.push(samples, picture, time)
        blocks.append(streamer.push(samples, clip.mouth[frame]))
    speech, reliability = _together([*blocks, streamer.finish()])
    whole = Model(system, "").enhance_batch([clip])[0]
    assert np.abs(speech - whole.speech.numpy()).max() < 1e-5
    assert np.array_equal(reliability, whole.reliability.numpy())
    assert not len(streamer.finish().speech)
    with pytest.raises(AvseError, match="finished"):
        streamer.push(samples)


def test_two_streams_share_a_model_and_none_grows() -> None:
    system = _SYSTEMS["as avse-live"]()
    clip, other = _clip(16_000, 1), _clip(16_000, 2)
    streams = [Streamer(Model(system, "")) for _ in range(2)]

    def size(streamer: Streamer) -> int:
        kept = [value for value in streamer._state.kept.values()]
        return sum(value.numel() for value in [*kept, streamer._audio, streamer._tail, *streamer._by_frame.values()])

    sizes, speech = [], ([], [])
    for block in range(50):
        for streamer, source, out in zip(streams, (clip, other), speech):
            samples = source.audio[block * 320 : block * 320 + 320]
            time = (block // 2 + 1) / 25  # of the next video frame
            out.append(streamer.push(samples, source.mouth[block // 2], time).speech)
        sizes.append(size(streams[0]))
    assert len(set(sizes[30::2])) == 1 and len(streams[0]._pictures._times) <= 3
    for source, found in zip((clip, other), map(np.concatenate, speech)):
        seen = Clip(source.audio, np.roll(source.mouth, 1, axis=0), np.arange(25) > 0)
        whole = Model(system, "").enhance_batch([seen])[0].speech.numpy()
        assert len(found) == 16_000 - 320 and np.abs(found - whole[: len(found)]).max() < 1e-5


def test_systems_that_cannot_stream_are_refused_in_words() -> None:
    torch.manual_seed(0)
    for system, message in (
        (TFMasker(channels=16, blocks=2, fusion_block=1), "looks ahead.*causal"),
        (_masker(PixelMLP(6, 8, 11), _Forgetful), "_Forgetful.*carries no state"),
    ):
        with pytest.raises(AvseError, match=message):
            Streamer(Model(system, ""))
    with pytest.raises(AvseError, match="wait"):
        Streamer(Model(_SYSTEMS["audio only"](), ""), wait=-1)


class _Forgetful(Concat):
    streams = False

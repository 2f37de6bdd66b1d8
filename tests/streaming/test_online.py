"""Inference of a stream: equal to that of the whole clip for every split, and near the offline inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from avse import plugins
from avse.conformance.modules import perturb
from avse.contracts.types import Batch, Clip
from avse.inference.em.online_vem import OnlineVEM
from avse.model import Model
from avse.noise_models.nmf import NMF
from avse.noise_models.stationary import Stationary
from avse.streaming import Streamer


def _inference(noise_model: object, **options: int) -> OnlineVEM:
    torch.manual_seed(0)
    prior = plugins.get("prior", "av_vae").example()
    perturb(prior, 0.1)
    small = {"iterations": 2, "block": 4, "context": 12, "lookahead": 2, "begin_iterations": 3}
    return OnlineVEM(prior, noise_model, **{**small, **options}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("noise_model", [NMF(rank=2), Stationary()], ids=["nmf", "stationary"])
def test_every_split_gives_the_speech_of_the_whole_clip(noise_model: object, in_blocks: Callable) -> None:
    system, rng = _inference(noise_model), np.random.default_rng(0)
    for samples in (1, 3000, 20_001):
        mouth = rng.integers(0, 256, (-(-samples // 640), 88, 88), dtype=np.uint8)
        clip = Clip(0.1 * rng.standard_normal(samples), mouth, rng.random(len(mouth)) > 0.2)
        whole = system(Batch.from_clips([clip]))
        assert whole.speech.isfinite().all(), "whole"
        found = in_blocks(system, clip, rng.integers(0, 2000, 30).tolist())
        latency = Streamer(Model(system, "")).latency
        assert latency == (system.fft_size + 5 * system.hop) / 16_000
        assert max(block.latency for block in found[:-1]) <= latency + 2 * system.hop / 16_000
        speech = np.concatenate([block.speech for block in found])
        assert len(speech) == samples and np.abs(speech - whole.speech[0].numpy()).max() < 1e-5
        reliability = np.concatenate([block.reliability for block in found])
        assert np.abs(reliability - whole.reliability[0].numpy()).max() < 1e-4
    assert np.abs(speech).max() > 1e-3 and reliability.any()


def test_what_a_stream_keeps_does_not_grow() -> None:
    streamer, rng, sizes = Streamer(Model(_inference(NMF(rank=2)), "")), np.random.default_rng(0), []
    for _ in range(12):
        streamer.push(0.1 * rng.standard_normal(4 * 640))
        [window] = streamer._state.own.values()
        tensors = [value for value in vars(window).values() if isinstance(value, torch.Tensor)]
        sizes.append((sum(value.numel() for value in tensors), len(window.traces)))
    assert len(set(sizes[6:])) == 1


def test_old_frames_are_forgotten() -> None:
    """Noise that changes its spectrum: with forgetting, it is known better after the change."""
    rng = np.random.default_rng(0)
    noise = torch.tensor(rng.standard_normal((2, 32_000)), dtype=torch.float32)
    noise[1] = torch.nn.functional.conv1d(noise[1:2, None], torch.ones(1, 1, 8) / 8, padding="same")[0, 0]
    batch = Batch.from_clips([Clip(0.1 * noise.flatten().numpy())])
    left = []
    for forgetting in (0.1, 100.0):
        system = _inference(NMF(rank=1), context=60, iterations=4)
        system.forgetting = forgetting
        left.append(system(batch).speech[0, 33_000:40_000].square().mean().item())
    assert left[0] < left[1]


def test_frames_that_do_not_fit_are_refused() -> None:
    for wrong in ({"block": 3}, {"block": 0}, {"lookahead": -2}, {"m_steps": 0}):
        with pytest.raises(ValueError, match="must be"):
            _inference(NMF(rank=2), **wrong)

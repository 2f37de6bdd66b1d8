"""Fusions against their formulas written out in float64, and the attention they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from avse.contracts.streaming import running_mean
from avse.fusion.concat import Concat
from avse.fusion.film import FiLM
from avse.fusion.reliability_attention import ReliabilityAttention
from avse.nnet.agreement import windowed_correlation
from avse.nnet.attention import LocalCrossAttention
from avse.nnet.video_input import frame_cross_entropy


def _streams(steps: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    audio = torch.randn(2, steps, 8, generator=generator, dtype=torch.float64)
    video = torch.randn(2, steps, 6, generator=generator, dtype=torch.float64)
    valid = torch.rand(2, steps, generator=generator) > 0.3
    return audio, video, valid


def _linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def _norm(layer: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    scaled = (x - x.mean()) / np.sqrt(x.var() + layer.eps)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def test_concat_and_film_are_their_formulas() -> None:
    audio, video, valid = _streams()
    torch.manual_seed(0)
    concat, film = Concat(8, 6).double(), FiLM(8, 6).double()
    by_concat, _ = concat(audio, video, valid)
    by_film, _ = film(audio, video, valid)
    for row in range(2):
        for step in range(12):
            a, v = audio[row, step].numpy(), video[row, step].numpy()
            if not valid[row, step]:
                assert torch.equal(by_concat[row, step], audio[row, step])
                continue
            hidden = _silu(_linear(concat.mix[0], np.concatenate([_norm(concat.norm, a), v])))
            np.testing.assert_allclose(by_concat[row, step].detach(), a + _linear(concat.mix[2], hidden), atol=1e-10)
            modulation = _linear(film.modulation[2], _silu(_linear(film.modulation[0], v)))
            expected = a + modulation[:8] * _norm(film.norm, a) + modulation[8:]
            np.testing.assert_allclose(by_film[row, step].detach(), expected, atol=1e-10)


def test_local_cross_attention_is_a_softmax_over_valid_neighbours() -> None:
    audio, video, valid = _streams()
    torch.manual_seed(0)
    attention = LocalCrossAttention(8, 6, heads=2, context=3).double()
    result = attention(audio, video, valid).detach().numpy()
    for row in range(2):
        keys = _linear(attention.key_value, video[row].numpy())
        query = _linear(attention.query, audio[row].numpy())
        for step in range(12):
            near = [k for k in range(12) if abs(k - step) <= 3 and (valid[row, k] or k == step)]
            heads = []
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                key, value = keys[:, :8][:, part], keys[:, 8:][:, part]
                bias = attention.position.detach().numpy()[head]
                logit = np.array([query[step, part] @ key[k] / 2.0 + bias[k - step + 3] for k in near])
                weight = np.exp(logit - logit.max())
                heads.append((weight / weight.sum()) @ value[near])
            expected = _linear(attention.out, np.concatenate(heads))
            np.testing.assert_allclose(result[row, step], expected, atol=1e-6)


def test_agreement_is_the_correlation_over_valid_steps_of_the_window() -> None:
    audio, video, valid = _streams(20)
    first, second = audio[..., :3], video[..., :3]
    result = windowed_correlation(first, second, valid[..., None].double(), window=7).numpy()
    for row in range(2):
        for step in range(20):
            window = [k for k in range(step - 3, step + 4) if 0 <= k < 20 and valid[row, k]]
            if not window:
                continue
            a, v = first[row, window].numpy(), second[row, window].numpy()
            covariance = ((a - a.mean(0)) * (v - v.mean(0))).mean(0)
            expected = covariance / np.sqrt(a.var(0) * v.var(0) + 1e-4)
            np.testing.assert_allclose(result[row, step], expected, atol=1e-8)


@pytest.mark.slow
def test_trust_over_time_learns_which_frames_show_another_mouth() -> None:
    """The video follows the sound, but in one half of each clip that of another; no single step tells."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    fusion = ReliabilityAttention(8, 6, heads=2, window=8, trust_layers=2)
    optimizer = torch.optim.Adam(fusion.parameters(), 0.01)

    def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        audio, other = torch.randn(2, 16, 40, 8, generator=generator)
        intact = (torch.arange(40) < 20) ^ (torch.rand(16, 1, generator=generator) < 0.5)
        return audio, torch.where(intact[..., None], audio, other)[..., :6], intact

    everywhere = torch.ones(16, 40, dtype=torch.bool)
    for _ in range(150):
        audio, video, intact = draw()
        loss = frame_cross_entropy(fusion(audio, video, everywhere)[1], intact, everywhere)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    audio, video, intact = draw()
    reliability = fusion(audio, video, everywhere)[1]
    assert ((reliability > 0.5) == intact).float().mean() > 0.9
    # Whatever stands where no mouth is valid changes nothing elsewhere.
    valid = torch.rand(16, 40, generator=generator) > 0.2
    other = torch.where(valid[..., None], video, torch.full_like(video, 9.0))
    assert torch.equal(fusion(audio, video, valid)[1], fusion(audio, other, valid)[1])


@pytest.mark.parametrize("causal", [False, True])
def test_sums_of_many_frames_are_as_good_in_half_precision(causal: bool) -> None:
    one, other = torch.randn(2, 1, 600, 4, generator=torch.Generator().manual_seed(2)).bfloat16() + 3
    weight = torch.ones(1, 600, 1)
    half = windowed_correlation(one, other, weight.bfloat16(), 25, causal)
    assert torch.equal(half, windowed_correlation(one.float(), other.float(), weight, 25, causal).bfloat16())
    mean = running_mean(None, "mean", one)
    torch.testing.assert_close(mean, running_mean(None, "mean", one.float()).bfloat16(), rtol=0.02, atol=0)


class _NoAutocastFault(TorchDispatchMode):
    """As CUDA under autocast: refuses the cross-entropy of probabilities."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "binary_cross_entropy" not in str(function)
        return function(*args, **(kwargs or {}))


def test_cross_entropy_of_frames_is_that_of_its_definition_and_trains_on_a_gpu() -> None:
    generator = torch.Generator().manual_seed(5)
    probability, of_audio = torch.rand(2, 3, 40, generator=generator)
    truth, counts = torch.rand(2, 3, 40, generator=generator) > 0.4
    terms = []
    for row, frame in zip(*np.nonzero(counts.numpy())):
        of_truth = float(probability[row, frame]) if truth[row, frame] else 1 - float(probability[row, frame])
        weight = 1.0 if truth[row, frame] else float(of_audio[row, frame]) ** 2
        terms.append(-weight * np.log(np.clip(of_truth, 1e-3, 1 - 1e-3)))
    with _NoAutocastFault():
        entropy = frame_cross_entropy(probability, truth, counts, of_audio)
    assert abs(entropy.item() - np.mean(terms)) < 1e-6


def test_doubt_is_a_power_of_the_reliability() -> None:
    audio, video, valid = _streams()
    torch.manual_seed(0)
    fusion = ReliabilityAttention(8, 6, heads=2).double()
    plain, reliability = fusion(audio, video, valid)
    fusion.reliability_exponent = 3.0
    doubted, same = fusion(audio, video, valid)
    assert torch.equal(same, reliability)
    torch.testing.assert_close(doubted - audio, (plain - audio) * reliability[..., None] ** 2)

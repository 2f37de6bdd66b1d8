"""Both fusions keep the promises of their kind and compute what their docstrings say."""

from __future__ import annotations

import math

import pytest
import torch

from avse.testing import parametrize_with_checks
from avse_separation_fusions import CAF, Bilinear


@parametrize_with_checks([CAF, Bilinear])
def test_conformance(plugin, check):
    check(plugin)


def streams(steps: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(2, steps, 5, generator=generator, dtype=torch.float64)
    video = torch.randn(2, steps, 3, generator=generator, dtype=torch.float64)
    valid = torch.ones(2, steps, dtype=torch.bool)
    valid[0, 2:4] = valid[1, :1] = False
    return audio, video, valid


def trained(fusion: torch.nn.Module) -> torch.nn.Module:
    """No parameter where it began, so that none can hide."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return fusion.double().eval()


def normalised(values: list[float], scale: list[float], shift: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + 1e-5)
    return [(value - mean) / deviation * s + b for value, s, b in zip(values, scale, shift)]


def times(matrix: list[list[float]], vector: list[float]) -> list[float]:
    return [sum(m * v for m, v in zip(row, vector)) for row in matrix]


def plus(one: list[float], other: list[float]) -> list[float]:
    return [a + b for a, b in zip(one, other)]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def naive_caf(fusion: CAF, audio, video, valid) -> tuple[list, list]:
    """One clip, number by number."""
    weights = {name: value.tolist() for name, value in fusion.state_dict().items()}
    energy = []
    for frame in video:
        heads = plus(times(weights["attend.0.weight"], frame), weights["attend.0.bias"])
        heads = normalised(heads, weights["attend.1.weight"], weights["attend.1.bias"])
        dim = len(heads) // fusion.heads
        energy.append([sum(heads[c::dim]) / fusion.heads for c in range(dim)])
    fused, reliability = [], []
    for t, (sound, frame) in enumerate(zip(audio, video)):
        if not valid[t]:
            fused.append(sound)
            reliability.append(0.0)
            continue
        seen = [s for s in range(t + 1 if fusion.causal else len(audio)) if valid[s]]
        value = normalised(sound, weights["value.weight"], weights["value.bias"])
        gate = normalised(sound, weights["gate.weight"], weights["gate.bias"])
        key = plus(times(weights["key.0.weight"], frame), weights["key.0.bias"])
        key = normalised(key, weights["key.1.weight"], weights["key.1.bias"])
        agreement = [max(g, 0.0) * k for g, k in zip(gate, key)]
        trust = sigmoid(times(weights["trust.weight"], agreement)[0] + weights["trust.bias"][0])
        mixed = []
        for c in range(len(sound)):
            share = math.exp(energy[t][c]) / sum(math.exp(energy[s][c]) for s in seen)
            mixed.append(sound[c] + trust * (len(seen) * share * value[c] + agreement[c]))
        fused.append(mixed)
        reliability.append(trust)
    return fused, reliability


def naive_bilinear(fusion: Bilinear, audio, video, valid) -> tuple[list, list]:
    weights = {name: value.tolist() for name, value in fusion.state_dict().items()}
    fused, reliability = [], []
    for t, (sound, frame) in enumerate(zip(audio, video)):
        if not valid[t]:
            fused.append(sound)
            reliability.append(0.0)
            continue
        left = normalised(sound, weights["from_audio.0.weight"], weights["from_audio.0.bias"])
        right = normalised(frame, weights["from_video.0.weight"], weights["from_video.0.bias"])
        power = []
        for i in range(fusion.dim):
            form = 0.0  # a^T M_i v, with the matrix written out
            for row, a in enumerate(left):
                for column, v in enumerate(right):
                    entry = sum(
                        weights["from_audio.1.weight"][i * fusion.rank + k][row]
                        * weights["from_video.1.weight"][i * fusion.rank + k][column]
                        for k in range(fusion.rank)
                    )
                    form += a * entry * v
            power.append(math.copysign(math.sqrt(abs(form) + 1e-6) - 1e-3, form))
        length = math.sqrt(sum(p * p for p in power)) + 1e-6
        power = [math.sqrt(fusion.dim) * p / length for p in power]
        trust = sigmoid(times(weights["trust.weight"], power)[0] + weights["trust.bias"][0])
        change = plus(times(weights["out.weight"], power), weights["out.bias"])
        fused.append([s + trust * d for s, d in zip(sound, change)])
        reliability.append(trust)
    return fused, reliability


@pytest.mark.parametrize(
    ("fusion", "naive"),
    [
        (CAF(5, 3, heads=2), naive_caf),
        (CAF(5, 3, heads=2, causal=True), naive_caf),
        (Bilinear(5, 3, dim=4, rank=2), naive_bilinear),
    ],
    ids=["caf", "causal caf", "bilinear"],
)
def test_is_what_the_equations_say(fusion, naive) -> None:
    fusion = trained(fusion)
    audio, video, valid = streams()
    with torch.no_grad():
        fused, reliability = fusion(audio, video, valid)
    for row in range(2):
        expected = naive(fusion, audio[row].tolist(), video[row].tolist(), valid[row].tolist())
        torch.testing.assert_close(fused[row], torch.tensor(expected[0], dtype=torch.float64))
        torch.testing.assert_close(reliability[row], torch.tensor(expected[1], dtype=torch.float64))


def test_the_attention_of_caf_is_one_on_average_however_long_the_clip() -> None:
    fusion = CAF(5, 3).double()
    for steps in (4, 400):
        energy = torch.randn(1, steps, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        attention = fusion._attention(energy, torch.ones(1, steps, dtype=torch.bool))
        torch.testing.assert_close(attention.mean(dim=1), torch.ones(1, 5, dtype=torch.float64))


def test_a_bilinear_form_tells_agreement_from_disagreement() -> None:
    """One layer learns the sign of a product of the two streams, which no sum of functions of them can tell."""
    torch.manual_seed(0)
    fusion = Bilinear(2, 2, dim=4, rank=2)
    sign = torch.randint(0, 2, (2, 1, 256, 1)).float() * 2 - 1
    audio, video = (torch.cat([side, -side], dim=2) for side in sign)
    target = (sign[0] * sign[1])[..., 0]
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.03)
    for _ in range(60):
        loss = (fusion.delta(audio, video, torch.ones(1, 256).bool())[0][..., 0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("arguments", [{"heads": 0}])
def test_caf_refuses_what_it_cannot_be(arguments: dict) -> None:
    with pytest.raises(ValueError, match="heads must be at least 1"):
        CAF(8, 6, **arguments)


@pytest.mark.parametrize("arguments", [{"dim": 0}, {"rank": 0}])
def test_bilinear_refuses_what_it_cannot_be(arguments: dict) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Bilinear(8, 6, **arguments)

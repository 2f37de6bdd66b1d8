"""What a network is told of the noise in training: shares of what describes it; vectors are made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avse.contracts.embedding import Embedding
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.training import told_noise
from avse.training.told_noise import ToldNoise

NOISY = np.zeros(800, dtype=np.float32)  # whose vector is axis 4


class _Embedding(Embedding):
    """Texts to the first axes, by their length; sounds to the last ones, by their level."""

    output_dim, modalities = 8, ("text", "sound")

    def embed(self, items, modality):
        rows = [len(item) % 4 if modality == "text" else 4 + int(10 * np.abs(item).max()) for item in items]
        return torch.eye(8)[rows]


@pytest.fixture
def noises(tmp_path: Path) -> list[Utterance]:
    rows = []
    for level, label in ((0.1, "dog"), (0.2, "rain_on"), (0.3, "")):
        path = tmp_path / f"{level}.wav"
        soundfile.write(path, np.full(800, level + 0.05), 16000)
        rows.append(Utterance(path.stem, noise=path, kind="noise", label=label))
    return rows


def _axes(told: ToldNoise, recordings: list[Utterance], count: int = 400) -> np.ndarray:
    drawn = np.stack([told(recordings, NOISY, np.random.default_rng(seed)) for seed in range(count)])
    assert np.isin(np.linalg.norm(drawn, axis=1).round(5), (0.0, 1.0)).all()
    return (drawn > 0).mean(axis=0)


def test_texts_sounds_and_nothing_have_their_shares(
    noises: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_noise, "load_embedding", lambda name: _Embedding())
    dog, rain, unnamed = noises
    told = ToldNoise(noises, tmp_path, text=0.5, sound=0.2, wrong=0.0)
    shares = _axes(told, [dog])
    assert shares[3] == pytest.approx(0.5, abs=0.08) and shares[5] == pytest.approx(0.2, abs=0.08)  # "dog"
    assert shares.sum() == pytest.approx(0.7, abs=0.08)
    both = _axes(told, [dog, rain])
    assert np.allclose(both[[3, 5]], both[[7 % 4, 6]]) and (both[[3, 5, 6]] > 0).all()
    assert _axes(told, [unnamed]).nonzero()[0].tolist() == [7] and not _axes(told, []).any()
    with pytest.raises(AvseError, match="no noise"):
        ToldNoise([], tmp_path)
    wrong = _axes(ToldNoise(noises, tmp_path, text=0.0, sound=1.0, wrong=1.0), [])
    assert wrong[[5, 6, 7]] == pytest.approx([1 / 3] * 3, abs=0.1)
    described = ToldNoise(
        noises, tmp_path, text=1.0, sound=0.0, wrong=0.0, same={"dog": "pet"}, descriptions={"pet": ["xx"]}
    )
    assert _axes(described, [dog])[[2, 3]] == pytest.approx([0.5, 0.5], abs=0.1)
    heard = ToldNoise(noises, tmp_path, text=0.5, sound=0.0, noisy=0.3, wrong=0.0)
    assert _axes(heard, [])[4] == pytest.approx(0.3, abs=0.08) and _axes(heard, []).sum() == _axes(heard, [])[4]
    assert _axes(heard, [dog])[[3, 4]] == pytest.approx([0.5, 0.3], abs=0.08)


def test_vectors_are_made_once_for_an_embedding(
    noises: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_noise, "load_embedding", lambda name: _Embedding())
    first = ToldNoise(noises, tmp_path)
    monkeypatch.setattr(told_noise, "load_embedding", lambda name: pytest.fail("made again"))
    again = ToldNoise(noises, tmp_path)
    rng = [np.random.default_rng(0) for _ in range(2)]
    np.testing.assert_array_equal(first(noises[:1], NOISY, rng[0]), again(noises[:1], NOISY, rng[1]))

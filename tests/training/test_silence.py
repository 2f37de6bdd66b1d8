"""Losses and scores of clips whose speaker is silent, and of who speaks."""

import numpy as np
import pytest
import torch

from avse.contracts.types import Batch, Estimate
from avse.training.losses import EnhancementLoss


def batch_of(clean: torch.Tensor, noise: torch.Tensor) -> Batch:
    frames = clean.shape[1] // 640
    valid = torch.ones(len(clean), frames, dtype=torch.bool)
    lengths = torch.full((len(clean),), clean.shape[1])
    batch = Batch(
        clean + noise, lengths, torch.zeros(len(clean), frames, 88, 88, dtype=torch.uint8), valid, clean=clean
    )
    batch.video_is_clean = valid
    return batch


def estimate_of(speech: torch.Tensor, batch: Batch, speaking: torch.Tensor | None = None) -> Estimate:
    return Estimate(speech, batch.noisy - speech, batch.valid.float(), batch.lengths, speaking=speaking)


def signals() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 6400, generator=generator)
    clean[1] = 0.0
    return clean, noise


def test_silent_clips_are_scored_by_their_leakage_alone() -> None:
    clean, noise = signals()
    batch = batch_of(clean, noise)
    scores = EnhancementLoss().scores(estimate_of(0.1 * batch.noisy, batch), batch)
    assert np.isnan(scores["si_sdr_improvement"]).tolist() == [False, True, False]
    assert np.isnan(scores["leakage_db"]).tolist() == [True, False, True]
    assert scores["leakage_db"][1] == pytest.approx(-20, abs=0.01)


def test_loss_is_the_mean_over_clips_with_and_without_speech() -> None:
    clean, noise = signals()
    batch = batch_of(clean, noise)
    speech = clean + 0.3 * noise
    loss = EnhancementLoss(silence_weight=0.5)
    total = loss(estimate_of(speech, batch), batch)
    heard = batch_of(clean[[0, 2]], noise[[0, 2]])
    leaked = 10 * np.log10(0.09 + 1e-6)
    expected = (2 * loss(estimate_of(speech[[0, 2]], heard), heard).item() + 0.5 * leaked) / 3
    assert total.item() == pytest.approx(expected, rel=1e-4)


def test_a_batch_in_which_nobody_speaks_has_a_gradient() -> None:
    noise = signals()[1]
    batch = batch_of(torch.zeros_like(noise), noise)
    speech = (0.5 * noise).requires_grad_()
    EnhancementLoss()(estimate_of(speech, batch), batch).backward()
    assert speech.grad is not None
    assert float((speech.grad * noise).sum()) > 0  # less energy is better


def test_who_speaks_is_learned_where_the_video_is_clean() -> None:
    clean, noise = signals()
    clean[0, 3200:] = 0.0
    batch = batch_of(clean, noise)
    truth = torch.tensor([[1.0] * 5 + [0.0] * 5, [0.0] * 10, [1.0] * 10])
    loss = EnhancementLoss(speaking_weight=1.0)
    value = lambda speaking: loss(estimate_of(clean, batch, speaking), batch).item()
    assert value(truth) + 6 < value(1 - truth)
    batch.video_is_clean = torch.zeros_like(batch.valid)
    assert value(truth) == value(1 - truth)


def test_a_model_that_does_not_tell_who_speaks_is_refused() -> None:
    batch = batch_of(*signals())
    with pytest.raises(ValueError, match=r"model\.speaking"):
        EnhancementLoss(speaking_weight=1.0)(estimate_of(batch.noisy, batch), batch)

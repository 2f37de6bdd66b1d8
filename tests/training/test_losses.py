"""Losses against the same sums written out in float64."""

from __future__ import annotations

import numpy as np
import torch

from avse.contracts.types import Batch, Estimate
from avse.signal.metrics import si_sdr
from avse.training.lip_reading import BandLevelLoss, LipReading, SynchronyLoss
from avse.training.losses import EnhancementLoss


def _batch() -> tuple[Estimate, Batch]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 3200, generator=generator)
    clean[1, 1600:] = 0
    noisy = clean + 0.5 * torch.randn(2, 3200, generator=generator)
    noisy[1, 1600:] = 0
    lengths = torch.tensor([3200, 1600])
    valid = torch.tensor([[True] * 5, [True, False, True, False, False]])
    batch = Batch(noisy, lengths, torch.zeros(2, 5, 88, 88, dtype=torch.uint8), valid, clean=clean)
    return Estimate(noisy, clean, torch.zeros(2, 5), lengths), batch


def test_enhancement_loss_ignores_padding_and_level() -> None:
    estimate, batch = _batch()
    loss = EnhancementLoss(spectral_weight=0.0)
    expected = -si_sdr(estimate.speech, batch.clean).mean()
    assert torch.allclose(loss(estimate, batch), expected)
    spectral = EnhancementLoss()
    before = spectral(estimate, batch)
    louder = Estimate(10 * estimate.speech, estimate.noise, estimate.reliability, batch.lengths)
    batch.clean = 10 * batch.clean
    assert torch.allclose(spectral(louder, batch), before, atol=1e-3)


def test_reliability_is_compared_with_the_truth_where_a_mouth_is_seen() -> None:
    estimate, batch = _batch()
    plain = EnhancementLoss()(estimate, batch)
    loss = EnhancementLoss(reliability_weight=3.0)
    assert torch.equal(loss(estimate, batch), plain)  # nothing is known
    batch.video_is_clean = torch.tensor([[True, True, False, True, True], [False, True, True, True, True]])
    estimate.reliability = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5], [0.2, 0.0, 0.9, 1.0, 1.0]])
    likely = [0.9, 0.8, 1 - 0.7, 0.6, 0.5, 1 - 0.2, 0.9]
    expected = float(plain) - 3.0 * np.mean(np.log(likely))
    assert np.isclose(float(loss(estimate, batch)), expected, rtol=1e-5)


def test_spectral_term() -> None:
    estimate, batch = _batch()
    clean = batch.clean.double().numpy() / np.sqrt(
        (batch.clean.double() ** 2).sum(1, keepdim=True).numpy() / [[3200], [1600]]
    )
    noisy = batch.noisy.double().numpy() / np.sqrt(
        (batch.clean.double() ** 2).sum(1, keepdim=True).numpy() / [[3200], [1600]]
    )
    size, distance = 320, []
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)

    def spectrum(signal: np.ndarray) -> np.ndarray:
        padded = np.pad(signal, size // 2)
        frames = [padded[k : k + size] * window for k in range(0, len(padded) - size + 1, size // 2)]
        return (np.abs(np.fft.rfft(frames)) ** 2 / size + 1e-6) ** 0.15

    for row in range(2):
        distance.append(np.abs(spectrum(noisy[row]) - spectrum(clean[row])).mean())
    with_term = EnhancementLoss(spectral_weight=2.0, fft_sizes=(size,))(estimate, batch)
    without = EnhancementLoss(spectral_weight=0.0)(estimate, batch)
    np.testing.assert_allclose(float(with_term - without), 2.0 * np.mean(distance), rtol=1e-4)


def test_band_levels_follow_the_sound_and_only_valid_frames_count() -> None:
    _, batch = _batch()
    loss = BandLevelLoss(bands=6)
    levels = loss.levels(batch)
    assert float(levels[1, 3:].abs().max()) == 0.0
    np.testing.assert_allclose(levels[0].mean(dim=0).sum(), 0.0, atol=1e-4)
    wrong = levels.clone()
    wrong[~batch.valid] += 100.0
    assert float(loss(wrong, batch)) == 0.0
    assert loss.scores(levels, batch)["correlation"][0] > 0.999
    wrong[0, 0] += 1.0
    np.testing.assert_allclose(float(loss(wrong, batch)), 1.0 / batch.valid.sum(), rtol=1e-5)


def _reading(batch: Batch, loss: SynchronyLoss, video: torch.Tensor, audio: torch.Tensor) -> LipReading:
    return LipReading(loss.levels(batch), video, audio, torch.tensor(4.0))


def test_synchrony_tells_the_window_and_its_shift() -> None:
    clean, valid = torch.randn(3, 40 * 640), torch.ones(3, 40, dtype=torch.bool)
    batch = Batch(clean, torch.full((3,), 40 * 640), torch.zeros(3, 40, 88, 88), valid, clean=clean)
    loss, embedding = SynchronyLoss(bands=4, window=10, step=5, margin=0), torch.randn(3, 40, 16)
    matched = _reading(batch, loss, embedding, embedding)
    assert float(loss(matched, batch)) < 0.01
    assert loss.scores(matched, batch)["found_in_clip"] == loss.scores(matched, batch)["found"] == [1.0] * 3
    late = _reading(batch, loss, embedding.roll(5, dims=1), embedding)
    assert max(loss.scores(late, batch)["found_in_clip"]) < 1 / 7 + 1e-6 and float(loss(late, batch)) > 1.0
    other = loss.scores(_reading(batch, loss, embedding.roll(1, dims=0), embedding), batch)
    assert max(other["found"]) == 0.0


def test_silent_and_invalid_windows_do_not_count() -> None:
    clean, valid = torch.randn(2, 20 * 640), torch.ones(2, 20, dtype=torch.bool)
    clean[0, 10 * 640 :] = 0.0
    valid[1, :10] = False
    batch = Batch(clean, torch.full((2,), 20 * 640), torch.zeros(2, 20, 88, 88), valid, clean=clean)
    loss, embedding = SynchronyLoss(bands=4, window=10, step=10, margin=0), torch.randn(2, 20, 8)
    _, clip = loss._similarities(_reading(batch, loss, embedding, embedding), batch)
    assert clip.tolist() == [0, 1]
    batch.lengths = torch.tensor([20 * 640, 16 * 640])
    loss = SynchronyLoss(bands=4, window=6, step=4, margin=3)
    _, clip = loss._similarities(_reading(batch, loss, embedding, embedding), batch)
    assert clip.tolist() == [0, 0]  # frames 3 to 8 and 7 to 12; in the other clip 3 to 8, hardly valid
    loss = SynchronyLoss(bands=4, window=10, step=10, margin=0)
    batch.valid = torch.zeros_like(valid)
    nothing = _reading(batch, loss, embedding, embedding)
    assert float(loss(nothing, batch)) == 0.0 and all(np.isnan(loss.scores(nothing, batch)["found"]))


def test_speaking_is_told_from_silence_frame_by_frame() -> None:
    clean, valid = torch.randn(2, 10 * 640), torch.ones(2, 10, dtype=torch.bool)
    clean[0, 6 * 640 :] *= 1e-3  # 60 dB
    valid[0, :2] = False
    batch = Batch(clean, torch.full((2,), 10 * 640), torch.zeros(2, 10, 88, 88), valid, clean=clean)
    loss, embedding = SynchronyLoss(bands=4, window=30, speaking_weight=0.5), torch.zeros(2, 10, 3)
    reading = _reading(batch, loss, embedding, embedding)
    assert float(loss(reading, batch)) == 0.0 and "speaking_auc" not in loss.scores(reading, batch)
    reading.speaking = torch.rand(2, 10)
    speaks = [[frame < 6 for frame in range(10)], [True] * 10]
    told = [(float(reading.speaking[r, t]), speaks[r][t]) for r in range(2) for t in range(10) if valid[r, t]]
    entropy = np.mean([-np.log(one if active else 1 - one) for one, active in told])
    np.testing.assert_allclose(float(loss(reading, batch)), 0.5 * entropy, rtol=1e-5)
    pairs = [float(h > low) for h, one in told[:8] if one for low, other in told[:8] if not other]
    first, second = loss.scores(reading, batch)["speaking_auc"]
    np.testing.assert_allclose(first, np.mean(pairs))
    assert np.isnan(second)

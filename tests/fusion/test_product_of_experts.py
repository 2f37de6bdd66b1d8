"""The product of experts against one in NumPy, and what its precisions and reliability learn in noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from avse.fusion.product_of_experts import ProductOfExperts
from avse.nnet.agreement import windowed_correlation
from avse.nnet.video_input import frame_cross_entropy

AUDIO_DIM, VIDEO_DIM, FRAMES, WINDOW = 5, 4, 12, 7


def _fusion() -> ProductOfExperts:
    torch.manual_seed(0)
    fusion = ProductOfExperts(AUDIO_DIM, VIDEO_DIM, window=WINDOW, agreement_dim=3).double()
    for parameter in fusion.parameters():
        nn.init.normal_(parameter, std=0.5)
    return fusion.eval()


def _product(means: list[np.ndarray], precisions: list[np.ndarray]) -> np.ndarray:
    """Mean of the normalised product of one-dimensional Gaussians, by integration on a grid."""
    value = np.linspace(-60.0, 60.0, 240_001)
    log_density = sum(-0.5 * p * (value - m) ** 2 for m, p in zip(means, precisions))
    density = np.exp(log_density - log_density.max())
    return (value * density).sum() / density.sum()


def test_fused_features_are_the_mean_over_both_hypotheses() -> None:
    """Where the video belongs: the product of prior, audio and video; where not: of prior and audio."""
    fusion = _fusion()
    audio, video = torch.randn(1, FRAMES, AUDIO_DIM).double(), torch.randn(1, FRAMES, VIDEO_DIM).double()
    valid = torch.arange(FRAMES)[None] < 9
    with torch.no_grad():
        fused, reliability = fusion(audio, video, valid)
        video = torch.where(valid[..., None], video, 0.0)
        heard = F.layer_norm(audio, [AUDIO_DIM], fusion.norm.weight, fusion.norm.bias)
        of_audio = fusion.audio_log_precision(heard).exp().numpy()
        padded = F.pad(video.mT, (2, 2))
        seen = torch.stack([
            F.silu((padded[..., t : t + 5] * fusion.over_time.weight).sum(dim=(1, 2)) + fusion.over_time.bias)
            for t in range(FRAMES)
        ])[None]  # fmt: skip
        of_video = fusion.video_log_precision(seen).exp().numpy()
        mean = fusion.video_mean(seen).numpy()
    for frame in range(FRAMES):
        r = reliability[0, frame].item()
        assert (r > 0) == bool(valid[0, frame])
        for unit in range(AUDIO_DIM):
            a, l_a, l_v = audio[0, frame, unit].item(), of_audio[0, frame, unit], of_video[0, frame, unit]
            # The audio's own expert: with the prior, N(0, 1), it has the mean a and the precision 1 + l_a.
            own = a * (1 + l_a) / l_a
            alone = _product([0.0, own], [1.0, l_a])
            together = _product([0.0, own, mean[0, frame, unit]], [1.0, l_a, l_v])
            np.testing.assert_allclose(alone, a, atol=1e-6)
            np.testing.assert_allclose(fused[0, frame, unit].item(), (1 - r) * alone + r * together, atol=1e-6)


def test_log_odds_are_what_the_video_allows_less_the_evidence_of_reliable_audio() -> None:
    fusion = _fusion()
    audio, video = torch.randn(1, FRAMES, AUDIO_DIM).double(), torch.randn(1, FRAMES, VIDEO_DIM).double()
    valid = torch.arange(FRAMES)[None] < 9
    with torch.no_grad():
        reliability = fusion(audio, video, valid)[1]
        seen = fusion._seen(torch.where(valid[..., None], video, 0.0))
        heard = fusion.norm(audio)
        trust = torch.sigmoid(fusion.audio_log_precision(heard)).mean(dim=2, keepdim=True) * valid[..., None]
        agreement = windowed_correlation(fusion.audio_view(heard), fusion.video_view(seen), trust, WINDOW)
        evidence = (trust**6 * fusion.against(torch.cat([heard, seen, agreement], dim=2)))[0, :, 0]
        for frame in range(9):
            window = slice(max(0, frame - 3), min(9, frame + 4))
            mean = evidence[window].mean()
            expected = torch.sigmoid(fusion.log_odds(seen)[0, frame, 0] - fusion.strength * mean)
            torch.testing.assert_close(reliability[0, frame], expected)


def test_precision_loss_is_the_likelihood_of_features_without_noise() -> None:
    """Only the precision learns from it; it is least where 1 / (1 + l_a) + 0.01 is the relative error."""
    fusion = _fusion()
    audio, clean = (torch.randn(1, FRAMES, AUDIO_DIM, requires_grad=True) for _ in range(2))
    loss = fusion.float().precision_loss(audio, clean)
    expected = 0.0
    for frame in range(FRAMES):
        log_precision = fusion.audio_log_precision(fusion.norm(audio[0, frame].detach())).detach().double().numpy()
        for unit in range(AUDIO_DIM):
            scale = clean[0, :, unit].detach().double().numpy().var(ddof=1)
            error = min((clean[0, frame, unit] - audio[0, frame, unit]).item() ** 2 / scale, 4.0)
            variance = 1 / (1 + np.exp(log_precision[unit])) + 0.01
            expected += 0.5 * (error / variance + np.log(variance)) / (FRAMES * AUDIO_DIM)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)
    loss.backward()
    learned = {name.split(".")[0] for name, one in fusion.named_parameters() if one.grad is not None}
    assert learned == {"norm", "audio_log_precision"} and audio.grad is None


def test_calibration_scales_and_shifts_the_log_odds() -> None:
    fusion, (audio, video) = _fusion(), torch.randn(2, 1, FRAMES, AUDIO_DIM).double()
    streams = audio, video[..., :VIDEO_DIM], torch.ones(1, FRAMES, dtype=torch.bool)
    before = fusion(*streams)[1].logit()
    fusion.calibrate(0.5, -1.0)
    torch.testing.assert_close(fusion(*streams)[1].logit(), 0.5 * before - 1.0)


def test_precision_falls_with_noise_and_the_own_mouth_keeps_its_reliability() -> None:
    """Features of a target in noise of a known level, and a noisy view of it, of another's in a third of the clips."""
    dim, batch, frames = 8, 16, 60
    torch.manual_seed(0)
    fusion, head = ProductOfExperts(dim, dim, window=30, agreement_dim=8), nn.Linear(dim, dim)
    enter = nn.Linear(2 * dim, dim)
    optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters(), *enter.parameters()], 0.01)
    valid = torch.ones(batch, frames, dtype=torch.bool)

    def draw(snr: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        clean, other = F.avg_pool1d(torch.randn(2, batch * dim, frames), 5, 1, 2).view(2, batch, dim, frames).mT * 2
        level = (10 ** (-snr / 20))[:, None, None].expand_as(clean)
        noisy = clean + level * torch.randn_like(clean)
        shown = torch.where(own[:, None, None], clean, other)
        heard = torch.tanh(enter(torch.cat([noisy.asinh(), level.asinh()], dim=2)))
        return clean, heard, shown + 0.3 * torch.randn_like(clean)

    for _ in range(250):
        own = torch.rand(batch) > 0.33
        clean, audio, video = draw(-15 + 55 * torch.rand(batch), own)
        fused, reliability = fusion(audio, video, valid)
        loss = (head(fused) - clean).square().mean()
        loss = loss + 0.1 * frame_cross_entropy(
            reliability, own[:, None].expand_as(valid), valid, fusion.audio_reliability(audio)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def measured(snr: float, own: bool) -> list[float]:
        with torch.no_grad():
            _, audio, video = draw(torch.full((batch,), snr), torch.full((batch,), own))
            told = fusion(audio, video, valid)[1], fusion.audio_reliability(audio), fusion.feature_weight(audio, video)
        return [value.mean().item() for value in told]

    clear, noisy = measured(40.0, True), measured(-15.0, True)
    assert noisy[0] > clear[0] - 0.02 > 0.85  # reliability of the own mouth
    assert noisy[1] < clear[1] - 0.2  # of the audio
    assert noisy[2] > clear[2] + 0.1  # the video's share of the precision
    assert measured(40.0, False)[0] < 0.4

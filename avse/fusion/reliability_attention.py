"""Fusion `reliability_attention`: attended video, weighed by how far it can be trusted."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from avse.contracts.streaming import with_past
from avse.nnet.agreement import windowed_correlation
from avse.nnet.attention import LocalCrossAttention
from avse.plugins import register

_TRUST_DIM, _KERNEL = 64, 5


@register("fusion", "reliability_attention")
class ReliabilityAttention(Fusion):
    """`audio + r^e delta(audio, attended video)`, with a reliability `r` in [0, 1] for each frame.

    The reliability is computed from both streams around the frame, and from how well they agree: the correlation of
    their projections over `window` frames. It needs no label: where the video misleads, the enhancement loss lowers it.
    With labels (`reliability_weight` of the loss) it becomes the probability that a frame is clean.

    Arguments
    ---------
    heads : int
        Divides `audio_dim`.
    context : int
        Frames on each side that a frame sees.
    window : int
        Frames over which agreement is measured.
    agreement_dim : int
        Projections whose agreement is measured.
    causal : bool
        True: only past frames.
    trust_layers : int
        Dilated convolutions over time before the reliability is read off, so that it depends on seconds of audio and
        video. 0: on each frame by itself.
    reliability_exponent : float
        e, at least 1. Above 1 the video counts for less than the probability that it is clean.

    Example
    -------
    >>> fusion = ReliabilityAttention(8, 6, heads=2)
    >>> fused, r = fusion(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape, bool(((r > 0) & (r < 1)).all())
    (torch.Size([2, 5, 8]), True)
    """

    paper = "Sadeghi and Alameda-Pineda, Switching variational auto-encoders for audio-visual enhancement, 2021"
    complexity = "quadratic"  # each frame is compared with every other, and those beyond `context` masked

    def __init__(
        self,
        audio_dim: int,
        video_dim: int,
        heads: int = 4,
        context: int = 10,
        window: int = 50,
        agreement_dim: int = 16,
        causal: bool = False,
        trust_layers: int = 0,
        reliability_exponent: float = 1.0,
    ) -> None:
        super().__init__(audio_dim, video_dim)
        if reliability_exponent < 1:
            raise ValueError(f"reliability_exponent must be at least 1, got {reliability_exponent}.")
        self.causal = self.streams = causal
        self.window, self.reliability_exponent = window, reliability_exponent
        self.norm = nn.LayerNorm(audio_dim)
        self.attention = LocalCrossAttention(audio_dim, video_dim, heads, context, causal)
        self.joint = nn.Sequential(nn.Linear(2 * audio_dim, audio_dim), nn.SiLU(), nn.Linear(audio_dim, audio_dim))
        self.audio_view = nn.Linear(audio_dim, agreement_dim)
        self.video_view = nn.Linear(video_dim, agreement_dim)
        log_odds = nn.Linear(_TRUST_DIM, 1)
        nn.init.constant_(log_odds.bias, 1.0)
        self.trust = nn.Sequential(nn.Linear(audio_dim + video_dim + agreement_dim, _TRUST_DIM), nn.SiLU(), log_odds)
        self.trust_over_time = nn.ModuleList(
            nn.Conv1d(_TRUST_DIM, _TRUST_DIM, _KERNEL, dilation=4**layer) for layer in range(trust_layers)
        )

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query = self.norm(audio)
        attended = self.attention(query, video, valid)
        weight = valid[..., None].to(audio.dtype)
        views = self.audio_view(query), self.video_view(video)
        agreement = windowed_correlation(*views, weight, self.window, self.causal, self)
        evidence = self.trust[:2](torch.cat([query, video, agreement], dim=2))
        for number, layer in enumerate(self.trust_over_time):
            evidence = evidence + F.silu(self._over_time(number, layer, evidence * valid[..., None]))
        reliability = torch.sigmoid(self.trust[2](evidence)[..., 0])
        return self.joint(torch.cat([query, attended], dim=2)), reliability

    def calibrate(self, scale: float, shift: float) -> None:
        log_odds = self.trust[2]
        assert isinstance(log_odds, nn.Linear)
        with torch.no_grad():
            log_odds.weight.mul_(scale)
            log_odds.bias.mul_(scale).add_(shift)

    def _over_time(self, number: int, layer: nn.Module, evidence: torch.Tensor) -> torch.Tensor:
        reach = 4**number * (_KERNEL - 1)
        if self.causal:
            padded = with_past(self, f"evidence {number}", evidence, reach)
        else:
            padded = F.pad(evidence, (0, 0, reach // 2, reach // 2))
        return layer(padded.transpose(1, 2)).transpose(1, 2)

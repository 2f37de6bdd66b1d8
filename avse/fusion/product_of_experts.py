"""Fusion `product_of_experts`: each stream states a mean and a precision, and the two Gaussians are multiplied."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from avse.contracts.streaming import with_past
from avse.nnet.agreement import window_sum, windowed_correlation
from avse.plugins import register

_HIDDEN, _KERNEL = 64, 5
_LEAST_VARIANCE = 0.01  # of the audio in `precision_loss`


@register("fusion", "product_of_experts")
class ProductOfExperts(Fusion):
    """Audio and video state a mean and a precision of each feature in each frame, and are combined by precision.

        prior  N(0, 1),   audio  N(a, 1 / (1 + l_a)),   video  N(m, 1 / l_v)
        product of audio and video:   mean  a + g (m - a),   g = l_v / (1 + l_a + l_v)
        fused = a + r g (m - a)

    `a` is what the audio and the prior say together, so that the audio's precision is that of the prior at least. `l_a`
    is read off from the audio, `m` and `l_v` from the video alone. `r` is the probability that the video belongs to the
    audio, so that `fused` is the mean under both hypotheses:

        log-odds of r = s(video) - k mean of R_a^p e(audio, video),   R_a = mean over features of l_a / (1 + l_a)

    `e` in [0, 1] is evidence against the video, from the correlation of both streams over `window` frames; no gradient
    passes from it to the precision. The audio speaks against the video only as far as it is reliable itself. Where
    noise covers it, `r` is what the video alone allows, and the video counts for more, since g grows as l_a falls.

    The audio's precision learns to fall where training has noise: in an enhancer by what helps it, and in a prior with
    a noisy-speech encoder (`noisy_encoder_layers`) also by how far its features in noise are from those without.

    Arguments
    ---------
    window : int
        Frames over which agreement is measured and evidence is averaged.
    agreement_dim : int
        Projections whose agreement is measured.
    causal : bool
        True: only past frames.
    evidence_exponent : float
        p. Above 1 audio of middling reliability, which may be noise that resembles speech, says little against the
        video. 6 was chosen on development clips.

    Example
    -------
    >>> fusion = ProductOfExperts(8, 6)
    >>> audio, video, valid = torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    >>> fused, r = fusion(audio, video, valid)
    >>> fused.shape, r.shape, fusion.audio_reliability(audio).shape
    (torch.Size([2, 5, 8]), torch.Size([2, 5]), torch.Size([2, 5]))
    """

    paper = "Wu and Goodman, Multimodal generative models for scalable weakly-supervised learning, 2018"
    tells_audio = True

    def __init__(
        self,
        audio_dim: int,
        video_dim: int,
        window: int = 50,
        agreement_dim: int = 32,
        causal: bool = False,
        evidence_exponent: float = 6.0,
    ) -> None:
        super().__init__(audio_dim, video_dim)
        self.window, self.causal, self.streams = window, causal, causal
        self.evidence_exponent = evidence_exponent
        self.norm = nn.LayerNorm(audio_dim)
        self.audio_log_precision = nn.Sequential(
            nn.Linear(audio_dim, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, audio_dim)
        )
        self.over_time = nn.Conv1d(video_dim, audio_dim, _KERNEL)
        self.video_mean = nn.Linear(audio_dim, audio_dim)
        self.video_log_precision = nn.Linear(audio_dim, audio_dim)
        self.audio_view = nn.Linear(audio_dim, agreement_dim)
        self.video_view = nn.Linear(audio_dim, agreement_dim)
        self.against = nn.Sequential(
            nn.Linear(2 * audio_dim + agreement_dim, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, 1), nn.Sigmoid()
        )
        self.log_odds = nn.Linear(audio_dim, 1)
        self.strength = nn.Parameter(torch.full((), 16.0))
        nn.init.constant_(self.log_odds.bias, 2.0)
        nn.init.constant_(self.video_log_precision.bias, -1.0)

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen, heard = self._seen(video), self.norm(audio)
        trust = self.audio_reliability(audio).detach()[..., None] * valid[..., None]
        views = self.audio_view(heard), self.video_view(seen)
        agreement = windowed_correlation(*views, trust, self.window, self.causal, self)
        against = trust**self.evidence_exponent * self.against(torch.cat([heard, seen, agreement], dim=2))
        seen_frames = valid[..., None].to(against.dtype)
        count = window_sum(seen_frames, self.window, self.causal, self, "count").clamp(min=1.0)
        against = window_sum(against, self.window, self.causal, self, "against") / count
        reliability = torch.sigmoid(self.log_odds(seen) - self.strength * against)[..., 0]
        return self.video_mean(seen) - audio, reliability

    def feature_weight(self, audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
        """g, the video's share of the precision, shape (batch, frames, audio_dim); see `Fusion.feature_weight`."""
        of_audio = self.audio_log_precision(self.norm(audio))
        of_video = self.video_log_precision(self._seen(video, "precision"))
        return torch.stack([torch.zeros_like(of_audio), of_audio, of_video]).softmax(dim=0)[2]

    def audio_reliability(self, audio: torch.Tensor) -> torch.Tensor:
        """R_a: by how much the audio narrows the prior, as a share of its variance; see `Fusion.audio_reliability`."""
        return torch.sigmoid(self.audio_log_precision(self.norm(audio))).mean(dim=2)

    def precision_loss(self, audio: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Of N(a, 1 / (1 + l_a) + 0.01), each feature scaled to a variance of one. Only `l_a` learns; see `Fusion`.

        Without the 0.01, outliers in loud speech would outweigh all noise. An error above four variances counts as 4.
        """
        audio, clean = audio.detach().float(), clean.detach().float()
        error = ((clean - audio).square() / clean.var(dim=(0, 1)).clamp(min=1e-4)).clamp(max=4.0)
        variance = torch.sigmoid(-self.audio_log_precision(self.norm(audio)).float()) + _LEAST_VARIANCE
        return 0.5 * (error / variance + variance.log()).mean()

    def calibrate(self, scale: float, shift: float) -> None:
        with torch.no_grad():
            self.strength.mul_(scale)
            self.log_odds.weight.mul_(scale)
            self.log_odds.bias.mul_(scale).add_(shift)

    def _seen(self, video: torch.Tensor, name: str = "mean") -> torch.Tensor:
        if self.causal:
            padded = with_past(self, name, video, _KERNEL - 1)
        else:
            padded = F.pad(video, (0, 0, _KERNEL // 2, _KERNEL // 2))
        return F.silu(self.over_time(padded.mT).mT)

"""Fusion `caf`: the video says when to listen and, by a second path, to what."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from avse.plugins import register


@register("fusion", "caf")
class CAF(Fusion):
    """Cross-dimensional attention fusion of RTFS-Net, on frames: an attended and a gated path, added.

    With audio a (batch, frames, audio_dim), video v, and n the number of valid frames, for each frame t and feature c:

        e[t]       = mean_h LN(W_e v[t])[h]             heads of audio_dim features, one normalisation over all
        attention  = n * softmax_t(e)                   over the valid frames, feature by feature; 1 on average
        attended   = attention * LN_value(a)
        agreement  = ReLU(LN_gate(a)) * LN(W_k v)
        fused      = a + r * (attended + agreement),    r[t] = sigmoid(w . agreement[t] + b)

    In the paper both parts replace the audio, which a later sum adds again; the normalisations run over time, which
    would let padding and the future in; the softmax is not multiplied by n, so that it fades as clips grow; the video
    is projected in groups, for which its features must be a multiple of the audio's; and there is no r. Of the
    channelwise convolutions of the audio, of width one, the scale and shift of the normalisations remain.

    Arguments
    ---------
    audio_dim, video_dim : int
        Features of either stream.
    heads : int
        Attentions that are averaged.
    causal : bool
        True: the softmax runs over the frames so far, and n counts those.

    Shapes as in `Fusion.forward`: (batch, frames, audio_dim) and (batch, frames, video_dim) to (batch, frames,
    audio_dim), and reliability (batch, frames).

    Example
    -------
    >>> fused, r = CAF(8, 6)(torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    >>> fused.shape, bool(((r > 0) & (r < 1)).all())
    (torch.Size([2, 5, 8]), True)
    """

    paper = "Pegg, Li and Hu, RTFS-Net: recurrent time-frequency modelling for efficient audio-visual separation, 2024"

    def __init__(self, audio_dim: int, video_dim: int, heads: int = 4, causal: bool = False) -> None:
        super().__init__(audio_dim, video_dim)
        if heads < 1:
            raise ValueError(f"heads must be at least 1, got {heads}.")
        self.heads, self.causal = heads, causal
        self.value, self.gate = nn.LayerNorm(audio_dim), nn.LayerNorm(audio_dim)
        self.attend = nn.Sequential(nn.Linear(video_dim, heads * audio_dim), nn.LayerNorm(heads * audio_dim))
        self.key = nn.Sequential(nn.Linear(video_dim, audio_dim), nn.LayerNorm(audio_dim))
        self.trust = nn.Linear(audio_dim, 1)
        nn.init.constant_(self.trust.bias, 1.0)

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Fusion.delta`."""
        energy = self.attend(video).unflatten(2, (self.heads, -1)).mean(dim=2)
        attended = self._attention(energy, valid) * self.value(audio)
        agreement = F.relu(self.gate(audio)) * self.key(video)
        return attended + agreement, torch.sigmoid(self.trust(agreement)[..., 0])

    def _attention(self, energy: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Softmax over the valid frames times their number, shape (batch, frames, audio_dim); any value elsewhere."""
        # Far below all others, but finite: the contract blanks what comes out where nothing is valid.
        energy = energy.masked_fill(~valid[..., None], torch.finfo(energy.dtype).min / 2)
        if self.causal:
            count = valid.cumsum(dim=1)[..., None].to(energy.dtype)
            return count * (energy - energy.logcumsumexp(dim=1)).exp()
        return valid.sum(dim=1)[:, None, None].to(energy.dtype) * energy.softmax(dim=1)

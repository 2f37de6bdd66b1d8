"""Conformer blocks: layers that networks on spectra share."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.streaming import recent, with_past

_T = TypeVar("_T")


class ConformerBlock(nn.Module):
    """Depthwise convolution, self-attention with rotary positions, and a feed-forward layer, each residual.

    Arguments
    ---------
    channels : int
        Features of a frame.
    heads : int
        Of the attention; `2 * heads` divides `channels`.
    kernel_size : int
        Frames of the depthwise convolution.
    context : int
        Frames on each side (past only, if causal) that attention sees.
    causal : bool
        True: no frame looks ahead.
    dropout : float
        Share of the features of each residual that are zero in training.

    Example
    -------
    >>> block = ConformerBlock(16, heads=4, kernel_size=5, context=3)
    >>> block(torch.randn(1, 7, 16), torch.ones(1, 7, dtype=torch.bool)).shape
    torch.Size([1, 7, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        kernel_size: int,
        context: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.context, self.causal = heads, context, causal
        self.kernel_size = kernel_size
        self.conv_norm = nn.LayerNorm(channels)
        self.conv_in = nn.Linear(channels, 2 * channels)
        self.depthwise = nn.Conv1d(channels, channels, kernel_size, groups=channels)
        self.conv_out = nn.Linear(channels, channels)
        self.attention_norm = nn.LayerNorm(channels)
        self.attention_in = nn.Linear(channels, 3 * channels)
        self.attention_out = nn.Linear(channels, channels)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, frames, channels) to the same; `mask` is false beyond a clip's end."""
        gated = F.glu(self.conv_in(self.conv_norm(hidden)), dim=2) * mask[..., None]
        if self.causal:
            padded = with_past(self, "convolution", gated, self.kernel_size - 1)
        else:
            padded = F.pad(gated, (0, 0, (self.kernel_size - 1) // 2, self.kernel_size // 2))
        local = self.depthwise(padded.transpose(1, 2)).transpose(1, 2)
        hidden = hidden + self.dropout(self.conv_out(F.silu(local)))
        hidden = hidden + self.dropout(self._attend(self.attention_norm(hidden), mask))
        return hidden + self.dropout(self.feed_forward(hidden))

    def _attend(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        queries, *keys_values = self.attention_in(hidden).chunk(3, dim=2)
        if self.causal:
            names = ("keys", "values")
            keys_values = [recent(self, name, part, self.context) for name, part in zip(names, keys_values)]
            mask = recent(self, "mask", mask, self.context)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (queries, *keys_values))
        past = key.shape[2] - query.shape[2]  # positions are relative, so that those before may count from 0
        near, itself = _distances(query.shape[2], past, self.context, self.causal, hidden.device)
        # A frame beyond the clip's end sees itself, so that no softmax is empty.
        allowed = (near & mask[:, None]) | itself
        turn = _rotation(key.shape[2], key.shape[3] // 2, key.dtype, key.device)
        attended = F.scaled_dot_product_attention(
            _rotate(query, turn[:, past:]), _rotate(key, turn), value, attn_mask=allowed[:, None]
        )
        return self.attention_out(attended.transpose(1, 2).flatten(2))


def _remembered(function: Callable[..., _T]) -> Callable[..., _T]:
    """The blocks of a network, and those of a stream, ask for the same again and again. A graph is made once."""
    # Training, too, may ask for what inference has made.
    cached = lru_cache(maxsize=4)(torch.inference_mode(False)(function))
    return lambda *arguments: (function if torch.compiler.is_exporting() else cached)(*arguments)


@_remembered
def _distances(
    frames: int, past: int, context: int, causal: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which frames are near, and which is itself, shape (frames, past + frames), both bool."""
    position = torch.arange(past + frames, device=device)
    distance = position[past:, None] - position[None]
    return (distance <= context) & (distance >= (0 if causal else -context)), distance == 0


@_remembered
def _rotation(frames: int, half: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Cosine and sine of the angles of positions, shape (2, frames, half)."""
    rate = 1000.0 ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    angle = torch.arange(frames, device=device)[:, None].float() * rate
    return torch.stack([angle.cos(), angle.sin()]).to(dtype)


def _rotate(features: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al., 2021) of (batch, heads, frames, dim)."""
    cosine, sine = turn
    first, second = features.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)

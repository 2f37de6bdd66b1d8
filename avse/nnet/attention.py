"""Local cross-attention between two streams of the same frames."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.streaming import recent


class LocalCrossAttention(nn.Module):
    """Each frame of the audio attends to the video around it, with a learned preference for each distance in time.

    Arguments
    ---------
    query_dim, key_dim : int
        Features of the attending stream (audio) and of the attended stream (video).
    heads : int
        Divides `query_dim`.
    context : int
        Frames on each side that are seen.
    causal : bool
        True: no later frame is seen.

    Example
    -------
    >>> attention = LocalCrossAttention(8, 6, heads=2, context=3)
    >>> attention(torch.randn(1, 5, 8), torch.randn(1, 5, 6), torch.ones(1, 5, dtype=torch.bool)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, query_dim: int, key_dim: int, heads: int, context: int, causal: bool = False) -> None:
        super().__init__()
        if query_dim % heads:
            raise ValueError(f"heads must divide audio_dim, got {heads} heads and audio_dim {query_dim}.")
        self.heads, self.context, self.causal = heads, context, causal
        self.query = nn.Linear(query_dim, query_dim)
        self.key_value = nn.Linear(key_dim, 2 * query_dim)
        self.out = nn.Linear(query_dim, query_dim)
        # Before training, weight falls with the distance in time.
        distance = torch.arange(-context, context + 1).abs() / max(1, context)
        self.position = nn.Parameter((-4.0 * distance).repeat(heads, 1))

    def forward(self, query: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Attend to valid keys, (batch, frames, key_dim): queries of shape (batch, frames, query_dim) to the same."""
        split = lambda stream: stream.unflatten(2, (self.heads, -1)).transpose(1, 2)
        projected, past = self.key_value(keys), 0
        if self.causal:
            projected = recent(self, "keys", projected, self.context)
            valid = recent(self, "valid", valid, self.context)
            past = valid.shape[1] - query.shape[1]
        key, value = (split(part) for part in projected.chunk(2, dim=2))
        frame = torch.arange(valid.shape[1], device=query.device)
        offset = frame[None] - frame[past:, None]
        near = (offset.abs() <= self.context) & ((offset <= 0) if self.causal else torch.ones_like(offset).bool())
        # A frame always sees itself, so that no softmax is empty; the caller blanks invalid frames.
        allowed = (near[None] & valid[:, None]) | (offset == 0)
        bias = self.position[:, (offset + self.context).clamp(0, 2 * self.context)]
        mask = torch.where(allowed[:, None], bias[None], bias.new_full((), torch.finfo(bias.dtype).min))
        attended = F.scaled_dot_product_attention(split(self.query(query)), key, value, attn_mask=mask.to(query.dtype))
        return self.out(attended.transpose(1, 2).flatten(2))

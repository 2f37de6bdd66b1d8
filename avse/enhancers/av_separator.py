"""`av_separator`: a mask for each visible speaker, by a network that takes all speakers of a mixture."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from avse.enhancers.masking import SpectralMasker
from avse.plugins import register


@register("enhancer", "av_separator")
class AVSeparator(SpectralMasker):
    """Time-frequency masking for several speakers of a mixture at once; the videos say which estimate is whose.

    From the fusion on, each speaker has features of their own: they meet the speaker's video, and before each of the
    remaining blocks the mean of the other speakers' features. Then they become a mask on the spectrum. The number of
    speakers is free, their order does not matter, and a speaker without video gets what the others are not.

    Rows of a batch with one number in `Batch.mixture` are speakers of one mixture; without it each row is a speaker
    alone, and the network enhances. It can start from the weights of a `tf_masker` of the same sizes.
    `fusion_block` is less than `blocks`.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> model = AVSeparator(channels=16, blocks=2, fusion_block=1)
    >>> model(example_batch((3200, 3200))).speech.shape
    torch.Size([2, 3200])
    """

    paper = "Ephrat et al., Looking to listen at the cocktail party: a speaker-independent audio-visual model, 2018"
    not_inherited = ("causal",)

    def __init__(self, *args: Any, **common: Any) -> None:
        super().__init__(*args, **common)
        after = len(self.blocks) - self.fusion_block
        if not after:
            raise ValueError(f"fusion_block must be less than blocks, got {self.fusion_block}.")
        self.exchanges = nn.ModuleList(_Exchange(self.encoder.out_features) for _ in range(after))

    def exchange(self, hidden: torch.Tensor, number: int, mixture: torch.Tensor | None) -> torch.Tensor:
        return self.exchanges[number](hidden, mixture)


class _Exchange(nn.Module):
    """Adds to each speaker's features a function of them and of the mean of the other speakers' features.

    It adds nothing before training, so that a network trained to enhance is a good start.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mixed = nn.Linear(2 * channels, channels)
        nn.init.zeros_(self.mixed.weight)
        nn.init.zeros_(self.mixed.bias)

    def forward(self, hidden: torch.Tensor, mixture: torch.Tensor | None) -> torch.Tensor:
        normed = self.norm(hidden)
        if mixture is None:
            others = torch.zeros_like(normed)
        else:
            _, group, count = mixture.unique(return_inverse=True, return_counts=True)
            total = normed.new_zeros(len(count), *normed.shape[1:]).index_add(0, group, normed)
            others = (total[group] - normed) / (count[group] - 1).clamp(min=1)[:, None, None]
        return hidden + self.mixed(torch.cat([normed, others], dim=2))

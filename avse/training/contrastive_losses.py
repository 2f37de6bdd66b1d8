"""Losses of contrast between two sets of vectors, any number of which may match."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class SigmoidLoss(nn.Module):
    """Each pair of vectors on its own: does it match?

        loss = - 1/n sum_ij log sigmoid(z_ij (s a_i . b_j + c)),   z_ij = 1 where i and j match, else -1

    Arguments
    ---------
    scale, bias : float
        Initial s and c; both are learned.

    Paper: Zhai et al., Sigmoid loss for language image pre-training, 2023.

    Example
    -------
    >>> one = torch.eye(4)
    >>> float(SigmoidLoss(scale=20.0, bias=-10.0)(one, one, torch.eye(4).bool())) < 0.001
    True
    """

    def __init__(self, scale: float = 10.0, bias: float = -5.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, first: torch.Tensor, second: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
        """A scalar, of vectors (n, dim) and (m, dim), and of whether they match, (n, m) bool."""
        logits = self.log_scale.clamp(max=math.log(100.0)).exp() * first @ second.T + self.bias
        return -F.logsigmoid(torch.where(matches, logits, -logits)).sum() / len(first)


class MultiPositiveLoss(nn.Module):
    """Softmax over the other side, with the mean over all that match; both ways.

        loss_a = - mean_i 1/|P_i| sum_{j in P_i} log softmax_j(s a_i . b_j),   P_i: what matches i, if anything

    Arguments
    ---------
    scale : float
        Initial s, which is learned.

    Papers: Radford et al., CLIP, 2021; Khosla et al., Supervised contrastive learning, 2020.

    Example
    -------
    >>> one = torch.eye(4)
    >>> float(MultiPositiveLoss(scale=20.0)(one, one, torch.eye(4).bool())) < 0.001
    True
    """

    def __init__(self, scale: float = 14.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, first: torch.Tensor, second: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
        """A scalar, of vectors (n, dim) and (m, dim), and of whether they match, (n, m) bool."""
        logits = self.log_scale.clamp(max=math.log(100.0)).exp() * first @ second.T
        return (soft_cross_entropy(logits, matches) + soft_cross_entropy(logits.T, matches.T)) / 2


def soft_cross_entropy(logits: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with equal targets for all that match; the mean over rows where anything does, else zero.

    >>> float(soft_cross_entropy(torch.zeros(2, 4), torch.tensor([[True, True, False, False], [False] * 4])).exp())
    4.0
    """
    counts = matches.sum(dim=1)
    entropies = -(logits.log_softmax(dim=1) * matches).sum(dim=1) / counts.clamp(min=1)
    return (entropies * (counts > 0)).sum() / (counts > 0).sum().clamp(min=1)

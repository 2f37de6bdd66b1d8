"""The loss of supervised separation."""

from __future__ import annotations

import torch

from avse.contracts.types import Batch, Estimate
from avse.signal.metrics import si_sdr
from avse.training.losses import EnhancementLoss


class SeparationLoss(EnhancementLoss):
    """The loss of enhancement for each talker; videos say who is who, so no order has to be tried out.

    Arguments are those of `EnhancementLoss`.

    Example
    -------
    >>> clean = torch.randn(2, 3200)
    >>> noisy = clean.sum(dim=0, keepdim=True).expand(2, -1)
    >>> batch = Batch(noisy, torch.tensor([3200, 3200]), torch.zeros(2, 5, 88, 88), torch.zeros(2, 5), clean=clean)
    >>> batch.mixture = torch.tensor([0, 0])
    >>> swapped = Estimate(clean.flip(0), clean, torch.zeros(2, 5), batch.lengths)
    >>> SeparationLoss().scores(swapped, batch)["wrong_speaker"]
    [1.0, 1.0]
    """

    compares_without_video = False  # without any video nobody knows who is who

    def scores(self, estimate: Estimate, batch: Batch) -> dict[str, list[float]]:
        """SI-SDR improvement in dB, and whether another talker of the mixture is nearer than one's own; by talker."""
        found = super().scores(estimate, batch)
        if batch.mixture is None:
            return found
        distances = si_sdr(estimate.speech[:, None].expand(-1, len(batch), -1), batch.clean.expand(len(batch), -1, -1))
        same = batch.mixture[:, None] == batch.mixture
        nearest = torch.where(same, distances, -torch.inf).argmax(dim=1)
        wrong = nearest != torch.arange(len(batch), device=nearest.device)
        return {**found, "wrong_speaker": wrong.double().tolist()}

"""Distillation: a light network that learns from the estimates of a larger one, and from clean speech."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from avse import model, model_folder
from avse.contracts.types import Batch, Estimate
from avse.training.losses import EnhancementLoss, clean_of, without_speech


class DistillationLoss(EnhancementLoss):
    """(1 - w) D(s', s) + w D(s', s''), with s clean speech, s' the student's estimate and s'' the teacher's.

    D is the distance of `EnhancementLoss`. The teacher hears the same noisy audio and sees the same video. Clips in
    which the wanted speaker is silent are compared with clean speech alone.

    Arguments
    ---------
    teacher : str or Enhancer
        An embedded model, a folder with a model, or the network itself.
    teacher_weight : float
        w, from 0 to 1.
    common :
        Further arguments: see `EnhancementLoss`.

    Raises
    ------
    AvseError
        If there is no such model.
    ValueError
        If the weight is out of range.

    Reference
    ---------
    Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> from avse.enhancers.tf_masker import TFMasker
    >>> batch = replace(example_batch((3200,)), clean=torch.randn(1, 3200))
    >>> network = TFMasker(channels=16, blocks=2, fusion_block=1).eval()
    >>> loss = DistillationLoss(network, teacher_weight=1.0, spectral_weight=0.0, max_db=40.0)
    >>> loss(network(batch), batch).item()
    -40.0
    """

    def __init__(self, teacher: str | nn.Module, teacher_weight: float = 0.5, **common: Any) -> None:
        super().__init__(**common)
        if not 0 <= teacher_weight <= 1:
            raise ValueError(f"teacher_weight must be from 0 to 1, got {teacher_weight}.")
        self.teacher = teacher if isinstance(teacher, nn.Module) else None
        self.folder = model_folder.find(teacher) if isinstance(teacher, str) else None
        self.teacher_weight = teacher_weight

    def distance(self, estimate: Estimate, batch: Batch) -> torch.Tensor:
        """See `SupervisedLoss.distance`."""
        loss = (1 - self.teacher_weight) * super().distance(estimate, batch)
        with torch.no_grad():
            if self.teacher is None:  # not while a recipe is built, as the teacher is built from a recipe
                assert self.folder is not None
                self.teacher = model.load(self.folder, batch.noisy.device).system
            taught = self.teacher.eval()(batch).speech.float()
        taught = torch.where(without_speech(clean_of(batch))[:, None], 0.0, taught)
        return loss + self.teacher_weight * super().distance(estimate, replace(batch, clean=taught))

"""The Brain of the supervised family: any network with a loss on mixtures made on the fly."""

from __future__ import annotations

from typing import Any

import torch
from speechbrain.core import Stage

from avse.contracts.types import Batch
from avse.training.brain import ScheduledBrain


class SupervisedBrain(ScheduledBrain):
    """Trains `modules.model` (an `Enhancer`, or any network that takes a `Batch`) with `hparams.loss`.

    Hyper-parameters
    ----------------
    loss : module (prediction, Batch) -> scalar
        With a method `scores(prediction, batch)` that returns a list of numbers by name for validation, and an
        attribute `compares_without_video`: whether validation also runs without the video.
    others
        See `ScheduledBrain`.
    """

    def compute_forward(self, batch: Batch, stage: Stage) -> tuple[Batch, list[Any]]:
        """Run the network; in validation also without the video, where the loss asks for it."""
        batch = batch.to(self.device)
        if stage == Stage.TRAIN:
            return batch, [self.modules.model(batch)]
        predictions = [self.averaged.module(batch)]
        if self.hparams.loss.compares_without_video and bool(batch.valid.any()):
            predictions.append(self.averaged.module(batch.without_video()))
        return batch, predictions

    def compute_objectives(self, predictions: tuple[Batch, list[Any]], batch: Batch, stage: Stage) -> torch.Tensor:
        """Mean of the recipe's loss over what `compute_forward` gave."""
        batch, results = predictions
        losses = [self.hparams.loss(result, batch) for result in results]
        if stage != Stage.TRAIN:
            for suffix, result in zip(("", "_without_video"), results):
                for name, values in self.hparams.loss.scores(result, batch).items():
                    self.scores.setdefault(name + suffix, []).extend(values)
                    for row, value in zip(batch.ids, values):
                        if corpus := getattr(self.hparams, "corpora", {}).get(row):
                            self.scores.setdefault(f"{name}{suffix}/{corpus}", []).append(value)
        return torch.stack(losses).mean()

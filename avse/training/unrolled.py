"""The Brain of unrolled inferences: trained on clean speech, on the evidence of noisy audio alone, or on both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from speechbrain.core import Stage

from avse.contracts.types import Batch, Estimate
from avse.errors import AvseError
from avse.training.losses import EnhancementLoss
from avse.training.supervised import SupervisedBrain

Layers = list[tuple[Estimate, torch.Tensor]]


class UnrolledLoss(EnhancementLoss):
    """Mean over layers of w_t [ supervised_weight D(s_t, s) + evidence_weight J_t ].

    D is the distance from clean speech (SI-SDR and spectra), and J_t the objective of the inference in nats per bin,
    which needs the noisy audio alone: the evidence bound of p(x), with its sign changed.

    Arguments
    ---------
    supervised_weight, evidence_weight : float
        One of them may be zero: unsupervised or supervised training.
    layer_weights : sequence of float
        w_t from the first layer on, up to a factor; the first of a shorter list stands for all layers before. (0, 1):
        the last layer alone.
    common :
        Further arguments: see `EnhancementLoss`.

    Example
    -------
    >>> clean = torch.randn(1, 3200)
    >>> batch = Batch(clean, torch.tensor([3200]), torch.zeros(1, 5, 88, 88), torch.zeros(1, 5), clean=clean)
    >>> layer = (Estimate(clean.clone(), clean, torch.zeros(1, 5), batch.lengths), torch.tensor([2.0]))
    >>> loss = UnrolledLoss(supervised_weight=0.0, evidence_weight=1.0)
    >>> loss.of_layers([layer, layer], batch).item()
    2.0
    """

    def __init__(
        self,
        supervised_weight: float = 1.0,
        evidence_weight: float = 0.0,
        layer_weights: Sequence[float] = (0.2, 1.0),
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.supervised_weight, self.evidence_weight = supervised_weight, evidence_weight
        self.layer_weights = tuple(layer_weights)

    def of_layers(self, layers: Layers, batch: Batch) -> torch.Tensor:
        """The loss of the layers that `LatentInference.layers` gives, a scalar."""
        missing = len(layers) - len(self.layer_weights)
        weights = (self.layer_weights[:1] * missing + self.layer_weights)[-len(layers) :]
        total = batch.noisy.new_zeros(())
        for weight, (estimate, objective) in zip(weights, layers):
            if weight and self.supervised_weight:
                total = total + weight * self.supervised_weight * self(estimate, batch)
            if weight and self.evidence_weight:
                total = total + weight * self.evidence_weight * objective.mean().to(total)
        return total / sum(weights)


class UnrolledBrain(SupervisedBrain):
    """Trains `modules.model`, an unrolled `LatentInference`, with an `UnrolledLoss`. What is not learned stays fixed.

    Hyper-parameters
    ----------------
    loss : UnrolledLoss
    checkpointing : bool, optional
        Whether layers are computed again in the backward pass, to save memory.
    others
        See `SupervisedBrain`.
    """

    def on_fit_start(self) -> None:
        """Refuse an inference that has nothing to learn."""
        model: Any = self.model
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise AvseError(f"{type(model).__name__} has nothing to learn: set model.unroll and model.learn.")
        model.checkpointing = bool(getattr(self.hparams, "checkpointing", False))
        super().on_fit_start()

    def compute_forward(self, batch: Batch, stage: Stage) -> tuple[Batch, list[Any]]:
        """All layers; in validation the estimate, also without the video."""
        if stage != Stage.TRAIN:
            return super().compute_forward(batch, stage)
        batch = batch.to(self.device)
        model: Any = self.model
        return batch, [list(model.layers(batch))]

    def compute_objectives(self, predictions: tuple[Batch, list[Any]], batch: Batch, stage: Stage) -> torch.Tensor:
        """The loss over layers; in validation the distance of the last one."""
        if stage != Stage.TRAIN:
            return super().compute_objectives(predictions, batch, stage)
        batch, [layers] = predictions
        loss: torch.Tensor = self.hparams.loss.of_layers(layers, batch)
        return loss

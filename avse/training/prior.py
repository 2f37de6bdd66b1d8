"""The Brain of priors, which learn from clean speech alone."""

from __future__ import annotations

import warnings

import torch
from speechbrain.core import Stage

from avse.contracts.prior import LatentPrior
from avse.contracts.types import Batch
from avse.training.brain import ScheduledBrain
from avse.training.losses import clean_of

# A unit is active if its posterior mean leaves the prior's by more than this share of the prior's variance (Burda et
# al., Importance weighted autoencoders, 2016, for a prior that is not standard normal).
_ACTIVE = 0.01


class PriorBrain(ScheduledBrain):
    """Trains `modules.model`, a `Prior`, on its own loss. A latent prior's use of its latent units is watched.

    Validation gives the loss with the video and without it; of a latent prior also `divergence` (nats per frame),
    `divergence_of_largest_unit`, `divergence_of_median_unit` and `active_units`, and it warns of posterior collapse.

    Hyper-parameters
    ----------------
    kl_warmup_steps : int, optional
        Steps over which the divergence gains its full weight, for a prior with an attribute `kl_weight`.
    others
        See `ScheduledBrain`.
    """

    def on_fit_batch_start(self, batch: Batch, should_step: bool) -> None:
        """Also set the weight of the divergence, a function of the step alone."""
        super().on_fit_batch_start(batch, should_step)
        if hasattr(self.model, "kl_weight"):
            steps = getattr(self.hparams, "kl_warmup_steps", 0)
            self.model.kl_weight = min(1.0, (self.optimizer_step + 1) / max(1, steps))

    def compute_forward(self, batch: Batch, stage: Stage) -> tuple[Batch, list[dict[str, torch.Tensor]]]:
        """The prior's loss and its terms; in validation also without the video."""
        batch = batch.to(self.device)
        if stage == Stage.TRAIN:
            return batch, [self.modules.model(batch)]
        prior = self.averaged.module
        results = [prior(batch)]
        if bool(batch.valid.any()):
            results.append(prior(batch.without_video()))
        if isinstance(prior, LatentPrior):
            self.usage.add(prior, batch)
        return batch, results

    def compute_objectives(
        self, predictions: tuple[Batch, list[dict[str, torch.Tensor]]], batch: Batch, stage: Stage
    ) -> torch.Tensor:
        """Mean of the losses that `compute_forward` gave."""
        _, results = predictions
        if stage != Stage.TRAIN:
            for suffix, terms in zip(("", "_without_video"), results):
                for name, value in terms.items():
                    if name + suffix != "loss":  # the name of the mean of all
                        self.scores.setdefault(name + suffix, []).append(value.item())
        return torch.stack([terms["loss"] for terms in results]).mean()

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        """Also begin to count what latent units are used for."""
        super().on_stage_start(stage, epoch)
        self.usage = UnitUsage()

    def validation_scores(self, epoch: int | None) -> dict[str, float]:
        """Also what latent units are used for; warns once the divergence has its full weight and hardly any is."""
        scores = super().validation_scores(epoch)
        if not self.usage.frames:
            return scores
        scores |= self.usage.scores()
        warm, units = getattr(self.model, "kl_weight", 1.0) >= 1.0, self.usage.units
        if warm and scores["active_units"] < max(1, units // 10):
            warnings.warn(
                f"Epoch {epoch}: posterior collapse. {scores['active_units']:.0f} of {units} latent units are used "
                f"({scores['divergence']:.2f} nats per frame), so the latent variables hold little of the speech. "
                "Raise --model.free_bits or --kl_warmup_steps, or lower --model.latent_dim or --optimizer.lr.",
                stacklevel=2,
            )
        return scores


class UnitUsage:
    """How much each latent unit of a prior holds of the speech, gathered batch by batch.

    Attributes
    ----------
    frames, units : int
        Frames counted so far, and units of the latent variables.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> from avse.priors.vae.vae import VAE
    >>> batch = example_batch()
    >>> batch.clean = batch.noisy
    >>> usage = UnitUsage()
    >>> usage.add(VAE(latent_dim=4, hidden_dim=8), batch)
    >>> sorted(usage.scores())
    ['active_units', 'divergence', 'divergence_of_largest_unit', 'divergence_of_median_unit']
    """

    def __init__(self) -> None:
        self.frames, self.units = 0, 0
        self.sums: dict[str, torch.Tensor] = {}

    def add(self, prior: LatentPrior, batch: Batch) -> None:
        """Count the frames of a batch with `clean`."""
        with torch.no_grad():
            context = prior.context(batch)
            posterior = prior.encode(prior.analyse(clean_of(batch)).abs().square(), context)
            expected = prior.prior(posterior.sample(), context)
            moved = (posterior.mean - expected.mean)[context.mask].double()
            gathered = {
                "divergence": posterior.divergence_by_unit(expected)[context.mask].double().sum(dim=0),
                "moved": moved.sum(dim=0),
                "moved_squared": moved.square().sum(dim=0),
                "variance": expected.log_variance[context.mask].double().exp().sum(dim=0),
            }
        self.frames += len(moved)
        self.units = moved.shape[1]
        self.sums = {name: value + self.sums.get(name, 0.0) for name, value in gathered.items()}

    def scores(self) -> dict[str, float]:
        """Divergence in nats per frame of all units, the largest and the median one; the number of active units."""
        mean = {name: value / self.frames for name, value in self.sums.items()}
        spread = mean["moved_squared"] - mean["moved"].square()
        return {
            "divergence": mean["divergence"].sum().item(),
            "divergence_of_largest_unit": mean["divergence"].max().item(),
            "divergence_of_median_unit": mean["divergence"].median().item(),
            "active_units": float((spread > _ACTIVE * mean["variance"]).sum()),
        }

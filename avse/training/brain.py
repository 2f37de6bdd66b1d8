"""What the Brains of all families share: schedule, averaged weights, exact resume, the best model, early stopping."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from speechbrain.core import Brain, Stage
from speechbrain.utils.distributed import run_on_main
from torch.optim.swa_utils import AveragedModel

from avse.contracts.types import Batch

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


class ScheduledBrain(Brain):
    """Trains `modules.model`; a subclass says what its loss is (`compute_forward`, `compute_objectives`).

    The learning rate rises over `warmup_steps` and falls on a cosine to `final_rate` of it at the last step.
    Validation uses an exponential moving average of the weights.

    Hyper-parameters
    ----------------
    epochs, steps_per_epoch, warmup_steps : int
    final_rate : float
        Learning rate of the last step, relative to the highest.
    ema_decay : float
        Highest decay of the average; after n updates it is at most (1 + n) / (10 + n), so that the initial weights are
        forgotten in a short run.
    choose_by : list of str, optional
        Scores whose mean chooses the best model: the highest; a name with a minus before it counts negative, such as
        `-nll`. Default: the lowest loss.
    corpora : dict of str to str, optional
        Corpus of each validation clip by its id; scores are then logged by corpus too.
    patience : int
        Epochs without improvement before training stops.
    mixtures : torch.utils.data.Dataset
        Of training, with `set_epoch`.
    logger : speechbrain.utils.train_logger.TrainLogger
    on_best : callable (model, scores: dict) -> None
        Called on the main process with the averaged model whenever validation improves.

    Attributes
    ----------
    scores : dict of str to list of float
        What a subclass collects in validation, by name; their means are logged.
    """

    interrupted: signal.Signals | None = None

    def on_fit_start(self) -> None:
        """Load the last checkpoint, and say where the run goes on."""
        super().on_fit_start()
        if self.optimizer_step:
            total = self.hparams.epochs * self.hparams.steps_per_epoch
            print(f"Going on after step {self.optimizer_step} of {total}.", flush=True)

    @contextmanager
    def saving_when_interrupted(self) -> Iterator[None]:
        """Let the first signal that ends the run save a checkpoint after this step or validation; not the second."""

        def note(number: int, _: Any) -> None:
            self.interrupted = signal.Signals(number)
            for one, handler in before.items():
                signal.signal(one, handler)
            print("Interrupted: this step, or this validation, is finished and saved first.", flush=True)

        before: dict[int, Any] = {}
        alone = threading.current_thread() is threading.main_thread() and not torch.distributed.is_initialized()
        for name in ("SIGINT", "SIGTERM", "SIGHUP") if alone else ():
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time: float, steps_since_ckpt: int) -> bool:
        return bool(self.interrupted) or super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)

    def _save_intra_epoch_ckpt(self) -> None:
        super()._save_intra_epoch_ckpt()
        self._stop_if_interrupted()

    def _stop_if_interrupted(self) -> None:
        if self.interrupted is not None:
            print(f"Saved after step {self.optimizer_step}.", flush=True)
            raise KeyboardInterrupt if self.interrupted == signal.SIGINT else SystemExit(128 + self.interrupted)

    def init_optimizers(self) -> None:
        """Set up the optimizer, the averaged weights and what a checkpoint holds."""
        super().init_optimizers()
        if isinstance(loss := getattr(self.hparams, "loss", None), torch.nn.Module):
            loss.to(self.device)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        average = averaging(self.hparams.ema_decay)
        self.averaged = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        for parameter in self.averaged.parameters():
            parameter.requires_grad_(False)
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("averaged", self.averaged)

    @property
    def model(self) -> torch.nn.Module:
        """The network, out of its distributed wrapper."""
        model = self.modules.model
        return getattr(model, "module", model)

    def on_fit_batch_start(self, batch: Batch, should_step: bool) -> None:
        """Set the learning rate and the random state, both functions of the step alone, so that resuming is exact."""
        torch.manual_seed(self.hparams.seed + 1_000_003 * (self.optimizer_step + 1) + getattr(self, "rank", 0))
        total = self.hparams.epochs * self.hparams.steps_per_epoch
        factor = learning_rate_factor(self.optimizer_step, self.hparams.warmup_steps, total, self.hparams.final_rate)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates):
            group["lr"] = rate * factor

    def on_fit_batch_end(self, batch: Batch, outputs: Any, loss: torch.Tensor, should_step: bool) -> None:
        """Follow the weights with their average."""
        if should_step:
            self.averaged.update_parameters(self.model)

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        """Choose the epoch's items; begin a validation's scores, with draws that are the same in every epoch."""
        self.scores: dict[str, list[float]] = {}
        if stage == Stage.TRAIN:
            self.hparams.mixtures.set_epoch(epoch)
            # Until the first update the average is the model itself.
            if self.optimizer_step == 0:
                self.averaged.module.load_state_dict(self.model.state_dict())
        if stage == Stage.VALID:
            self.averaged.eval()
            torch.manual_seed(self.hparams.seed)

    def exported(self) -> torch.nn.Module:
        """What `on_best` is given: the averaged model."""
        return self.averaged.module

    def validation_scores(self, epoch: int | None) -> dict[str, float]:
        """What a validation is summed up to: the mean of each of `scores` over the clips where it is a number."""
        numbers = {name: [value for value in values if not math.isnan(value)] for name, values in self.scores.items()}
        return {name: sum(values) / len(values) for name, values in numbers.items() if values}

    def on_stage_end(self, stage: Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Log, keep the latest and the best checkpoint, stop when nothing improves."""
        if stage == Stage.TRAIN:
            self.train_loss = stage_loss
            return
        scores = {"loss": float(stage_loss), **self.validation_scores(epoch)}
        chosen = [
            -scores[name[1:]] if name.startswith("-") else scores[name]
            for name in getattr(self.hparams, "choose_by", None) or ()
            if name.removeprefix("-") in scores
        ]
        scores["choice"] = -sum(chosen) / len(chosen) if chosen else scores["loss"]
        best = self.checkpointer.find_checkpoint(min_key="choice")
        improved = best is None or scores["choice"] < best.meta["choice"]
        self.hparams.logger.log_stats(
            {"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"]},
            train_stats={"loss": self.train_loss},
            valid_stats=scores,
        )
        self.checkpointer.save_and_keep_only(meta={"epoch": epoch, **scores}, min_keys=["choice"])
        if improved:
            run_on_main(self.hparams.on_best, args=[self.exported(), {"epoch": epoch, **scores}])
        elif epoch - best.meta["epoch"] >= self.hparams.patience:
            self.hparams.epoch_counter.current = self.hparams.epoch_counter.limit
        self._stop_if_interrupted()


def averaging(decay: float) -> Callable[[Tensors, Tensors, torch.Tensor | int], None]:
    """The function with which `AveragedModel` makes an exponential moving average that forgets the initial weights.

    >>> mean, update = [torch.zeros(1)], averaging(0.9)
    >>> update(mean, [torch.ones(1)], 5)
    >>> round(mean[0].item(), 3)  # 1 - 6 / 15
    0.6
    """

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, count: torch.Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    return update


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int, final_rate: float) -> float:
    """Linear warm-up to one, then a cosine to `final_rate`.

    >>> [round(learning_rate_factor(step, 10, 110, 0.1), 3) for step in (0, 9, 10, 60, 110)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final_rate + (1 - final_rate) * 0.5 * (1 + math.cos(math.pi * progress))

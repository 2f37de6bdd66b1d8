"""Kind `inference`: finds speech under a speech prior and a noise model."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Prior
from avse.contracts.system import System
from avse.contracts.types import Batch, Estimate

Progress = TypeVar("Progress")


class Inference(System):
    """Iterates from a batch to an estimate of speech; can be stopped after any iteration.

    A subclass implements `iterate`. An inference that is itself trained (unrolled) keeps gradients through `iterate`.
    Random numbers are drawn for each clip by itself and in the clip's own length, so that a batch gives what its clips
    give one by one.

    Arguments
    ---------
    prior : Prior
        The model of speech.
    noise_model : NoiseModel
        The model of noise.
    iterations : int
        Number of iterations.

    Attributes
    ----------
    accepts : tuple of type
        The families of `Prior` it works with.
    learnable : tuple of str
        Arguments that it may learn when it is unrolled; see `NoiseModel`.

    Raises
    ------
    ValueError
        If the prior is of another family, or there is no iteration.
    """

    accepts: tuple[type, ...] = (Prior,)
    learnable: ClassVar[tuple[str, ...]] = ()

    def __init__(self, prior: Prior, noise_model: NoiseModel, iterations: int = 100) -> None:
        super().__init__()
        if not isinstance(prior, self.accepts):
            families = " or ".join(family.__name__ for family in self.accepts)
            raise ValueError(f"{type(self).__name__} needs a {families}, got {type(prior).__name__}.")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}.")
        self.prior, self.noise_model, self.iterations = prior, noise_model, iterations

    def calibrate(self, scale: float, shift: float) -> None:
        self.prior.calibrate(scale, shift)

    @abstractmethod
    def iterate(self, batch: Batch) -> Iterator[Estimate]:
        """One `Estimate` after each iteration, each usable as it is.

        Yields
        ------
        Estimate
            With `trace`: the objective after every iteration so far.
        """

    def forward(self, batch: Batch, seconds: float | None = None) -> Estimate:
        """Iterate to the end, or until the time is up.

        Arguments
        ---------
        batch : Batch
        seconds : float, optional
            Stop after the first iteration that ends later than this.

        Returns
        -------
        Estimate
            As of an enhancer: `speech`, `noise` (batch, samples), `reliability` (batch, video_frames).
        """
        return latest_within(self.iterate(batch), seconds)


def latest_within(iterations: Iterable[Progress], seconds: float | None) -> Progress:
    """What the last iteration has left, or the first one that ends after so many seconds."""
    begin = time.perf_counter()
    for progress in iterations:
        latest = progress
        if seconds is not None and time.perf_counter() - begin > seconds:
            break
    return latest


@contextlib.contextmanager
def no_gradient(batch: Batch, recorded: bool = False) -> Iterator[None]:
    """Record no gradient, but leave tensors that can take part in one (unlike those of inference mode).

    Nor is anything done in 16 bits: variances and their squares differ by more than those resolve. `recorded`: record
    gradients all the same.
    """
    autocast = torch.autocast(batch.noisy.device.type, enabled=False)
    with torch.inference_mode(False), torch.set_grad_enabled(recorded), autocast:
        yield

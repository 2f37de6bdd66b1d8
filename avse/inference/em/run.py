"""A batch on its way through an inference with a latent prior: what is known of each clip, and when it stops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from avse.contracts.noise_model import State
from avse.contracts.prior import Prior
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.inference.em import model_selection
from avse.inference.em.state import LEAST_GAIN, Fit, SufficientStatistics
from avse.signal.stft import length_mask

_PATIENCE = 3  # iterations in a row with hardly a change, after which a clip stops
# Values of a tensor of the E-step up to which more clips at once are faster; beyond, they leave the processor's cache.
_CACHED = 2**19


@dataclass
class Run:
    """A batch under way: the fit of the clips that still run, and what was found of all."""

    fit: Fit
    state: State
    spectrum: torch.Tensor
    rows: torch.Tensor  # of the clips that still run
    trace: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        count, steps = self.fit.power.shape[:2]
        self.wiener = torch.zeros_like(self.fit.power)
        self.trusted = self.fit.power.new_zeros(count, steps)
        self.shares = self.fit.power.new_zeros(count, len(self.fit.states), steps)
        self.objective = self.fit.power.new_full((count,), torch.inf, dtype=torch.float64)
        self.calm = torch.zeros(count, dtype=torch.int64, device=self.rows.device)

    def note(self, found: SufficientStatistics, gain_prior: Sequence[float] | None) -> None:
        """Keep what an E-step found."""
        mask = self.fit.context.mask
        per_step = found.nll
        if gain_prior is not None:
            per_step = per_step + gain_cost(self.fit.gain, *gain_prior)
        total = torch.where(mask, per_step, per_step.new_zeros(())).sum(dim=1, dtype=torch.float64)
        objective = total / (mask.sum(dim=1) * self.fit.power.shape[2])
        self.change = (objective - self.objective[self.rows]).abs()
        self.objective[self.rows] = objective
        self.wiener[self.rows] = found.wiener
        self.trace.append(self.objective.mean().item())

    def drop_stopped(self, tolerance: float) -> torch.Tensor:
        """Leave the clips behind whose objective hardly changes any more; gives the places of the others before."""
        everything = torch.arange(len(self.rows), device=self.rows.device)
        if not tolerance:
            return everything
        self.calm[self.rows] = torch.where(self.change < tolerance, self.calm[self.rows] + 1, 0)
        going = self.calm[self.rows] < _PATIENCE
        if bool(going.all()):
            return everything
        self._trust()
        kept = going.nonzero()[:, 0]
        self.rows, self.fit = self.rows[kept], self.fit.select(kept)
        self.state = {name: value[kept] for name, value in self.state.items()}
        return kept

    def estimate(self, prior: Prior, batch: Batch) -> Estimate:
        """What is known so far."""
        with no_gradient(batch.noisy.device.type):
            self._trust()
            samples = batch.noisy.shape[1]
            noisy = batch.noisy.clone()
            speech = prior.synthesise(self.wiener * self.spectrum, samples) * length_mask(batch.lengths, samples)
            frames, ratio = batch.valid.shape[1], SAMPLES_PER_FRAME // prior.hop
            trusted = F.pad(self.trusted, (0, max(0, frames * ratio - self.trusted.shape[1])))[:, : frames * ratio]
            reliability = trusted.unflatten(1, (frames, ratio)).mean(dim=2)
            return Estimate(speech, noisy - speech, reliability, batch.lengths, trace=list(self.trace))

    def _trust(self) -> None:
        if len(self.rows):
            self.trusted[self.rows] = model_selection.trust(self.fit).to(self.trusted)
            if self.fit.states:
                self.shares[self.rows] = self.fit.latent["share"][..., 0].to(self.shares)


def row_groups(batch: Batch, values_per_step: int, hop: int) -> list[list[int]]:
    """Rows of a batch, clips of like length together, in groups that a processor runs fastest.

    Arguments
    ---------
    batch : Batch
    values_per_step : int
        Of the largest tensor, for each clip.
    hop : int
        Samples in a step.

    Returns
    -------
    list of list of int
        One group on a GPU.

    Example
    -------
    >>> lengths = torch.tensor([64000, 640, 64000, 640])
    >>> batch = Batch(torch.zeros(4, 64000), lengths, torch.zeros(4, 100, 88, 88), torch.zeros(4, 100))
    >>> row_groups(batch, 513, 320), row_groups(batch, 10 * 513, 320)
    ([[1, 3, 0, 2]], [[1, 3], [0], [2]])
    """
    lengths = batch.lengths.tolist()
    if batch.noisy.is_cuda:
        return [list(range(len(lengths)))]
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):  # the last of a group is its longest
        size = lengths[row] // hop * values_per_step
        if groups and (len(groups[-1]) + 1) * size <= _CACHED:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def together(groups: Sequence[tuple[list[int], Run]], prior: Prior, batch: Batch) -> Estimate:
    """The estimate of a batch whose rows run in groups."""
    found = [(rows, run.estimate(prior, batch.select(rows))) for rows, run in groups]
    [(rows, alone), *others] = found
    if not others and rows == list(range(len(batch))):
        return alone
    noisy = batch.noisy.clone()
    speech, reliability = torch.zeros_like(noisy), noisy.new_zeros(batch.valid.shape)
    iterations = max(len(estimate.trace) for _, estimate in found)
    trace = [0.0] * iterations
    for rows, estimate in found:
        speech[rows, : estimate.speech.shape[1]] = estimate.speech
        reliability[rows, : estimate.reliability.shape[1]] = estimate.reliability
        reached = estimate.trace + estimate.trace[-1:] * (iterations - len(estimate.trace))
        trace = [total + value * len(rows) / len(batch) for total, value in zip(trace, reached)]
    return Estimate(speech, noisy - speech, reliability, batch.lengths, trace=trace)


def gain_cost(gain: torch.Tensor, shape: float, rate: float) -> torch.Tensor:
    """-log p(g) of a Gamma prior, up to a constant: (batch, frames, 1) to (batch, frames)."""
    return (rate * gain - (shape - 1) * gain.clamp(min=LEAST_GAIN).log())[..., 0]


@contextlib.contextmanager
def no_gradient(device: str) -> Iterator[None]:
    """Record no gradient, but leave tensors that can take part in one (unlike those of inference mode).

    Nor is anything done in 16 bits: variances and their squares differ by more than those resolve.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
        yield

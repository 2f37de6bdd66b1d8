"""Inference `joint`: speech, noise and gains as the unknowns of one objective, which a solver brings down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior
from avse.contracts.types import Batch, Estimate
from avse.errors import AvseError
from avse.inference.em import steps
from avse.inference.em.driver import LatentInference, Progress
from avse.inference.em.state import EmState, SufficientStatistics
from avse.plugins import register
from avse.signal.random import clip_draws
from avse.signal.wiener import speech_variance

SOLVERS = ("block", "adam", "lbfgs", "proximal")
_FIRST, _SECOND, _TINY = 0.9, 0.99, 1e-30  # decay of Adam's moments; under a square root, for a finite gradient
_FALL = 1e-4  # of the objective, relative to what the gradient promises, for a step to be accepted
_FASTER, _SLOWER = 1.3, 0.4  # the step size after a step was accepted, and refused
_LEAST = 1e-20  # of what a logarithm is taken of
_LARGEST = 5.0  # change of an unknown in a step by L-BFGS or Anderson acceleration
_RIDGE = 1e-3  # of the least squares of Anderson acceleration, relative to their largest term


class Memory(NamedTuple):
    """What a solver knows of each clip: tensors with the batch first.

    `value`, `size` and `rounds` (batch, 1) are the objective, the step size and the iterations so far (of `proximal`
    since the momentum was given up);
    `gradient`, `first`, `second` (batch, unknowns) the gradient and Adam's moments, or place and change of the last
    iteration; `places` and `changes` (batch, history, unknowns) differences of the last places, and of the gradients
    (`lbfgs`) or of the steps (Anderson acceleration).
    """

    value: torch.Tensor
    gradient: torch.Tensor
    size: torch.Tensor
    rounds: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    places: torch.Tensor
    changes: torch.Tensor


@register("inference", "joint")
class Joint(LatentInference):
    """Minimises -log p(x, z, g | V) over z, the noise model's factors and the gains as one problem, all clips at once.

        J(z, log W, log H, log g) = sum_fn [ |x|^2 / Vx + log Vx ] - log p(z | v) - log p(g),   Vx = g S(z) + V(W, H)

    One iteration is one step of all unknowns; J never rises while there is backtracking. Each clip has a step size and
    a history of its own. J is that of `map`. `warm_start` iterations of EM with the encoder come before.

    Arguments
    ---------
    solver : str
        `block`: a step down the gradient of z, scaled by the encoder's variances, then the closed forms of noise and
        gains (`m_steps` of them). `adam` and `lbfgs`: all unknowns together, positive ones by their logarithms; the
        exponents of a noise model then do not count. `proximal`: these too, by accelerated proximal gradient; the
        prior of z is taken by its closed form, and the momentum is given up where J would rise.
    step_size : float
        Of all but `lbfgs`, to begin with.
    backtracking : int
        How often a step that would raise J is halved before it is given up; 0: any step is taken.
    anderson : int
        Iterations from which Anderson acceleration extrapolates, with `block`; what it proposes is taken where J is
        lower. 0: none.
    history : int
        Pairs that `lbfgs` keeps.
    restarts : int
        Chains of each clip, run side by side with noise models of their own: the first begins at the encoder's mean,
        the others at draws from its q(z). The chain whose J is lowest is the estimate.
    common :
        Further arguments: see `LatentInference`.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> trace = Joint.example()(example_batch((3200, 1600))).trace
    >>> all(later <= earlier for earlier, later in zip(trace, trace[1:]))
    True
    """

    accepts: tuple[type, ...] = (LatentPrior,)
    not_inherited = ("gate", "temperature", "transition_weight")
    learnable = ("prior_weight", "gain_prior", "start_variance", "step_size")
    uses_encoder = False
    paper = (
        "Walker and Ni, Anderson acceleration for fixed-point iterations, 2011; Liu and Nocedal, L-BFGS, 1989; "
        "Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm, 2009"
    )

    def __init__(
        self,
        prior: LatentPrior,
        noise_model: NoiseModel,
        *,
        solver: str = "block",
        step_size: float = 0.1,
        backtracking: int = 4,
        anderson: int = 0,
        history: int = 6,
        restarts: int = 1,
        m_steps: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, m_steps=m_steps, **common)
        if solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}.")
        if step_size <= 0 or min(backtracking, anderson) < 0 or min(history, restarts) < 1:
            raise ValueError(
                "step_size must be above 0, history and restarts at least 1, backtracking and anderson not negative, "
                f"got {step_size}, {history}, {restarts}, {backtracking} and {anderson}."
            )
        if anderson and solver != "block":
            raise ValueError(f"anderson accelerates the solver block, not {solver}.")
        self.solver, self.step_size, self.backtracking = solver, step_size, backtracking
        self.anderson, self.history, self.restarts = anderson, history, restarts

    def progress(self, batch: Batch, previous: Estimate | None = None) -> Iterator[Progress]:
        """See `LatentInference.progress`; of the best chain of each clip.

        Raises
        ------
        AvseError
            If there are several chains and the speakers of mixtures.
        """
        if self.restarts == 1:
            yield from super().progress(batch, previous)
            return
        if batch.mixture is not None:
            raise AvseError("inference.restarts: speakers of mixtures are found in one chain. Set it to 1.")
        rows = [row for row in range(len(batch)) for _ in range(self.restarts)]
        trace: list[float] = []
        for progress in super().progress(batch.select(rows), None if previous is None else previous.select(rows)):
            best = progress.objective.unflatten(0, (-1, self.restarts)).argmin(dim=1)
            chosen = progress.select(best + self.restarts * torch.arange(len(best), device=best.device))
            trace.append(chosen.objective.mean().item())
            chosen.trace = list(trace)
            yield chosen

    def begin(self, state: EmState) -> EmState:
        """The encoder's mean, and draws from its q(z) in all chains of a clip but the first."""
        state = super().begin(state)
        if self.restarts == 1:
            return state
        assert state.latent is not None and state.posterior is not None
        clips = torch.arange(len(state.power), device=state.power.device)
        chain = clips % self.restarts
        shape = (self.restarts, 1, state.latent.shape[-1])
        drawn = clip_draws(state.power, state.mask, state.generators, shape)[chain, clips]
        drawn = drawn * (chain > 0)[:, None, None, None]
        return replace(state, latent=state.latent + (0.5 * state.posterior.log_variance).exp() * drawn)

    def iteration(
        self, speakers: Sequence[EmState], warm: bool = False
    ) -> tuple[list[EmState], list[SufficientStatistics]]:
        """One step of all unknowns; see `LatentInference.iteration`. `warm`: one iteration of EM."""
        if warm:
            return super().iteration(speakers, warm=True)
        problem = _Problem(self, speakers)
        place = problem.place(speakers)
        memory = speakers[0].memory
        if not isinstance(memory, Memory):
            memory = self._begin(problem, place)
        if self.solver == "proximal":
            found, value, gradient, size, memory = self._proximal(problem, place, memory)
        else:
            direction, memory = self._direction(problem, memory)
            found, value, gradient, size = self._search(problem, place, direction, memory)
        if self.solver == "block":
            states = problem.states(found)
            for _ in range(self.m_steps):
                states, _ = steps.m_step(states, self.noise_model, self.gain_prior, self.chunk_frames)
            found = problem.place(states)
            value, gradient = problem.value(found)
        if self.anderson:
            memory, *better = self._extrapolate(problem, memory, place, found, value, gradient)
            found, value, gradient = better
        elif self.solver == "lbfgs":
            memory = _remember(memory, found - place, gradient - memory.gradient)
        memory = memory._replace(value=value, gradient=gradient, size=size, rounds=memory.rounds + 1)
        states = problem.states(found)
        states = steps.with_interference(states, [state.speech_variance for state in states], range(len(states)))
        statistics = [steps.sufficient_statistics(state, self.chunk_frames) for state in states]
        return [replace(state, memory=memory) for state in states], statistics

    def _begin(self, problem: _Problem, place: torch.Tensor) -> Memory:
        value, gradient = problem.value(place)
        zero, column = torch.zeros_like(place), torch.ones_like(place[:, :1])
        pairs = self.anderson or (self.history if self.solver == "lbfgs" else 0)
        past = place.new_zeros(len(place), pairs, place.shape[1])
        return Memory(value, gradient, column, torch.zeros_like(column), zero, zero, past, past)

    def _direction(self, problem: _Problem, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Where a step of size one goes, (batch, unknowns)."""
        gradient = memory.gradient
        if self.solver == "block":
            return -self.step_size * problem.scales * gradient, memory
        if self.solver == "lbfgs":
            return _lbfgs(memory), memory
        first = _FIRST * memory.first + (1 - _FIRST) * gradient
        second = _SECOND * memory.second + (1 - _SECOND) * gradient.square()
        count = memory.rounds + 1
        spread = (second / (1 - _SECOND**count) + _TINY).sqrt() + 1e-8
        return -self.step_size * first / (1 - _FIRST**count) / spread, memory._replace(first=first, second=second)

    def _search(
        self, problem: _Problem, place: torch.Tensor, direction: torch.Tensor, memory: Memory
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Place, value and gradient after a step, and the next step size; clips find theirs by themselves."""
        size = torch.ones_like(memory.size) if self.solver == "lbfgs" else memory.size
        if not self.backtracking:
            found = place + size * direction
            return found, *problem.value(found), size
        promised = (direction * memory.gradient).sum(dim=1, keepdim=True).clamp(max=0.0)
        best, value, gradient = place, memory.value, memory.gradient
        done = torch.zeros_like(size, dtype=torch.bool)
        for _ in range(self.backtracking + 1):
            trial = torch.where(done, best, place + size * direction)
            tried, its_gradient = problem.value(trial)
            falls = tried <= memory.value + _FALL * (size * promised if self.solver != "adam" else 0.0)
            accepted = falls & ~done
            best, gradient = torch.where(accepted, trial, best), torch.where(accepted, its_gradient, gradient)
            value, done = torch.where(accepted, tried, value), done | falls
            if bool(done.all()):
                break
            size = torch.where(done, size, _SLOWER * size)
        return best, value, gradient, torch.where(done, _FASTER * size, size).clamp(max=10.0)

    def _proximal(
        self, problem: _Problem, place: torch.Tensor, memory: Memory
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Memory]:
        """As `_search`, from a place beyond the last step; where J would rise from there, from the last place."""
        count = memory.rounds  # since the momentum was given up
        origin = place + count / (count + 3) * torch.where(count > 0, place - memory.first, 0)
        _, slope = problem.value(origin)
        size, best, value, gradient = memory.size, place, memory.value, memory.gradient
        done = torch.zeros_like(size, dtype=torch.bool)
        for attempt in range(self.backtracking + 1):
            trial = torch.where(done, best, problem.proximal_step(origin, slope, self.step_size * size))
            tried, its_gradient = problem.value(trial)
            falls = tried <= memory.value if self.backtracking else torch.ones_like(done)
            accepted = falls & ~done
            best, gradient = torch.where(accepted, trial, best), torch.where(accepted, its_gradient, gradient)
            value, done = torch.where(accepted, tried, value), done | falls
            if bool(done.all()):
                break
            if attempt == 0:
                origin, slope = torch.where(done, origin, place), torch.where(done, slope, memory.gradient)
                count = torch.where(done, count, -1.0)
            else:
                size = torch.where(done, size, _SLOWER * size)
        size = torch.where(done, _FASTER * size, size).clamp(max=10.0)
        return best, value, gradient, size, memory._replace(first=place, rounds=count)

    def _extrapolate(
        self,
        problem: _Problem,
        memory: Memory,
        place: torch.Tensor,
        found: torch.Tensor,
        value: torch.Tensor,
        gradient: torch.Tensor,
    ) -> tuple[Memory, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Anderson acceleration: the combination of past steps whose sum is least, and where it leads."""
        step = found - place
        begun = memory.rounds > 0
        if bool(begun.any()):
            last_place, last_step = memory.first, memory.second
            memory = _remember(
                memory, torch.where(begun, place - last_place, 0), torch.where(begun, step - last_step, 0)
            )
            products = memory.changes @ memory.changes.mT
            ridge = _RIDGE * products.diagonal(dim1=1, dim2=2).amax(dim=1)[:, None, None] + _TINY
            eye = torch.eye(products.shape[1], dtype=products.dtype, device=products.device)
            weights = torch.linalg.solve(products + ridge * eye, memory.changes @ step[..., None])
            change = (weights * (memory.places + memory.changes)).sum(dim=1).clamp(-_LARGEST, _LARGEST)
            there = found - change
            value_there, gradient_there = problem.value(there)
            lower = value_there < value
            found, gradient = torch.where(lower, there, found), torch.where(lower, gradient_there, gradient)
            value = torch.where(lower, value_there, value)
        return memory._replace(first=place, second=step), found, value, gradient


class _Problem:
    """The unknowns of speakers as one tensor (batch, unknowns), and the objective as its function.

    Attributes
    ----------
    scales : tensor, shape (batch, unknowns)
        The encoder's variances of z, and zero for all other unknowns.
    metric : tensor, shape (unknowns,)
        A step size for each unknown, relative to that of z: less, the more bins an unknown has a part in.
    """

    def __init__(self, inference: Joint, speakers: Sequence[EmState]) -> None:
        self.inference, self.speakers = inference, speakers
        self.state = speakers[0]
        names = inference.noise_model.fitted or tuple(self.state.noise_state)
        self.noise = {name: self.state.noise_state[name] for name in names if name in self.state.noise_state}
        widths = [cast(torch.Tensor, state.latent)[0].numel() for state in speakers]
        widths += [value[0].numel() for value in self.noise.values()]
        self.widths = widths + (
            [self.state.gain[0].numel()] * len(speakers) if inference.gain_prior is not None else []
        )
        scales = [state.posterior.log_variance.exp().flatten(1) for state in speakers if state.posterior is not None]
        fixed = [scales[0].new_zeros(len(scales[0]), width) for width in self.widths[len(scales) :]]
        self.scales = torch.cat([*scales, *fixed], dim=1)
        bins = self.state.power[0].numel()
        shares = [1.0] * len(speakers) + [width / bins for width in self.widths[len(speakers) :]]
        self.metric = torch.cat([self.scales.new_full((width,), share) for width, share in zip(self.widths, shares)])

    def place(self, speakers: Sequence[EmState]) -> torch.Tensor:
        """The unknowns of these states."""
        parts = [cast(torch.Tensor, state.latent) for state in speakers]
        for name in self.noise:
            value, mask = speakers[0].noise_state[name].clamp(min=_LEAST).log(), self.state.mask[..., None]
            # What the M-step leaves beyond a clip's end is no unknown of this clip.
            parts.append(torch.where(mask, value, 0.0) if value.shape[1] == mask.shape[1] else value)
        if self.inference.gain_prior is not None:
            parts += [state.gain.clamp(min=steps.LEAST_GAIN).log() for state in speakers]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def states(self, place: torch.Tensor) -> list[EmState]:
        """The states in which the unknowns are these."""
        parts = iter(place.split(self.widths, dim=1))
        latents = [next(parts).view_as(cast(torch.Tensor, state.latent)) for state in self.speakers]
        noise = {name: next(parts).exp().view_as(value) for name, value in self.noise.items()}
        noise_state = {**self.state.noise_state, **noise}
        variance = self.inference.noise_model.variance(noise_state)
        states = []
        for state, latent in zip(self.speakers, latents):
            gain = state.gain
            if self.inference.gain_prior is not None:
                gain = next(parts).exp().view_as(gain) * state.mask[..., None]
            state = replace(state, latent=latent, gain=gain, noise_state=noise_state, noise_variance=variance)
            cost = self.inference.prior_weight * steps.prior_cost(state, latent)
            state = replace(state, speech_variance=speech_variance(steps.decode(state, latent)), prior_cost=cost)
            states.append(replace(state, nll=None))
        return states

    def proximal_step(self, place: torch.Tensor, gradient: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        """argmin_u  (u - place) gradient' + |u - place|^2 / (2 size metric) - log p(z | v), clip by clip.

        gradient' is `gradient`, that of the objective, without the prior's part. With p(z | v) = N(m, 1 / P) and weight
        w, the part z of the result is (u' + size w P m) / (1 + size w P), where u' is the plain step.

        Arguments
        ---------
        place, gradient : tensor, shape (batch, unknowns)
        size : tensor, shape (batch, 1)
        """
        stepped = list((place - size * self.metric * gradient).split(self.widths, dim=1))
        for number, state in enumerate(self.speakers):
            if state.model.prior.dynamical:  # p(z | v) has no closed form
                continue
            latent = place.split(self.widths, dim=1)[number].view_as(cast(torch.Tensor, state.latent))
            expected = steps.prior_of(state, latent)
            inside = state.mask[:, None, :, None]
            precision = self.inference.prior_weight * (-expected.log_variance).exp() * inside
            scale = size[:, :, None, None]
            plain = stepped[number].view_as(latent) + scale * precision * (latent - expected.mean)
            stepped[number] = ((plain + scale * precision * expected.mean) / (1 + scale * precision)).flatten(1)
        return torch.cat(stepped, dim=1)

    def value(self, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The objective (batch, 1), in 64 bits, and its gradient (batch, unknowns)."""
        recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            if not (recorded and place.requires_grad):
                place = place.detach().requires_grad_()
            first, *others = states = self.states(place)
            variances = [state.speech_variance for state in states]
            first = steps.with_interference([first, *others], variances, [0])[0]
            by_frame = steps.negative_log_likelihood(first, cast(torch.Tensor, first.speech_variance))[:, 0]
            for state in states:
                by_frame = by_frame + cast(torch.Tensor, state.prior_cost)[:, 0, :, 0]
                if self.inference.gain_prior is not None:
                    by_frame = by_frame + steps.gain_cost(state.gain, *self.inference.gain_prior)
            total = torch.where(first.mask, by_frame, by_frame.new_zeros(())).sum(
                dim=1, keepdim=True, dtype=torch.float64
            )
            with steps.recurrent_backward(place):
                [gradient] = torch.autograd.grad(total.sum(), place, create_graph=recorded)
        return (total, gradient) if recorded else (total.detach(), gradient)


def _remember(memory: Memory, place: torch.Tensor, change: torch.Tensor) -> Memory:
    """The memory with one more pair in place of the oldest."""
    places, changes = ((past[:, 1:], new[:, None]) for past, new in ((memory.places, place), (memory.changes, change)))
    return memory._replace(places=torch.cat(places, dim=1), changes=torch.cat(changes, dim=1))


def _lbfgs(memory: Memory) -> torch.Tensor:
    """The direction of L-BFGS by its two loops; pairs without positive curvature count for nothing."""
    products = (memory.places * memory.changes).sum(dim=2)
    valid = products > 1e-10 * memory.changes.square().sum(dim=2)
    inverse = torch.where(valid, 1.0 / torch.where(valid, products, 1.0), 0.0)
    direction, weights = memory.gradient, []
    pairs = list(zip(memory.places.unbind(1), memory.changes.unbind(1), inverse.unbind(1), valid.unbind(1)))
    scale = 1.0 / memory.gradient.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
    for place, change, factor, _ in reversed(pairs):
        weight = factor[:, None] * (place * direction).sum(dim=1, keepdim=True)
        direction = direction - weight * change
        weights.append(weight)
    for _, change, factor, is_valid in pairs:
        curvature = 1.0 / (factor[:, None] * change.square().sum(dim=1, keepdim=True)).clamp(min=1e-12)
        scale = torch.where(is_valid[:, None], curvature, scale)
    direction = scale * direction
    for (place, change, factor, _), weight in zip(pairs, reversed(weights)):
        direction = direction + place * (weight - factor[:, None] * (change * direction).sum(dim=1, keepdim=True))
    direction = -direction.clamp(-_LARGEST, _LARGEST)
    downhill = (direction * memory.gradient).sum(dim=1, keepdim=True) < 0
    return torch.where(downhill, direction, -memory.gradient * scale)

"""The EM state: what an inference with latent priors knows of one speaker of its clips between two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch

from avse.contracts.noise_model import State
from avse.contracts.prior import Context, Gaussian, LatentPrior
from avse.signal.markov import MarkovChain

# Tensors of shape (batch, any, frames, any): one, those of a Gaussian, or those of a named tuple.
Drawn: TypeAlias = torch.Tensor | Gaussian | tuple[torch.Tensor, ...] | None
Value = TypeVar("Value")

_BY_FRAME = ("mask", "power", "gain", "noise_variance")
_FROM_E_STEP = (
    "posterior", "latent", "memory", "speech_variance", "prior_cost", "nll", "evidence", "responsibility", "chain_cost",
)  # fmt: skip
_DRAWN = (*_FROM_E_STEP, "previous", "interference", "heard", "started")


class Started(NamedTuple):
    """What an enhancer has found, s_0 = s + e with e ~ N_c(0, R): a second observation beside the noisy audio x.

    All of shape (batch, 1, frames, bins): `mask` s_0 / x, complex; `scale` |x| |s_0|, to which R is relative; and
    `variance` R.
    """

    mask: torch.Tensor
    scale: torch.Tensor
    variance: torch.Tensor


@dataclass
class SpeechModel:
    """A latent prior, and what it is told about the clips.

    Arguments
    ---------
    prior : LatentPrior
    context : Context
    fallback : int or None
        Where models compete: which other model takes its place at frames where `context` shows no mouth. None: it needs
        none.
    folded : dict of int to Context
        `context` for a number of draws of each clip, folded into the batch; filled when first needed.
    expected : Gaussian or None
        p(z | video) of a prior that is not dynamical, shape (batch, 1, frames, dim); filled when first needed.
    """

    prior: LatentPrior
    context: Context
    fallback: int | None = None
    folded: dict[int, Context] = field(default_factory=dict)
    expected: Gaussian | None = None

    @property
    def runs(self) -> bool:
        """False where no clip shows a mouth to a model that has a fallback."""
        return self.fallback is None or self.context.video is not None


@dataclass
class EmState:
    """What is known of one speaker of the clips that still run. Steps return new states and change none.

    Where several models of speech compete, the state stands for all of them together, and `models` holds that of each.

    Arguments
    ---------
    model : SpeechModel
        The prior with its context; where models compete, the first of them.
    power : tensor, shape (batch, frames, bins)
        |x|^2 of the noisy audio. Observed, as are the next two.
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end.
    generators : list of torch.Generator
        One for each clip.
    gain : tensor, shape (batch, frames, 1)
        Of the speech variance; zero beyond each clip's end. Fitted by the M-step, as are the next two.
    noise_state : State
        Of the noise model.
    noise_variance : tensor, shape (batch, frames, bins)
    previous : tensor, shape (batch, 1, frames, bins), or None
        Power of an earlier estimate of speech, from which the first E-step begins. None: from the noisy audio.
    posterior : Gaussian, shape (batch, 1, frames, dim), or None
        The encoder's q(z). Left by the E-step, as are the next five.
    latent : tensor, shape (batch, chains, frames, dim), or None
        z, in as many draws as there are chains.
    memory : named tuple of tensors, shape (batch, any, frames, any), or None
        What else an inference carries from one E-step to the next.
    speech_variance : tensor, shape (batch, draws, frames, bins), or None
        Of speech before the gain, for each draw that the M-step averages over.
    prior_cost : tensor, shape (batch, draws, frames, 1), or None
        What the prior adds to the objective.
    nll : tensor, shape (batch, draws, frames, 1), or None
        Negative log-likelihood of these draws, where the E-step has computed it.
    models : tuple of EmState
        Of the models that compete; empty where there is one.
    chain : MarkovChain or None
        How the models follow each other.
    evidence : tensor, shape (batch, models, frames, 1), or None
        How well each model explains each frame, in nats.
    responsibility : tensor, shape (batch, models, frames, 1), or None
        Posterior of each model.
    chain_cost : tensor, shape (batch, 1, frames, 1), or None
        What the choice of a model adds to the objective.
    rounds : int
        E-steps in which models competed.
    interference : tensor, shape (batch, draws, frames, bins), or None
        Variance of all other speakers together, for each draw. None: there is one speaker.
    heard : tensor, shape (batch, chains, frames, bins), or None
        Variance of this speaker at the chains' present place, which is interference to the other speakers.
    started : Started or None
        An enhancer's estimate, where it is observed beside the noisy audio.
    """

    model: SpeechModel
    power: torch.Tensor
    mask: torch.Tensor
    generators: list[torch.Generator]
    gain: torch.Tensor
    noise_state: State
    noise_variance: torch.Tensor
    previous: torch.Tensor | None = None
    posterior: Gaussian | None = None
    latent: torch.Tensor | None = None
    memory: tuple[torch.Tensor, ...] | None = None
    speech_variance: torch.Tensor | None = None
    prior_cost: torch.Tensor | None = None
    nll: torch.Tensor | None = None
    models: tuple[EmState, ...] = ()
    chain: MarkovChain | None = None
    evidence: torch.Tensor | None = None
    responsibility: torch.Tensor | None = None
    chain_cost: torch.Tensor | None = None
    rounds: int = 0
    interference: torch.Tensor | None = None
    heard: torch.Tensor | None = None
    started: Started | None = None

    def of_model(self, state: EmState) -> EmState:
        """The state of one of the models that compete, with the audio, gains and noise that belong to all."""
        return replace(
            state,
            power=self.power,
            gain=self.gain,
            noise_state=self.noise_state,
            noise_variance=self.noise_variance,
            interference=self.interference,
        )

    def select(self, rows: torch.Tensor) -> EmState:
        """The state of some of the clips."""

        def cut(value: torch.Tensor) -> torch.Tensor:
            return value[rows]

        state = self._cut(cut, cut, {})
        return state._for_clips(rows)

    def between(self, first: int, last: int) -> EmState:
        """The state at some of the frames, as views; that of the noise model stays whole."""
        return self._cut(lambda value: value[:, first:last], lambda value: value[:, :, first:last], {})

    def joined(self, parts: Iterable[tuple[torch.Tensor, slice, EmState]]) -> EmState:
        """This state with what E-steps have left in parts of it: rows and frames of each part, and its state."""
        count, frames = self.power.shape[:2]
        whole: dict[tuple[int, str], list[torch.Tensor]] = {}
        kind: dict[tuple[int, str], Drawn] = {}
        for rows, piece, part in parts:
            for number, state in enumerate((part, *part.models)):
                for name in _FROM_E_STEP:
                    value = getattr(state, name)
                    leaves = _leaves(value)
                    if (number, name) not in whole:
                        kind[number, name] = value
                        whole[number, name] = [
                            leaf.new_zeros(count, leaf.shape[1], frames, *leaf.shape[3:]) for leaf in leaves
                        ]
                    for total, leaf in zip(whole[number, name], leaves):
                        total[rows, :, piece] = leaf
        states = []
        for number, state in enumerate((self, *self.models)):
            values: dict[str, Any] = {name: _like(kind[number, name], whole[number, name]) for name in _FROM_E_STEP}
            states.append(replace(state, **values))
        return replace(states[0], models=tuple(states[1:]))

    def _for_clips(self, rows: torch.Tensor) -> EmState:
        return replace(
            self,
            generators=[self.generators[row] for row in rows.tolist()],
            noise_state={name: value[rows] for name, value in self.noise_state.items()},
            chain=None if self.chain is None else self.chain.select(rows),
            models=tuple(state._for_clips(rows) for state in self.models),
        )

    def _cut(
        self,
        by_frame: Callable[[torch.Tensor], torch.Tensor],
        drawn: Callable[[torch.Tensor], torch.Tensor],
        done: dict[int, object],
    ) -> EmState:
        """The state with functions applied to its tensors. `done` holds results, so that models go on sharing them."""

        def once(value: Value, function: Callable[[Value], Value]) -> Value:
            if id(value) not in done:
                done[id(value)] = function(value)
            return done[id(value)]  # type: ignore[return-value]

        context = once(self.model.context, lambda value: value.map(by_frame))
        values: dict[str, Any] = {name: once(getattr(self, name), by_frame) for name in _BY_FRAME}
        for name in _DRAWN:
            value = getattr(self, name)
            values[name] = _like(value, [once(leaf, drawn) for leaf in _leaves(value)])
        models = tuple(self.of_model(state)._cut(by_frame, drawn, done) for state in self.models)
        model = SpeechModel(self.model.prior, context, self.model.fallback)
        return replace(self, model=model, models=models, **values)


def _leaves(value: Drawn) -> list[torch.Tensor]:
    if value is None:
        return []
    if isinstance(value, torch.Tensor):
        return [value]
    return [value.mean, value.log_variance] if isinstance(value, Gaussian) else list(value)


def _like(value: Drawn, leaves: list[torch.Tensor]) -> Drawn:
    """A value of the same kind made of other tensors."""
    if value is None:
        return None
    return leaves[0] if isinstance(value, torch.Tensor) else type(value)(*leaves)


@dataclass
class SufficientStatistics:
    """What the M-step needs to know: means over draws of speech.

    Arguments
    ---------
    wiener : tensor, shape (batch, frames, bins)
        The Wiener filter; complex where an enhancer's estimate is observed too.
    numerator, denominator : tensor, shape (batch, frames, bins)
        The two parts of the objective's derivative with respect to the noise variance: see `NoiseModel`.
    gain_numerator, gain_denominator : tensor, shape (batch, frames, 1)
        The same with respect to the gain, times the gain.
    nll : tensor, shape (batch, frames)
        Negative log-likelihood of the noisy audio, summed over bins.
    prior_cost : tensor, shape (batch, frames)
        What the prior adds to the objective.
    """

    wiener: torch.Tensor
    numerator: torch.Tensor
    denominator: torch.Tensor
    gain_numerator: torch.Tensor
    gain_denominator: torch.Tensor
    nll: torch.Tensor
    prior_cost: torch.Tensor

    @classmethod
    def joined(
        cls, parts: Iterable[tuple[torch.Tensor, slice, SufficientStatistics]], count: int, frames: int
    ) -> SufficientStatistics:
        """Those of all clips and frames, from parts; see `EmState.joined`."""
        whole: dict[str, torch.Tensor] = {}
        for rows, piece, part in parts:
            for name, value in vars(part).items():
                if name not in whole:
                    whole[name] = value.new_zeros(count, frames, *value.shape[2:])
                whole[name][rows, piece] = value
        return cls(**whole)

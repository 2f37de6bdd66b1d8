"""Unrolled EM: iterations as layers of a network, whose numbers and whose beginning are learned.

    theta_t = theta_0 exp(20 c_t),   c_t = 0 before training: the layers are then the iterations of the plain inference

Layer t is an iteration with numbers theta_t (step sizes, exponents of the multiplicative updates, weights); each layer
leaves a Wiener filter, so that the estimate can be taken after any of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from avse.contracts.inference import Inference
from avse.contracts.noise_model import NoiseModel, State
from avse.inference.em.state import EmState

START = "start"  # the name under which networks that tell the beginning are learned
_PACE = 20.0  # Adam moves all parameters alike, and these numbers have further to go than the weights of a network
_UPDATES = 20  # of a noise model, after which it hardly changes

Value = float | Sequence[float]
Result = TypeVar("Result")


class LearnedValues(nn.Module):
    """Positive numbers as parameters: of all layers together, or of each by itself.

    Arguments
    ---------
    initial : dict of str to (float or sequence of float)
        Where learning begins.
    layers : int
    tied : bool
        Whether all layers have the same.

    Raises
    ------
    ValueError
        If a number is not positive.

    Example
    -------
    >>> values = LearnedValues({"step_size": 0.05, "gain_prior": (2.0, 1.0)}, layers=3, tied=False)
    >>> values.at(2)["step_size"].item(), [rate.item() for rate in values.at(0)["gain_prior"]]
    (0.05000000074505806, [2.0, 1.0])
    """

    def __init__(self, initial: Mapping[str, Value], layers: int, tied: bool) -> None:
        super().__init__()
        self.initial, self.tied = dict(initial), tied
        self.log_ratio = nn.ParameterDict()
        for name, value in self.initial.items():
            numbers = [value] if isinstance(value, (int, float)) else list(value)
            if not all(number > 0 for number in numbers):
                raise ValueError(f"learn: {name} is {value}, and only what is above zero can be learned.")
            self.log_ratio[name] = nn.Parameter(torch.zeros(1 if tied else layers, len(numbers)))

    def at(self, layer: int) -> dict[str, torch.Tensor | list[torch.Tensor]]:
        """The numbers of a layer, counted from zero: tensors without axes."""
        values: dict[str, torch.Tensor | list[torch.Tensor]] = {}
        for name, value in self.initial.items():
            ratios = (_PACE * self.log_ratio[name][0 if self.tied else layer]).exp()
            if isinstance(value, (int, float)):
                values[name] = value * ratios[0]
            else:
                values[name] = [number * ratio for number, ratio in zip(value, ratios)]
        return values


def learned_values(inference: Inference, layers: int, learn: Sequence[str], tied: bool) -> LearnedValues:
    """Those of an inference and its noise model that are named; see `LearnedValues`.

    Raises
    ------
    ValueError
        If there is nothing of a name, or it is not a positive number.
    """
    known: dict[str, nn.Module] = dict.fromkeys(inference.noise_model.learnable, inference.noise_model)
    known |= dict.fromkeys(inference.learnable, inference)
    initial = {}
    for name in learn:
        if name not in known:
            raise ValueError(f"learn: {name!r} is none of {', '.join([START, *sorted(known)])}.")
        initial[name] = getattr(known[name], name)
        if initial[name] is None:
            raise ValueError(f"learn: {name} is not set, so it cannot be learned. Give it a value.")
    return LearnedValues(initial, layers, tied)


Unrolled = TypeVar("Unrolled", bound=Inference)


def at_layer(inference: Unrolled, values: Mapping[str, torch.Tensor | list[torch.Tensor]]) -> Unrolled:
    """An inference with other numbers, of itself and of its noise model; it shares all modules with the first."""
    changed, noise_model = _shallow(inference), _shallow(inference.noise_model)
    for name, value in values.items():
        setattr(changed if name in inference.learnable else noise_model, name, value)
    changed.noise_model = noise_model
    return changed


def _shallow(module: Result) -> Result:
    copied = copy.copy(module)
    vars(copied)["_modules"] = dict(vars(module)["_modules"])
    return copied


def checkpointed(
    iteration: Callable[[Sequence[EmState]], Result], speakers: Sequence[EmState], recorded: bool
) -> Result:
    """The result of an iteration; in the backward pass it is done again, with the same random numbers, to save memory.

    `recorded` false: the iteration alone.
    """
    if not recorded:
        return iteration(speakers)
    states = [each for state in speakers for each in (state, *state.models)]
    generators = [generator for state in states for generator in state.generators]
    before = [generator.get_state() for generator in generators]
    done = False

    def run() -> Result:
        nonlocal done
        now = [generator.get_state() for generator in generators]
        for generator, state in zip(generators, before):
            generator.set_state(state)
        result = iteration(speakers)
        for generator, state in zip(generators, now if done else ()):
            generator.set_state(state)
        done = True
        return result

    return checkpoint(run, use_reentrant=False, preserve_rng_state=False)


def fitted(noise_model: NoiseModel, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None) -> State:
    """The state of a noise model, brought by its own updates to the power of noise that an enhancer has left.

    Arguments
    ---------
    noise_model : NoiseModel
    power : tensor, shape (batch, frames, bins)
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end.
    scene : tensor, shape (batch, scene_dim), or None
        What the noise model is told.
    """
    state = noise_model.initial_state(power, mask, scene)
    for _ in range(_UPDATES):
        state = noise_model.update_from_power(state, power, mask)
    return state

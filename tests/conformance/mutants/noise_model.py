"""Noise models with one fault each."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.noise_model import NoiseModel, ScoreNoiseModel
from mutants import Mutant, any_number

FLOOR = 1e-10


class TinyNMF(NoiseModel):
    """Two spectra and their gains, by multiplicative rules.

    Arguments
    ---------
    rank : int
    """

    def __init__(self, rank: int = 2) -> None:
        super().__init__()
        self.rank = rank

    def initial_state(self, power, mask, scene=None):
        """See `NoiseModel.initial_state`."""
        count = mask.sum(dim=1)[:, None, None]
        mean = (power * mask[..., None]).sum(dim=1, keepdim=True) / count + FLOOR
        tilt = torch.linspace(0.5, 1.5, self.rank, dtype=power.dtype, device=power.device)[None, :, None]
        gradient = torch.linspace(-1, 1, power.shape[2], dtype=power.dtype, device=power.device)
        return {"spectra": mean * tilt.pow(gradient), "gains": torch.ones_like(power[..., : self.rank]) / self.rank}

    def variance(self, state):
        """See `NoiseModel.variance`: shape (batch, frames, bins)."""
        return (state["gains"] @ state["spectra"]).clamp(min=FLOOR)

    def update(self, state, numerator, denominator):
        """See `NoiseModel.update`."""
        spectra, gains = state["spectra"], state["gains"]
        up, down = numerator @ spectra.mT, denominator @ spectra.mT
        gains = (gains * ((up + FLOOR) / (down + FLOOR)).sqrt()).clamp(min=FLOOR)
        up, down = gains.mT @ numerator, gains.mT @ denominator
        return {"spectra": (spectra * ((up + FLOOR) / (down + FLOOR)).sqrt()).clamp(min=FLOOR), "gains": gains}


class LearnedNMF(TinyNMF):
    """With a learned level at the start.

    Arguments
    ---------
    rank : int
    """

    def __init__(self, rank: int = 2) -> None:
        super().__init__(rank)
        self.level = nn.Parameter(torch.rand(self.rank))

    def initial_state(self, power, mask, scene=None):
        state = super().initial_state(power, mask, scene)
        return {**state, "gains": state["gains"] * (0.1 * self.level).exp()}


class TinyScore(TinyNMF, ScoreNoiseModel):
    """With the score of a Gaussian, that may be told how loud the noise is.

    Arguments
    ---------
    rank : int
    """

    scene_dim = 2
    bins = 321

    def initial_state(self, power, mask, scene=None):
        """See `NoiseModel.initial_state`."""
        state = super().initial_state(power, mask)
        return state if scene is None else {**state, "told": scene}

    def update(self, state, numerator, denominator):
        """See `NoiseModel.update`."""
        return {**state, **super().update(state, numerator, denominator)}

    def domain_of(self, noise, state):
        """See `ScoreNoiseModel.domain_of`: shape (batch, frames, bins)."""
        return noise / self.variance(state).sqrt()

    def noise_given(self, noisy, ratio, state, mask):
        """See `ScoreNoiseModel.noise_given`: both of shape (batch, frames, bins)."""
        variance, ratio = self.variance(state), ratio[:, None, None]
        if "told" in state:
            ratio = ratio * state["told"].sum(dim=1).exp()[:, None, None]
        left = 1 / (1 + ratio.square())
        return left * variance.sqrt() * noisy, (1 - left) * variance


mutants = Mutant("noise_model", TinyNMF, LearnedNMF, TinyScore)


@mutants("score")
class ForgetsTheDomain(TinyScore):
    def noise_given(self, noisy, ratio, state, mask):
        mean, variance = super().noise_given(noisy, ratio, state, mask)
        return mean / self.variance(state).sqrt(), variance


@mutants("score")
class LooksBeyondTheEnd(TinyScore):
    def noise_given(self, noisy, ratio, state, mask):
        mean, variance = super().noise_given(noisy, ratio, state, mask)
        return mean, variance * (1 + mask.double().mean(dim=1))[:, None, None].to(variance)


@mutants("score")
class IsToldByZeros(TinyScore):
    def noise_given(self, noisy, ratio, state, mask):
        mean, variance = super().noise_given(noisy, ratio, state, mask)
        return mean, variance * (1.1 if "told" in state else 1.0)


@mutants("documented")
class Undocumented(TinyNMF):
    pass


@mutants("shapes")
class KeepsANumber(TinyNMF):
    def initial_state(self, power, mask, scene=None):
        return {**super().initial_state(power, mask, scene), "rank": torch.tensor(2.0)}

    def update(self, state, numerator, denominator):
        return {**super().update(state, numerator, denominator), "rank": state["rank"]}


@mutants("fits")
class GrowsLouder(TinyNMF):
    def update(self, state, numerator, denominator):
        fresh = super().update(state, numerator, denominator)
        return {**fresh, "gains": 2.0 * fresh["gains"]}


@mutants("keeps_state", "unrolled")
class InPlace(TinyNMF):
    def update(self, state, numerator, denominator):
        fresh = super().update(state, numerator, denominator)
        state["gains"].copy_(fresh["gains"])
        return fresh


class WithFloor(TinyNMF):
    """With a floor of its own for each clip.

    Arguments
    ---------
    rank : int
    """

    def floor(self, power, mask):
        return 0.0

    def initial_state(self, power, mask, scene=None):
        floor = self.floor(power, mask) * torch.ones_like(power[:, :1, :1])
        return {**super().initial_state(power, mask, scene), "floor": floor}

    def variance(self, state):
        return super().variance(state) + state["floor"]

    def update(self, state, numerator, denominator):
        return {**super().update(state, numerator, denominator), "floor": state["floor"]}


@mutants("padding")
class CountsEmptySteps(WithFloor):
    def floor(self, power, mask):
        return 0.01 * (mask.shape[1] - mask.sum(dim=1).max())


class TinySpectrum(NoiseModel):
    """One spectrum, whose exact M-step forgets where it began.

    Arguments
    ---------
    rank : int
    """

    def __init__(self, rank: int = 2) -> None:
        super().__init__()

    def mean(self, power, mask):
        return (power * mask[..., None]).sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None] + FLOOR

    def initial_state(self, power, mask, scene=None):
        """See `NoiseModel.initial_state`."""
        return {"spectrum": self.mean(power, mask), "like": torch.ones_like(power[..., :1])}

    def variance(self, state):
        """See `NoiseModel.variance`: shape (batch, frames, bins)."""
        return state["spectrum"] * state["like"]

    def update(self, state, numerator, denominator):
        """See `NoiseModel.update`."""
        up, down = numerator.sum(dim=1, keepdim=True), denominator.sum(dim=1, keepdim=True)
        return {**state, "spectrum": state["spectrum"] * ((up + FLOOR) / (down + FLOOR)).sqrt()}

    def update_from_power(self, state, power, mask):
        return {**state, "spectrum": self.mean(power, mask)}


mutants.good = (*mutants.good, TinySpectrum)


@mutants("padding", "batch_equals_singles")
class BeginsWithoutTheMask(TinySpectrum):
    def initial_state(self, power, mask, scene=None):
        return super().initial_state(power, torch.ones_like(mask))


@mutants("padding")
class BeginsWithWhatIsBeyondTheEnd(TinySpectrum):
    def initial_state(self, power, mask, scene=None):
        mean = power.sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None] + FLOOR
        return {**super().initial_state(power, mask), "spectrum": mean}


@mutants("batch_equals_singles", "unrolled")
class CountsClips(WithFloor):
    def floor(self, power, mask):
        return 0.01 * len(power)


@mutants("gradients")
class IdleLayer(LearnedNMF):
    def __init__(self, rank: int = 2) -> None:
        super().__init__(rank)
        self.unused = nn.Linear(2, 2)


@mutants("precision", "unrolled")
class AlwaysSingle(TinyNMF):
    def variance(self, state):
        return super().variance(state).float()

    def update(self, state, numerator, denominator):
        like = state["gains"]
        return super().update(state, numerator.to(like), denominator.to(like))


@mutants("weights_round_trip")
class Forgets(LearnedNMF):
    def __init__(self, rank: int = 2) -> None:
        super().__init__(rank)
        self.register_buffer("tilt", torch.rand(rank), persistent=False)

    def initial_state(self, power, mask, scene=None):
        state = super().initial_state(power, mask, scene)
        return {**state, "gains": state["gains"] * self.tilt}


@mutants("repeatable")
class OwnSeed(TinyNMF):
    def __init__(self, rank: int = 2) -> None:
        super().__init__(rank)
        self.level = any_number()

    def initial_state(self, power, mask, scene=None):
        state = super().initial_state(power, mask, scene)
        return {**state, "gains": state["gains"] * self.level}


@mutants("recipe_round_trip")
class TakesAFunction(TinyNMF):
    """Two spectra and their gains, by multiplicative rules.

    Arguments
    ---------
    rank : int
    how : callable
    """

    def __init__(self, rank: int = 2, how=None) -> None:
        super().__init__(rank)

    @classmethod
    def example_arguments(cls):
        return {"how": torch.tanh}


@mutants("causal")
class WholeClip(TinyNMF):
    causal = True


@mutants("devices")
class MakesTensorsOnTheCPU(TinyNMF):
    def variance(self, state):
        return super().variance(state) * torch.ones(state["spectra"].shape[2], dtype=state["spectra"].dtype)


@mutants("hostile_input")
class Overflows(TinyNMF):
    def variance(self, state):
        variance = super().variance(state)
        return variance + (variance / 1e3).pow(12)


@mutants("complexity")
class ComparesAllSteps(TinyNMF):
    def variance(self, state):
        similar = state["gains"] @ state["gains"].mT
        return super().variance(state) + 0 * similar.mean(dim=2, keepdim=True)


@mutants("unrolled")
class LearnsNothing(TinyNMF):
    """With an exponent that is a number, also where it is to be learned.

    Arguments
    ---------
    rank : int
    exponent : float
    """

    learnable = ("exponent",)

    def __init__(self, rank: int = 2, exponent: float = 0.5) -> None:
        super().__init__(rank)
        self.exponent = exponent

    def update(self, state, numerator, denominator):
        fresh = super().update(state, numerator, denominator)
        return {name: state[name] * (fresh[name] / state[name]) ** (2 * float(self.exponent)) for name in fresh}

"""The loop that the published posterior samplings share, and the guidance step of most of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel, State
from avse.contracts.prior import ScorePrior
from avse.contracts.sampler import Sampler
from avse.inference.posterior_sampling.base import Draw, PosteriorSampling
from avse.signal.nmf import alternate
from avse.signal.random import clip_generators

_LEAST = 1e-10


class PublishedSampling(PosteriorSampling):
    """`PosteriorSampling` in the loop of the authors' code; each departure from it is an argument, false by default.

        start     x + std(1) z
        times     1 ... first_time, one for each of N moves of 1 / N: the last move leaves the first time. It adds no
                  noise, and the estimate is its state
        noise     gains and spectra of `nmf` uniform in [0, 1]; then `avse.signal.nmf.alternate`

    It is meant for `predictor_corrector`. With another sampler the moves end at the first time, as with `expected_end`.
    What remains of the prior, and not of the loop, is the transform, its compression and the level of the noisy audio,
    which the authors divide by its largest magnitude.

    Arguments
    ---------
    scaled_start : bool
        The start is scale(1) x + std(1) z, which is what a state at time 1 is, if x were speech.
    expected_end : bool
        The moves end at the first time, the last one with noise; the estimate is the speech that is expected there.
    own_fit : bool
        An `nmf` begins and is updated as by itself: from the mean spectrum, by updates of its own `exponent`. Other
        noise models always are; with `quantile` an `nmf` begins by itself.
    common :
        Further arguments: see `PosteriorSampling`.
    """

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        *,
        scaled_start: bool = False,
        expected_end: bool = False,
        own_fit: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, sampler, **common)
        self.scaled_start, self.expected_end, self.own_fit = scaled_start, expected_end, own_fit
        self.leaves = self.sampler.leaves and not expected_end

    def trajectory(self, like: torch.Tensor) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        if not self.leaves:
            return super().trajectory(like)
        steps = self.sampler.steps
        times = torch.linspace(1.0, self.prior.sde.first_time, steps, dtype=torch.float64).to(like.real)
        return [(time.expand(len(like)), (time - 1 / steps).expand(len(like))) for time in times]

    def first_state(self, start: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        if self.scaled_start:
            return super().first_state(start, noise)
        return start + self.prior.marginal(start.real.new_ones(len(start)))[1][:, None, None] * noise

    def first_noise(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None) -> State:
        state = super().first_noise(power, mask, scene)
        if self.quantile or not self._alternates(state):
            return state
        uniform = {name: torch.zeros_like(value) for name, value in state.items()}
        for row, generator in enumerate(clip_generators(mask, self.seed + 1)):
            count, rank = int(mask[row].sum()), state["spectra"].shape[1]
            spectra = torch.rand(rank, power.shape[2], generator=generator)
            gains = torch.rand(count, rank, generator=generator)
            uniform["spectra"][row], uniform["gains"][row, :count] = spectra.to(power), gains.to(power)
        return {name: value.clamp(min=_LEAST) for name, value in uniform.items()}

    def fit_noise(self, state: State, power: torch.Tensor, mask: torch.Tensor) -> State:
        if not self._alternates(state):
            return super().fit_noise(state, power, mask)
        gains, spectra = alternate(state["gains"], state["spectra"], power, mask)
        return {"gains": gains, "spectra": spectra}

    def _alternates(self, state: State) -> bool:
        return not self.own_fit and state.keys() == {"gains", "spectra"}


def guidance_step(
    state: torch.Tensor,
    draw: Draw,
    prior: ScorePrior,
    weight: float,
    *,
    noise: torch.Tensor | float = 0.0,
    variance: torch.Tensor | float,
    limited: bool = False,
) -> torch.Tensor:
    """A state, after the move, moved along the gradient of log p(x | state), with scale, std and g before the move.

        s + weight g^2 dt (1 / scale) (x - noise - s / scale) / ((std / scale)^2 + variance)

    The state is complex, of shape (rows, frames, bins). `noise` is the expected noise, where it is known, and
    `variance` that of the remaining noise. A `limited` step never leads beyond the noisy audio.
    """
    scale, std = (value[:, None, None] for value in prior.marginal(draw.time))
    diffusion = prior.sde.coefficients(draw.time)[1]
    size = (diffusion.square() * (draw.time - draw.following))[:, None, None]
    fraction = weight * size / scale.square() / ((std / scale).square() + variance)
    if limited:
        fraction = fraction.clamp(max=1.0)
    return state + fraction * (scale * (draw.noisy - noise) - state)


def speech_after(state: torch.Tensor, draw: Draw, prior: ScorePrior, scaled: bool = True) -> torch.Tensor:
    """(s + std^2 score) / scale, where s is the state after the move, and score, std and scale are those before it.

    By Tweedie's formula it would be the expected speech, were s the state that the score belongs to. The state and the
    result have the shape (rows, frames, bins). Without `scaled` the sum is not divided by the scale.
    """
    scale = prior.marginal(draw.time)[0][:, None, None]
    total = state + scale * draw.speech - draw.asked
    return total / scale if scaled else total

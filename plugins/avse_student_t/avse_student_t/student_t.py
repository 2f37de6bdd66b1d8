"""Noise model `student_t`: one spectrum with heavy tails, for clicks, knocks and keys."""

from __future__ import annotations

import math

import torch

from avse.contracts.noise_model import NoiseModel, State
from avse.plugins import register

_FLOOR = 1e-10
_DEGREES = (0.5, 200.0)  # of freedom, between which the fit searches; above them, Student's t is a Gaussian
_HALVINGS = 24


@register("noise_model", "student_t")
class StudentT(NoiseModel):
    """Noise of one spectrum whose power jumps: Student's t, as a Gaussian of random scale.

        n[t, f] | w[t, f] ~ N_c(0, scale[f] / w[t, f]),    w ~ Gamma(degrees / 2, degrees / 2)

    An impulse gets a small weight w, and so a large variance V = scale / w there, but does not change the spectrum of
    all other frames, which it would raise in a Gaussian model. With `tied`, all m bins of a frame share one weight (an
    impulse has energy at all frequencies); otherwise each has its own (m = 1). One update is EM with expanded
    parameters, given the power P of the noise:

        w[t]      = (degrees / 2 + m) / (degrees / 2 + sum_f P[t, f] / scale[f])
        scale[f]  = sum_t w[t] P[t, f] / sum_t w[t]
        w         = w / mean_t w

    with sums over the m bins and the frames of the clip. It never lowers the likelihood of Student's t where the noise
    itself is observed. In a mixture, P is the posterior power, which follows from the statistics of every inference:
    d objective / d V = denominator - numerator = 1 / V - P / V^2, hence P = V + V^2 (numerator - denominator). One
    update never lowers the variational bound whose q(w) is a Gamma.

    Arguments
    ---------
    degrees : float
        Degrees of freedom: 1 is Cauchy's distribution, and above about 30 it is Gaussian.
    tied : bool
        One weight for all bins of a frame.
    fit_degrees : bool
        Fit the degrees of freedom to the clip too, beginning with `degrees`.
    quantile : float
        The fit begins with this quantile of the clip's power over time, in (0, 1), as that of Gaussian noise.

    State: `scale` (batch, 1, bins), `weight` (batch, frames, 1 or bins), `degrees` (batch, 1, 1), and `mask`
    (batch, frames, 1), one in the clip and zero beyond its end.

    Example
    -------
    >>> power, mask = torch.rand(1, 50, 9), torch.ones(1, 50, dtype=torch.bool)
    >>> power[:, 20] *= 1000  # a click
    >>> model = StudentT()
    >>> state = model.initial_state(power, mask)
    >>> for _ in range(10):
    ...     state = model.update_from_power(state, power, mask)
    >>> bool(model.variance(state)[0, 20].min() > 50), bool(state["scale"].max() < 2)
    (True, True)
    """

    paper = "Yoshii, Itoyama and Goto, Student's t nonnegative matrix factorization, 2016"

    def __init__(
        self, degrees: float = 2.0, tied: bool = True, fit_degrees: bool = False, quantile: float = 0.3
    ) -> None:
        super().__init__()
        if degrees <= 0.0:
            raise ValueError(f"degrees must be above 0, got {degrees}.")
        if not 0.0 < quantile < 1.0:
            raise ValueError(f"quantile must be between 0 and 1, got {quantile}.")
        self.degrees, self.tied, self.fit_degrees, self.quantile = degrees, tied, fit_degrees, quantile

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """See `NoiseModel.initial_state`: all weights are one."""
        to_mean = -1.0 / math.log1p(-self.quantile)
        middle = [clip[frames].quantile(self.quantile, dim=0) for clip, frames in zip(power, mask)]
        scale = (to_mean * torch.stack(middle)[:, None]).clamp(min=_FLOOR)
        return {
            "scale": scale,
            "weight": torch.ones_like(power[..., :1] if self.tied else power),
            "degrees": torch.full_like(power[:, :1, :1], self.degrees),
            "mask": mask[..., None].to(power.dtype),
        }

    def variance(self, state: State) -> torch.Tensor:
        """See `NoiseModel.variance`: shape (batch, frames, bins)."""
        return (state["scale"] / state["weight"]).clamp(min=_FLOOR)

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        """See `NoiseModel.update`; shapes (batch, frames, bins)."""
        variance = self.variance(state)
        return self._step(state, variance * (1.0 + variance * (numerator - denominator)))

    def update_from_power(self, state: State, power: torch.Tensor, mask: torch.Tensor) -> State:
        """One step of EM from the power itself; shapes as in `NoiseModel.update_from_power`."""
        return self._step(state, power)

    def _step(self, state: State, power: torch.Tensor) -> State:
        mask, half = state["mask"], state["degrees"] / 2
        power = torch.where(mask > 0, power.clamp(min=0.0), power.new_zeros(()))
        relative = power / state["scale"]
        if self.tied:
            relative = relative.sum(dim=2, keepdim=True)
        bins = power.shape[2] if self.tied else 1
        weight, rate = (half + bins) / (half + relative), half + relative
        scale = (mask * weight * power).sum(dim=1, keepdim=True) / (mask * weight).sum(dim=1, keepdim=True)
        mean = (mask * weight).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
        degrees = state["degrees"]
        if self.fit_degrees:
            # E[log w] - E[w] of the weights, whose mean is brought to one.
            surprise = torch.digamma(half + bins) - rate.log() - mean.log() - weight / mean
            degrees = _fit_degrees((mask * surprise).mean(dim=2).sum(dim=1) / mask[..., 0].sum(dim=1))
        return {"scale": scale.clamp(min=_FLOOR), "weight": weight / mean, "degrees": degrees, "mask": mask}


def _fit_degrees(surprise: torch.Tensor) -> torch.Tensor:
    """Degrees at which log(d / 2) - digamma(d / 2) + 1 + surprise is zero; (batch,) to (batch, 1, 1).

    By bisection, then a step of Newton's method, whose gradient is that of the root.
    """
    low, high = bounds = [torch.full_like(surprise, math.log(bound / 2)) for bound in _DEGREES]
    with torch.no_grad():
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = middle - torch.digamma(middle.exp()) + 1.0 + surprise > 0  # falls with the degrees
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        middle = (low + high) / 2
        slope = 1.0 - middle.exp() * torch.special.polygamma(1, middle.exp())
    root = middle - (middle - torch.digamma(middle.exp()) + 1.0 + surprise) / slope
    return 2.0 * root.clamp(*bounds).exp()[:, None, None]

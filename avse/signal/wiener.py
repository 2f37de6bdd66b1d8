"""Speech and noise as complex Gaussians that add up: the Wiener filter and what an EM needs of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

# Variances stay where their squares and reciprocals are finite in 32 bits.
_LOWEST, _HIGHEST = 1e-15, 1e15
_LEAST_SQUARE = 1e-30  # under a square root, for a finite gradient where a gain is zero


def speech_variance(log_variance: torch.Tensor) -> torch.Tensor:
    """exp, kept where squares and reciprocals are finite in 32 bits; of the shape of its argument.

    >>> speech_variance(torch.tensor([0.0, 1e4])).log10().tolist()
    [0.0, 15.0]
    """
    return log_variance.clamp(math.log(_LOWEST), math.log(_HIGHEST)).exp_()


@dataclass
class Mixture:
    """x = s + n with s ~ N_c(0, S), n ~ N_c(0, V), for each bin; all of one shape.

    Arguments
    ---------
    wiener : tensor
        S / (S + V), the Wiener filter.
    precision : tensor
        1 / (S + V).
    ratio : tensor
        |x|^2 / (S + V), about one where the model fits.

    Example
    -------
    >>> one = Mixture.of(torch.ones(3), torch.ones(1), torch.ones(3), torch.full((3,), 4.0))
    >>> one.wiener.tolist(), one.ratio.tolist()
    ([0.5, 0.5, 0.5], [2.0, 2.0, 2.0])
    """

    wiener: torch.Tensor
    precision: torch.Tensor
    ratio: torch.Tensor

    @classmethod
    def of(cls, speech: torch.Tensor, gain: torch.Tensor, noise: torch.Tensor, power: torch.Tensor) -> Mixture:
        """The mixture with S = gain * speech.

        Arguments
        ---------
        speech : tensor, shape (..., frames, bins)
            Variance of speech, as `speech_variance` gives it.
        gain, noise, power : tensor
            Broadcast against it: gain (not negative), V (positive) and |x|^2.
        """
        # In place on new tensors: every iteration of every inference calls this, and memory bounds its speed.
        wiener = speech * gain
        precision = (wiener + noise).reciprocal_()
        wiener.mul_(precision)
        return cls(wiener, precision, power * precision)

    def nll(self) -> torch.Tensor:
        """|x|^2 / (S + V) + log(S + V), summed over bins: the negative log-likelihood up to a constant."""
        return (self.ratio - self.precision.log()).sum(dim=-1)

    def gradient(self) -> torch.Tensor:
        """Derivative of `nll` with respect to log S, of the shape of the mixture."""
        return torch.addcmul(self.wiener, self.wiener, self.ratio, value=-1.0)


def gain_update(
    gain: torch.Tensor,
    numerator: torch.Tensor,
    denominator: torch.Tensor,
    shape: float | torch.Tensor = 1.0,
    rate: float | torch.Tensor = 0.0,
) -> torch.Tensor:
    """One update of a gain of the speech variance under a Gamma prior, by minimising a majorant of the objective.

    For gain g the majorant is a / g + b g + rate g - (shape - 1) log g with a = `gain numerator`, b = `denominator /
    gain`; without the prior this is the multiplicative rule with exponent one half.

    Arguments
    ---------
    gain : tensor
    numerator, denominator : tensor
        The two parts of the derivative of the negative log-likelihood with respect to the gain, times the gain.
    shape, rate : float, or tensor without axes
        Of the prior: `shape` at least 1, `rate` not negative. (1, 0): no prior.

    Returns
    -------
    tensor, like `gain`

    Example
    -------
    >>> gain_update(torch.ones(1), torch.tensor([8.0]), torch.tensor([2.0])).item()
    2.0
    """
    pull = shape - 1.0
    linear = denominator / gain.clamp(min=1e-10) + rate
    return (pull + (pull * pull + 4.0 * gain * numerator * linear + _LEAST_SQUARE).sqrt()) / (2.0 * linear + 1e-30)


def geometric_mean_power(mixture: Mixture, power: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """exp(E log |s|^2) under the posterior of speech, whose mean is w x and whose variance is w V.

    The logarithm of a non-central chi-square variable has mean log K + E1(K) with K = |mean|^2 / variance; K exp(E1(K))
    is taken as K + exp(-0.577 - 0.83 K), which is within 1 %. E |s|^2, with the variance in place of that, is up to
    2.5 dB louder than the spectra that an encoder, which takes logarithms, was trained on.

    Arguments
    ---------
    mixture : Mixture
    power, noise : tensor
        |x|^2 and V; broadcast against it.

    Returns
    -------
    tensor

    Example
    -------
    >>> half = Mixture.of(torch.tensor(2.0), torch.tensor(1.0), torch.tensor(2.0), torch.tensor(0.0))
    >>> geometric_mean_power(half, torch.tensor(0.0), torch.tensor(2.0)).item()
    0.561...
    """
    variance = mixture.wiener * noise
    mean = mixture.wiener.square() * power
    certainty = (mean / variance.clamp(min=1e-30)).clamp_(max=80.0)
    return mean + variance * certainty.mul_(-0.83).sub_(0.577216).exp_()

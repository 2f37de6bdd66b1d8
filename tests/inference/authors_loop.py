"""The published posterior samplings for Gaussian speech, written from the papers and the authors' loops, in 64 bits.

The loop adds, subtracts and scales only, so it runs on numbers (one draw) as well as on the coefficients of independent
random variables (the exact distribution of all draws): what differs is how noise is drawn and power is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

THETA, STD_MIN, STD_MAX, FIRST, SNR = 1.5, 0.05, 0.5, 0.03, 0.5
Array = np.ndarray


def marginal(t: float) -> tuple[float, float]:
    """mu and sigma of the Ornstein-Uhlenbeck equation with exploding variance."""
    rate = np.log(STD_MAX / STD_MIN)
    variance = STD_MIN**2 * np.exp(-2 * THETA * t) * (np.exp(2 * (THETA + rate) * t) - 1) * rate / (THETA + rate)
    return float(np.exp(-THETA * t)), float(np.sqrt(variance))


def authors_loop(
    kind: str,
    x: Array,
    speech_power: Array,
    variance: Array,
    draw: Callable[[], Array],
    power: Callable[[Array], Array],
    fit: Callable[[Array], Array],
    moves: int = 30,
    passes: int = 5,
) -> Iterator[tuple[Array, Array]]:
    """State and variance of the noise after each move, the variance before any update that opens the next move.

    `kind` is the name of the inference, `draw` gives white noise, `power` E |n|^2 of a residual, `fit` the variance
    of the noise after an update.
    """
    dt = 1 / moves
    for number in range(passes if kind == "udiffse" else 1):
        s = x + marginal(1.0)[1] * draw()
        estimate = s
        for i in range(moves):
            t = 1.0 + (FIRST - 1.0) * i / (moves - 1)
            mu, sigma = marginal(t)
            g2 = (STD_MIN * (STD_MAX / STD_MIN) ** t) ** 2 * 2 * np.log(STD_MAX / STD_MIN)
            if kind == "udiffse_plus" and i % 2 == 0:
                variance = fit(power(x - estimate))
            precision = 1 / (mu**2 * speech_power + sigma**2)
            s = s - (SNR * sigma) ** 2 * precision * s + np.sqrt(2) * SNR * sigma * draw()
            score, last = -precision * s, i == moves - 1
            tweedie = (s + sigma**2 * score) / mu
            s = s + THETA * s * dt + g2 * score * dt
            if kind == "posterior_sampling_lambda_free":
                after, sigma_after = marginal(max(t - dt, 0.0))
                p, r = g2 * dt, after**2 * variance + sigma_after**2
                s = (r * s + p * after * x) / (r + p)
                s = s if last else s + np.sqrt(p * r / (r + p)) * draw()
                variance = fit(power(x - tweedie))
            else:
                s = s if last else s + np.sqrt(g2 * dt) * draw()
            if kind == "posterior_sampling_noise_latent":
                width = 5e-4
                vx = (sigma / mu) ** 2 + width
                n = variance / (variance + vx) * (x - (s + sigma**2 * score) / mu)
                s = s + 1.75 * g2 * dt / mu * (x - s / mu - n) / ((sigma / mu) ** 2 + width)
                variance = fit(power(n) + variance * vx / (variance + vx))
            elif i % 2 == 0 and (kind == "udiffse_plus" or (kind == "udiffse" and number > 0)):
                s = s + 1.5 * g2 * dt / mu * (x - s / mu) / ((sigma / mu) ** 2 + variance)
                estimate = s + sigma**2 * score
            if kind == "udiffse" and last:
                variance = fit(power(x - s))
            yield s, variance


def nmf_update(w: Array, h: Array, power: Array) -> tuple[Array, Array]:
    """Spectra w (bins, rank) and activations h (rank, frames) after one update to a power (bins, frames)."""
    v = w @ h
    w = np.maximum(w * ((power / v**2) @ h.T) / ((1 / v) @ h.T), 1e-10)
    v = w @ h
    h = np.maximum(h * (w.T @ (power / v**2)) / (w.T @ (1 / v)), 1e-10)
    level = w.sum(axis=0)
    return w / level, h * level[:, None]

"""Teaches the network of the noise model `conditioned_score` how noise differs from a Gaussian of the variance V."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from avse.contracts.noise_model import ScoreNoiseModel, State
from avse.contracts.sde import Sde
from avse.training.noise_estimator import Told, draw_mixtures
from avse.training.steps import learn


def learn_noise_score(
    noise_model: ScoreNoiseModel,
    network: torch.nn.Module,
    sde: Sde,
    speech: Sequence[np.ndarray],
    noise: Sequence[np.ndarray],
    scenes: Sequence[torch.Tensor],
    *,
    hop: int = 320,
    steps: int = 2600,
    batch_size: int = 4,
    draws: int = 2,
    rate: float = 2e-3,
    snr: tuple[float, float] = (-10.0, 6.0),
    simulated: float = 0.15,
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> list[float]:
    """Denoising score matching under a likelihood: the state, and so V, is that which the noisy audio gives.

        loss = mean (|n - E|^2 / C + log C),   E, C the mean and variance of the noise given y = domain_of(n) + r z

    relative to V. The minimum over E is the conditional mean whatever C is; so the few bins in which noise is far above
    V do not outweigh all others. r is that of times which are spread evenly.

    Arguments
    ---------
    noise_model : ScoreNoiseModel
        Whose `noise_given` uses the network.
    network : nn.Module
        Is changed.
    sde : Sde
        The equation of the prior beside which the score will be used.
    speech, noise, scenes, snr, simulated :
        See `learn_noise_estimator`.
    hop : int
        Of the transform, in samples.
    steps, batch_size : int
    draws : int
        Of r for each clip of a step.
    rate : float
        Of learning, at its highest.
    seed : int
    checkpoint : path, optional
        See `avse.training.steps.learn`.

    Returns
    -------
    list of float
        The loss at each step.
    """
    transform = (2 * (noise_model.score_bins - 1), hop)

    def loss_of(rng: np.random.Generator, step: int) -> torch.Tensor:
        clean, loud, recordings = draw_mixtures(transform, speech, noise, batch_size, snr, simulated, rng)
        mask = torch.ones(loud.shape[:2], dtype=torch.bool)
        with torch.no_grad():
            scene = Told.draw(scenes, recordings, rng).scene
            state = noise_model.initial_state((clean + loud).abs().square(), mask, scene)
            state = {name: value.repeat(draws, *[1] * (value.ndim - 1)) for name, value in state.items()}
        loud, rows = loud.repeat(draws, 1, 1), draws * batch_size
        part = (torch.randperm(rows) + torch.rand(rows)) / rows
        ratio = sde.ratio(sde.first_time + (1 - sde.first_time) * part)
        with torch.autocast("cpu", torch.bfloat16):
            return noise_nll(noise_model, loud, state, ratio, torch.randn_like(loud))

    return learn(network, loss_of, steps=steps, rate=rate, seed=seed, checkpoint=checkpoint)


def noise_nll(
    noise_model: ScoreNoiseModel, noise: torch.Tensor, state: State, ratio: torch.Tensor, white: torch.Tensor
) -> torch.Tensor:
    """The loss of `learn_noise_score`, a scalar, for draws of its noise levels and of its white noise.

    Arguments
    ---------
    noise, white : tensor, shape (batch, frames, bins), complex
    state : State
    ratio : tensor, shape (batch,)
    """
    mask = torch.ones(noise.shape[:2], dtype=torch.bool, device=noise.device)
    noisy = noise_model.domain_of(noise, state) + ratio[:, None, None] * white
    mean, variance = noise_model.noise_given(noisy, ratio, state, mask)
    error = (noise - mean).abs().square() / variance
    return (error + (variance / noise_model.variance(state)).log()).mean()

"""Teaches the network of the noise model `conditioned_vae` what noise is like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from avse.nnet.noise_vae import NoiseVAE
from avse.noise_models.described import DescribedNoise
from avse.training.noise_estimator import Told, draw_mixtures
from avse.training.steps import learn

_SILENT = 1e-6  # of power, relative to the mean of the clip
_ANNEALED = 0.3  # of the steps, over which the divergence comes in


def learn_noise_vae(
    network: NoiseVAE,
    describer: DescribedNoise,
    speech: Sequence[np.ndarray],
    noise: Sequence[np.ndarray],
    scenes: Sequence[torch.Tensor],
    *,
    steps: int = 1200,
    batch_size: int = 8,
    rate: float = 3e-3,
    snr: tuple[float, float] = (-10.0, 6.0),
    simulated: float = 0.15,
    encoder_dropout: float = 0.5,
    transform: tuple[int, int] = (1024, 256),
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> list[float]:
    """Train by the evidence lower bound, in nats a bin, E_q[|n|^2 / V + log V] + w KL(q(z | V_0, e), p(z | e)).

    V_0 is what the describer expects of the noise in the noisy audio. w grows from 0 to 1 over the first 0.3 of the
    steps. The encoder is told less often than decoder and prior: what it hears of the scene by itself is then what the
    prior has to say of it.

    Arguments
    ---------
    network : NoiseVAE
        Is changed.
    describer : DescribedNoise
        Expects V_0 and reads scenes, as in `conditioned_vae`.
    speech, noise, scenes, snr, simulated :
        See `learn_noise_estimator`.
    steps, batch_size : int
    rate : float
        Of learning, at its highest.
    encoder_dropout : float
        Share of clips whose encoder is told nothing.
    transform : (int, int)
        Size and hop, in samples.
    seed : int
    checkpoint : path, optional
        See `avse.training.steps.learn`.

    Returns
    -------
    list of float
        The loss at each step.
    """

    def loss_of(rng: np.random.Generator, step: int) -> torch.Tensor:
        clean, loud, recordings = draw_mixtures(transform, speech, noise, batch_size, snr, simulated, rng)
        power, mask = loud.abs().square(), torch.ones(loud.shape[:2], dtype=torch.bool)
        with torch.no_grad():
            scene = Told.draw(scenes, recordings, rng).scene
            expected, trust = describer.expected((clean + loud).abs().square(), mask, scene)
            told = describer.code(scene, trust["trust"])
        heard = told * (torch.rand(batch_size, 1) >= encoder_dropout)
        return negative_bound(network, power, expected, told, heard, min(1.0, (step + 1) / (_ANNEALED * steps)))

    return learn(network, loss_of, steps=steps, rate=rate, seed=seed, checkpoint=checkpoint)


def negative_bound(
    network: NoiseVAE,
    power: torch.Tensor,
    expected: torch.Tensor,
    told: torch.Tensor,
    heard: torch.Tensor,
    weight: float = 1.0,
) -> torch.Tensor:
    """Less the evidence lower bound, in nats a bin up to a constant: a scalar.

    Arguments
    ---------
    network : NoiseVAE
    power, expected : tensor, shape (batch, frames, bins)
        Of noise, and what the encoder is given of it.
    told, heard : tensor, shape (batch, scene_dim)
        The scene for decoder and prior, and for the encoder.
    weight : float
        Of the divergence.
    """
    count, frames, bins = power.shape
    mask = torch.ones(count, frames, dtype=torch.bool)
    posterior, prior = network.encode(expected, mask, heard), network.prior(told, count)
    log_variance = network.decode(posterior.sample(), network.told(told, count), bins)
    relative = power / network.level(power, mask) + _SILENT
    nll = relative * (-log_variance).exp() + log_variance
    return nll.mean() + weight * posterior.divergence(prior).mean() / bins

"""Teaches the network of the noise model `prior_nmf` what noise looks like under speech."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from avse.contracts.prior import Context, LatentPrior
from avse.data.noises import cut_or_loop
from avse.nnet.noise_estimator import NoiseEstimator, SceneNoiseEstimator
from avse.priors.vae.noisy_speech_encoder import draw_noise
from avse.signal.levels import level_scale
from avse.signal.scenes import combined
from avse.signal.stft import istft, stft
from avse.signal.wiener import speech_variance
from avse.training.steps import learn

_SAMPLES = (19200, 24000, 32000, 40000)  # of the clips of a step, one of them
_TO_NATS = math.log(10) / 10
_SHAPE = 20.0  # of the inverse gamma prior of the variance, under which the noise is scored
_NLL_WEIGHT, _LEAST = 0.3, 1e-8
_EVIDENCE_WEIGHT = 0.5
# Shares of scenes in training that are of another noise, that are none, and that say (also) what the noise is not.
_WRONG, _NONE, _NOT = 0.25, 0.15, 0.2
_ALIKE = 0.5  # cosine from which the description of another noise is not wrong
_FLOOR = 1e-7 * 0.5  # of power, times the size of the transform: white noise at -70 dB of full scale


def learn_noise_estimator(
    estimator: NoiseEstimator,
    prior: LatentPrior,
    speech: Sequence[np.ndarray],
    noise: Sequence[np.ndarray],
    *,
    steps: int = 450,
    batch_size: int = 6,
    rate: float = 3e-3,
    snr: tuple[float, float] = (-10.0, 6.0),
    simulated: float = 0.25,
    scenes: Sequence[torch.Tensor] | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> list[float]:
    """Train a network by how well its V serves the Wiener filter of a prior of clean speech, which stays as it is.

        loss = - (SI-SDR(S_1) + SI-SDR(S_2)) / 2 - 0.3 log p(n | V),   S / (S + V) filters the noisy audio,

    S_1 is decoded from the encoder's posterior of the clean speech, S_2 from that of the noisy-speech encoder, which is
    given V. Both are of the prior without video. p(n | V) is a Student's t distribution, that of noise whose variance
    has an inverse gamma prior around V. Speech and noise are coloured at random.

    Arguments
    ---------
    estimator : NoiseEstimator
        Is changed.
    prior : LatentPrior
        With a noisy-speech encoder; a trained one.
    speech, noise : sequence of arrays, shape (samples,)
        At 16 kHz, of the training split.
    steps, batch_size : int
    rate : float
        Of learning, at its highest; it falls as a cosine.
    snr : (float, float)
        Range in dB.
    simulated : float
        Share of clips whose noise is drawn as for the noisy-speech encoder (`draw_noise`), not recorded.
    scenes : sequence of tensors, shape (any, scene_dim), optional
        For a `SceneNoiseEstimator`: embeddings that describe each noise (of text, image, video, sound), one of which is
        drawn; or one of another noise, or none. The loss then has 0.5 times the cross-entropy of the evidence for it.
    seed : int
    checkpoint : path, optional
        See `avse.training.steps.learn`.

    Returns
    -------
    list of float
        The loss at each step.
    """

    def loss_of(rng: np.random.Generator, step: int) -> torch.Tensor:
        clean, loud, recordings = draw_mixtures(
            (prior.fft_size, prior.hop), speech, noise, batch_size, snr, simulated, rng
        )
        told = None if scenes is None else Told.draw(scenes, recordings, rng)
        return _loss(estimator, prior, clean, loud, told)

    return learn(estimator, loss_of, steps=steps, rate=rate, seed=seed, checkpoint=checkpoint)


def class_code(name: str, dim: int) -> torch.Tensor:
    """A random vector of length one that stands for a class of noise, shape (dim,), always the same."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return F.normalize(torch.randn(dim, generator=generator), dim=0)


def fit_entrance(
    estimator: SceneNoiseEstimator, vectors: torch.Tensor, names: Sequence[str], weights: torch.Tensor, ridge: float
) -> None:
    """Bring embeddings to the codes of their classes, which a network was trained with, by ridge regression.

    So the network need not be trained again where the embedding is another.

    Arguments
    ---------
    estimator : SceneNoiseEstimator
        Its layer `enter` is changed.
    vectors : tensor, shape (any, scene_dim)
        Embeddings of texts, images and sounds.
    names : sequence of str
        The class of each.
    weights : tensor, shape (any,)
        Of each in the regression.
    ridge : float
        Relative to the mean of the weighted squares.
    """
    dim = vectors.shape[1]
    inputs, codes = vectors.double(), torch.stack([class_code(name, dim) for name in names]).double()
    weighted = weights.double()[:, None] * inputs
    square = inputs.T @ weighted
    square = square + ridge * square.trace() / dim * torch.eye(dim, dtype=torch.float64)
    with torch.no_grad():
        estimator.enter.weight.copy_(torch.linalg.solve(square, weighted.T @ codes).T)


def draw_mixtures(
    transform: tuple[int, int],
    speech: Sequence[np.ndarray],
    noise: Sequence[np.ndarray],
    count: int,
    snr: tuple[float, float],
    simulated: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Spectra of speech and noise of a few clips, (count, frames, bins), complex, at the level of models.

    And the places of the noise; those that were drawn by `draw_noise` have -1. Size and hop of the transform are in
    samples; other arguments as of `learn_noise_estimator`.
    """
    samples = int(rng.choice(_SAMPLES))

    def excerpts(sounds: Sequence[np.ndarray]) -> tuple[torch.Tensor, list[int]]:
        places = rng.integers(len(sounds), size=count).tolist()
        chosen = [sounds[place] for place in places]
        offsets = [int(rng.integers(max(1, len(sound) - samples + 1))) for sound in chosen]
        cut = [cut_or_loop(sound, samples, offset) for sound, offset in zip(chosen, offsets)]
        return torch.as_tensor(np.stack(cut), dtype=torch.float32), places

    (clean, _), (loud, recordings) = excerpts(speech), excerpts(noise)
    drawn = round(simulated * count)
    if drawn:
        recordings[:drawn] = [-1] * drawn
        loud[:drawn] = draw_noise(clean[:drawn], *transform, (0.0, 0.0))[0]
    spectra = [stft(sound, *transform) * _colour(count, transform[0] // 2 + 1) for sound in (clean, loud)]
    powers = [spectrum.abs().square().mean(dim=(1, 2), keepdim=True).clamp(min=1e-12) for spectrum in spectra]
    ratio = snr[0] + (snr[1] - snr[0]) * torch.rand(count, 1, 1)
    spectra[1] = spectra[1] * (powers[0] / powers[1] * (-_TO_NATS * ratio).exp()).sqrt()
    mixed = istft(spectra[0] + spectra[1], *transform, samples)
    scale = level_scale(mixed, torch.full((count,), samples))[..., None]
    return spectra[0] * scale, spectra[1] * scale, recordings


@dataclass
class Told:
    """What is said of the noises of a few clips.

    Arguments
    ---------
    scene : tensor, shape (count, scene_dim)
        Zeros: nothing.
    right : tensor, shape (count,)
        Whether it is right, 1 or 0; NaN: there is none.
    own : tensor, shape (count, scene_dim)
        A description of each that is right; zeros: none is known.
    """

    scene: torch.Tensor
    right: torch.Tensor
    own: torch.Tensor

    @classmethod
    def draw(cls, scenes: Sequence[torch.Tensor], recordings: Sequence[int], rng: np.random.Generator) -> Told:
        """Descriptions that are right, of another noise, or none; some say (also) what the noise is not.

        `recordings` are places of the noises in `scenes`; -1: nothing describes it.
        """

        def one(place: int) -> torch.Tensor:
            return scenes[place][int(rng.integers(len(scenes[place])))]

        def other(scene: torch.Tensor) -> torch.Tensor:
            drawn = one(int(rng.integers(len(scenes))))
            return drawn if float(drawn @ scene) < _ALIKE else other(scene)

        count, nothing = len(recordings), torch.zeros_like(scenes[0][0])
        told = cls(torch.zeros(count, len(nothing)), torch.full((count,), torch.nan), torch.zeros(count, len(nothing)))
        for row, place in enumerate(recordings):
            own = told.own[row] = one(place) if place >= 0 else nothing
            chance = rng.random()
            if chance < _NONE:
                continue
            wrong = place < 0 or chance < _NONE + _WRONG
            scene = other(own) if wrong else own
            if place >= 0 and rng.random() < _NOT:
                scene = combined([scene] if rng.random() < 0.5 else [], [own if wrong else other(own)])
            told.scene[row], told.right[row] = scene, float(not wrong)
        return told

    def cross_entropy(self, drawn: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """Of log-odds of what was drawn, (count,), and of each right description with each clip, (count, count).

        Descriptions of other clips that are alike do not count.
        """
        known, described = ~self.right.isnan(), self.own.any(dim=1)
        same = torch.eye(len(self.own))
        counted = described & described[:, None] & ((self.own @ self.own.T < _ALIKE) | (same > 0))
        logits, wanted = torch.cat([drawn[known], pairs[counted]]), torch.cat([self.right[known], same[counted]])
        if not len(logits):
            return drawn.new_zeros(())
        return F.binary_cross_entropy_with_logits(logits, wanted)


def _colour(count: int, bins: int) -> torch.Tensor:
    """Random smooth responses, (count, 1, bins)."""
    response = 3.0 * torch.randn(count, 1, 8)
    return (F.interpolate(response, size=bins, mode="linear", align_corners=True) * _TO_NATS / 2).exp()


def _loss(
    estimator: NoiseEstimator,
    prior: LatentPrior,
    clean: torch.Tensor,
    noise: torch.Tensor,
    told: Told | None = None,
) -> torch.Tensor:
    noisy = clean + noise
    power = noisy.abs().square()
    mask = torch.ones(power.shape[:2], dtype=torch.bool)
    context = Context(mask, ~mask)
    mistaken = torch.zeros(())
    if told is None:
        variance = estimator(power, mask)
    else:
        assert isinstance(estimator, SceneNoiseEstimator), "scenes are for a SceneNoiseEstimator"
        variance, evidence = estimator.told(power, mask, told.scene)
        mistaken = told.cross_entropy(evidence, estimator.evidence(power, mask, told.own.expand(len(power), -1, -1)))
    variance = variance.clamp(min=_LEAST)
    with torch.no_grad():
        known = prior.encode(clean.abs().square(), context).mean
    gained = torch.zeros(len(power))
    for latent in (known, prior.encode_noisy(power, variance, context).mean):
        speech = speech_variance(prior.decode(latent, context))
        gained = gained + _si_sdr(speech / (speech + variance) * noisy, clean) / 2
    seen = noise.abs().square() + _FLOOR * prior.fft_size
    scored = variance.log() + (_SHAPE + 1) * (seen / (_SHAPE * variance)).log1p()
    return _NLL_WEIGHT * scored.mean() - gained.mean() + _EVIDENCE_WEIGHT * mistaken


def _si_sdr(estimate: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Of spectra (batch, frames, bins), in dB, shape (batch,)."""
    energy = clean.abs().square().sum(dim=(1, 2), keepdim=True).clamp(min=_LEAST)
    target = (estimate * clean.conj()).real.sum(dim=(1, 2), keepdim=True) / energy * clean
    ratio = (target.abs().square().sum(dim=(1, 2)) + _LEAST) / (
        (estimate - target).abs().square().sum(dim=(1, 2)) + _LEAST
    )
    return ratio.log() / _TO_NATS

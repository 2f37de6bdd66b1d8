"""Noise model `conditioned_vae`: a variational autoencoder of noise that may be told what the noise is."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from avse.contracts.noise_model import NoiseModel, State
from avse.nnet.noise_vae import NoiseVAE
from avse.noise_models.described import DescribedNoise
from avse.plugins import register
from avse.signal.nmf import Exponent, power, update_ratio

_WEIGHTS = Path(__file__).with_suffix(".safetensors")
_FLOOR, _LEAST = 1e-10, 1e-20
_LARGEST_STEP = 2.0  # of a latent feature
_FRACTIONS = (0.25, 0.5, 1.0)  # of a step that are tried, the best last


@register("noise_model", "conditioned_vae")
class ConditionedVAE(NoiseModel):
    """Noise as V = g_n c_f exp(d(z_n, e)), z_n ~ p(z | e), with what the noise is, e, in encoder, decoder and prior.

    The fit begins at the encoder's mean of q(z | V_0, e), V_0 being the variance that `DescribedNoise` expects from
    the noisy audio and the scene; e is the scene as that model reads it, weighed by its trust. The M-step lowers, in
    turn, for z by a Gauss-Newton step that is halved where it does not help, and for g and c in closed form, the
    majorant of the objective

        sum_f (numerator V^2 / V' + denominator V') - weight log p(z' | e)

    in which bins count by the share of noise, as in `ExpectedNoise`. So z holds what noise is like, and c the fine
    structure of this one. Without a scene, or where it is zeros, the model is bit for bit the one that has no layers
    for it. The weights are a part of the package and stay fixed; `avse.training.noise_vae` made them, from speech and
    recordings of noise, some of which are for non-commercial use only; so are the weights.

    Arguments
    ---------
    prior_weight : float
        Of log p(z | e).
    presence_exponent : float
        See `ExpectedNoise`.
    begin_iterations : int
        Updates that fit the beginning to V_0.
    scene_dim : int
        Features of the embedding.
    pretrained : bool
        False: the networks have random weights, to be trained.

    vae_pretrained : bool
        The same of the VAE alone.

    State: `gains` (batch, frames, 1), `spectrum` (batch, 1, bins), `latent` (batch, frames, dim), and what is fixed:
    `told` (batch, 1, hidden), `expected` and `precision` (batch, 1, dim); with a scene also `trust` (batch,).

    Example
    -------
    >>> model = ConditionedVAE()
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> model.variance(model.initial_state(power, mask, torch.eye(128)[:1])).shape
    torch.Size([1, 30, 9])
    """

    paper = "Leglaive, Girin and Horaud, A variance modeling framework based on variational autoencoders, 2018"
    learnable = ("prior_weight", "presence_exponent")
    fitted = ("gains", "spectrum")

    def __init__(
        self,
        prior_weight: float = 1.0,
        presence_exponent: float = 2.0,
        begin_iterations: int = 5,
        scene_dim: int = 128,
        pretrained: bool = True,
        vae_pretrained: bool = True,
    ) -> None:
        super().__init__()
        if prior_weight < 0 or presence_exponent < 0 or begin_iterations < 1:
            raise ValueError(
                "prior_weight and presence_exponent must not be negative and begin_iterations must be at least 1, got "
                f"{prior_weight}, {presence_exponent} and {begin_iterations}."
            )
        self.prior_weight: Exponent = prior_weight
        self.presence_exponent: Exponent = presence_exponent
        self.begin_iterations, self.scene_dim = begin_iterations, scene_dim
        self.describer = DescribedNoise(scene_dim=scene_dim, pretrained=pretrained)
        self.network = NoiseVAE(scene_dim)
        if pretrained and vae_pretrained:
            weights = safetensors.torch.load_file(_WEIGHTS)
            self.network.load_state_dict({name: value.float() for name, value in weights.items()})
            self.network.requires_grad_(False)

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """What the encoder makes of the noise that is expected; see `NoiseModel.initial_state`."""
        network = self.network
        expected, trust = self.describer.expected(power, mask, scene)
        expected = expected * mask[..., None]
        code = None if scene is None else self.describer.code(scene, trust["trust"])
        level, prior = network.level(expected, mask), network.prior(code, len(power))
        state = trust | {
            "gains": level.expand(-1, power.shape[1], -1).clone(),
            "spectrum": torch.ones_like(power[:, :1]),
            "latent": network.encode(expected, mask, code).mean,
            "told": network.told(code, len(power)),
            "expected": prior.mean,
            "precision": (-prior.log_variance).exp(),
        }
        for _ in range(self.begin_iterations):
            state = self.update_from_power(state, expected, mask)
        return state

    def variance(self, state: State) -> torch.Tensor:
        spectrum = state["spectrum"]
        shape = self.network.decode(state["latent"], state["told"], spectrum.shape[-1])
        return (state["gains"] * spectrum * shape.exp()).clamp(min=_FLOOR)

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        before = self.variance(state)
        share = power((before * denominator).clamp(max=1.0), self.presence_exponent)
        rising, falling = share * denominator * before, share * numerator * before
        latent = self._step(state, rising, falling)
        first, last = (self.network.decode(z, state["told"], before.shape[-1]) for z in (state["latent"], latent))
        change = (last - first).exp()
        rising, falling = rising * change, falling / change
        gain = update_ratio(falling.sum(dim=2, keepdim=True) + _LEAST, rising.sum(dim=2, keepdim=True) + _LEAST)
        rising, falling = rising * gain, falling / gain
        fine = update_ratio(falling.sum(dim=1, keepdim=True) + _LEAST, rising.sum(dim=1, keepdim=True) + _LEAST)
        gains, spectrum = (state["gains"] * gain).clamp(min=_FLOOR), (state["spectrum"] * fine).clamp(min=_FLOOR)
        mean = spectrum.mean(dim=2, keepdim=True)
        return {**state, "gains": gains * mean, "spectrum": spectrum / mean, "latent": latent}

    def _step(self, state: State, rising: torch.Tensor, falling: torch.Tensor) -> torch.Tensor:
        """z after a Gauss-Newton step on the majorant, whose two parts are given, (batch, frames, bins)."""
        latent, told, bins = state["latent"], state["told"], rising.shape[-1]
        precision = self.prior_weight * state["precision"]
        shape, slope = self.network.decode(latent, told, bins), self.network.slope(latent, told, bins)
        gradient = ((rising - falling)[..., None, :] @ slope)[..., 0, :] + precision * (latent - state["expected"])
        curved = slope.mT @ ((rising + falling)[..., None] * slope) + torch.diag_embed(precision + 1e-3)
        step = torch.linalg.solve(curved, gradient[..., None])[..., 0].clamp(-_LARGEST_STEP, _LARGEST_STEP)

        def cost(at: torch.Tensor) -> torch.Tensor:
            moved = self.network.decode(at, told, bins) - shape
            data = (rising * moved.exp() + falling * (-moved).exp()).sum(dim=2, keepdim=True)
            return data + (precision * (at - state["expected"]).square() / 2).sum(dim=2, keepdim=True)

        best, least = latent, cost(latent)
        for fraction in _FRACTIONS:
            tried = latent - fraction * step
            found = cost(tried)
            best, least = torch.where(found < least, tried, best), torch.minimum(found, least)
        return best

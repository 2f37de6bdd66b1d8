"""A plugin of each kind as authors wrote it for the last release: old modules, old names, old signatures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from avse.contracts.latent_inference import LatentInference
from avse.signal.level import level_scale
from avse.signal.mixture import typical_power  # noqa: F401
from torch import nn

from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion
from avse.contracts.inference import Inference
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Context, Gaussian, LatentPrior
from avse.contracts.types import Batch, Estimate
from avse.plugins import register
from avse.signal.stft import istft, repeat_to_steps, stft, stft_steps


@register("fusion", "old_sum")
class OldSum(Fusion):
    """Adds a projection of the video.

    Arguments
    ---------
    audio_dim, video_dim : int
        Features of each stream.
    scale : float
        Of the projection.
    """

    growth = "linear"

    def __init__(self, audio_dim: int, video_dim: int, scale: float = 1.0) -> None:
        super().__init__(audio_dim, video_dim)
        self.scale = scale
        self.project = nn.Linear(video_dim, audio_dim)

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scale * self.project(video), audio.new_ones(audio.shape[:2])


@register("noise_model", "old_mean")
class OldMean(NoiseModel):
    """A variance that is the same at every step.

    Arguments
    ---------
    floor : float
        Least variance.
    """

    def __init__(self, floor: float = 1e-8) -> None:
        super().__init__()
        self.floor = floor

    def initial_state(
        self, power: torch.Tensor, inside: torch.Tensor, scene: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        weight = inside[..., None].to(power)
        mean = (power * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(min=1)
        return {"mean": mean + self.floor, "inside": inside}

    def variance(self, state: dict[str, torch.Tensor]) -> torch.Tensor:
        return state["mean"].expand(-1, state["inside"].shape[1], -1)

    def update(
        self, state: dict[str, torch.Tensor], numerator: torch.Tensor, denominator: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        ratio = numerator.sum(dim=1, keepdim=True) / denominator.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return state | {"mean": state["mean"] * ratio.sqrt().clamp(0.5, 2.0) + self.floor}

    def update_from_power(
        self, state: dict[str, torch.Tensor], power: torch.Tensor, inside: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return super().update_from_power(state, power, inside)


@register("enhancer", "old_gate")
class OldGate(Enhancer):
    """A gain for each bin from the noisy sound; louder mouths open it.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
    fusion : Fusion or None
    hidden_dim : int
        Features per step.
    """

    growth = "quadratic"

    def __init__(self, visual_frontend=None, fusion=None, hidden_dim: int = 8) -> None:
        super().__init__()
        self.visual_frontend, self.fusion = visual_frontend, fusion
        self.encode, self.gain = nn.Linear(321, hidden_dim), nn.Linear(hidden_dim, 321)

    def forward(self, batch: Batch) -> Estimate:
        spectrum = stft(level_scale(batch.noisy, batch.lengths) * batch.noisy, 640, 320)
        steps = stft_steps(batch.noisy.shape[1], 640, 320)
        features = self.encode(spectrum.abs())
        reliability = batch.valid.new_zeros(batch.valid.shape, dtype=features.dtype)
        if self.fusion is not None and bool(batch.valid.any()):
            video = repeat_to_steps(self.visual_frontend(batch.mouth, batch.valid), steps, 2)
            features, weights = self.fusion(features, video, repeat_to_steps(batch.valid, steps, 2))
            reliability = weights[:, ::2][:, : batch.valid.shape[1]] * batch.valid
        speech = istft(self.gain(features).sigmoid() * stft(batch.noisy, 640, 320), 640, 320, batch.noisy.shape[1])
        return Estimate(speech, batch.noisy - speech, reliability, batch.lengths)


@register("prior", "old_linear")
class OldLinear(LatentPrior):
    """A VAE of linear maps.

    Arguments
    ---------
    dim : int
        Features of z.
    """

    growth = "quadratic"
    recognises = True
    dynamical = False

    def __init__(self, dim: int = 2) -> None:
        super().__init__()
        self.latent_dim = dim
        self.encoder, self.decoder = nn.Linear(self.bins, 2 * dim), nn.Linear(dim, self.bins)

    def encode(self, power: torch.Tensor, context: Context) -> Gaussian:
        return Gaussian(*self.encoder((power + 1e-6).log()).chunk(2, dim=-1))

    def recognise(self, power: torch.Tensor, variance: torch.Tensor, context: Context) -> Gaussian:
        return self.encode((power - variance).clamp(min=1e-6), context)

    def decode(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        return self.decoder(latent) * context.inside[..., None]

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        return Gaussian(torch.zeros_like(latent), torch.zeros_like(latent))

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        power = self.analyse(batch.clean).abs().square()
        context = self.context(batch)
        posterior = self.encode(power, context)
        log_variance = self.decode(posterior.sample(), context)
        error = (power * (-log_variance).exp() + log_variance).mean()
        return {"loss": error + posterior.divergence(self.prior(posterior.mean, context)).mean()}


@register("inference", "old_shrink")
class OldShrink(Inference):
    """Subtracts the noise as it is known so far.

    Arguments
    ---------
    prior : Prior
    noise_model : NoiseModel
    iterations : int
    strength : float
        How much is subtracted.
    """

    def __init__(self, prior, noise_model: NoiseModel, iterations: int = 3, strength: float = 0.5) -> None:
        super().__init__(prior, noise_model, iterations)
        self.strength = strength

    def iterate(
        self, batch: Batch, scene: torch.Tensor | None = None, speakers: Sequence[Batch] = ()
    ) -> Iterator[Estimate]:
        spectrum = self.prior.analyse(batch.noisy)
        power, context = spectrum.abs().square(), self.prior.context(batch)
        state, trace = self.noise_model.initial_state(power, context.inside, scene), []
        for _ in range(self.iterations):
            variance = self.noise_model.variance(state)
            gain = (1 - self.strength * variance / (power + variance)).clamp(min=0.1)
            state = self.noise_model.update_from_power(state, ((1 - gain) * power), context.inside)
            speech = self.prior.synthesise(gain * spectrum, batch.noisy.shape[1])
            trace.append(((1 - gain) * power).mean(dim=(1, 2)))
            yield Estimate(
                speech,
                batch.noisy - speech,
                torch.zeros_like(batch.valid, dtype=speech.dtype),
                batch.lengths,
                trace=torch.stack(trace, dim=1),
            )


@register("inference", "old_latent")
class OldLatent(LatentInference):
    """The encoder as E-step, stopped early.

    Arguments
    ---------
    prior : LatentPrior
    noise_model : NoiseModel
    iterations : int
    """

    growth = "linear"

    def __init__(self, prior, noise_model: NoiseModel, iterations: int = 3) -> None:
        super().__init__(prior, noise_model, iterations, m_steps=1)

    def iterate(
        self, batch: Batch, scene: torch.Tensor | None = None, speakers: Sequence[Batch] = ()
    ) -> Iterator[Estimate]:
        yield from super().iterate(batch)

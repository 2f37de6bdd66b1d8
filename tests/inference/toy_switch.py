"""Toy priors that compete, and sounds drawn from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from toy_models import BLOCK, ToyPrior

from avse.contracts.prior import Context, Gaussian, SwitchingPrior
from avse.contracts.types import Batch, Clip
from avse.signal.levels import LEVEL

PER_FRAME = 640 // BLOCK  # steps in a video frame


class ToySwitch(SwitchingPrior):
    """Toy priors of different spectra, and a chain that stays with probability 0.9."""

    def __init__(self, components: list[ToyPrior], stay: float = 0.9, memory: bool = True) -> None:
        super().__init__(fft_size=components[0].fft_size, hop=BLOCK)
        self.components, self.stay, self.memory = nn.ModuleList(components), stay, memory
        self.analyse, self.synthesise = components[0].analyse, components[0].synthesise

    def switch(self):
        count = len(self.components)
        leave = (1 - self.stay) / max(1, count - 1)
        tau = leave + (self.stay - leave) * torch.eye(count, dtype=torch.float64) if count > 1 else torch.ones(1, 1)
        if not self.memory:
            tau = torch.full_like(tau, 1 / count)
        return torch.full((count,), 1 / count, dtype=torch.float64).log(), tau.log()

    def loss(self, batch):
        raise NotImplementedError


class SharpToy(ToyPrior):
    """A toy prior whose encoder knows how the decoder works."""

    def encode(self, power, context):
        log_power = (power + 1e-9).log() - self.level + 0.577
        mean = torch.atanh((log_power @ torch.linalg.pinv(self.tilt)).clamp(-0.97, 0.97))
        return Gaussian(mean, torch.full_like(mean, np.log(0.05)))


class SeeingToy(SharpToy):
    """The same with z near what the video shows: p(z | v) = N(v, 0.05). Mouths say z by their brightness."""

    def context(self, batch):
        context = super().context(batch)
        if not bool(batch.valid.any()):
            return context
        steps = context.mask.shape[1]
        valid = batch.valid.repeat_interleave(PER_FRAME, dim=1)[:, :steps] & context.mask
        shown = batch.mouth[:, :, 0, : self.latent_dim].double() / 32.0 - 4.0
        video = shown.repeat_interleave(PER_FRAME, dim=1)[:, :steps]
        return Context(context.mask, valid, video * valid[..., None])

    def prior(self, latent, context):
        free = super().prior(latent, context)
        if context.video is None:
            return free
        seen, narrow = context.valid[..., None], torch.full_like(free.log_variance, np.log(0.05))
        return Gaussian(torch.where(seen, context.video, free.mean), torch.where(seen, narrow, free.log_variance))

    def encode(self, power, context):
        heard = super().encode(power, context)
        if context.video is None:
            return heard
        expected = self.prior(heard.mean, context)
        precision = [(-one.log_variance).exp() for one in (heard, expected)]
        both = precision[0] + precision[1]
        mean = (precision[0] * heard.mean + precision[1] * expected.mean) / both
        seen = context.valid[..., None]
        return Gaussian(torch.where(seen, mean, heard.mean), torch.where(seen, -both.log(), heard.log_variance))


def drawn(prior: ToyPrior | ToySwitch, states: torch.Tensor, latent: torch.Tensor, noise: float = 0.002) -> Batch:
    """A sound in white noise, at the level it is brought to, which the priors are moved to.

    Arguments
    ---------
    states : tensor, shape (frames,)
        Which component speaks.
    latent : tensor, shape (frames, latent_dim)
    """
    draw = torch.Generator().manual_seed(0)
    components = list(prior.components) if isinstance(prior, ToySwitch) else [prior]
    steps = len(states)
    unit = torch.randn(2, 1, steps, prior.bins, 2, generator=draw, dtype=torch.float64) / 2**0.5
    clean, other = torch.view_as_complex(unit)
    samples = steps * BLOCK
    for _ in range(2):  # the first time finds the level, and the models take it on
        levels = torch.stack([one.decode(latent[None], None)[0] for one in components])
        speech = levels[states, torch.arange(steps)].exp()[None]
        spectra = clean * speech.sqrt(), clean * speech.sqrt() + other * noise**0.5
        sounds = [prior.synthesise(one, samples) for one in spectra]
        factor = float(LEVEL / sounds[1].square().mean().sqrt())
        for one in components:
            one.level += 2 * np.log(factor)
        noise *= factor**2
    batch = Batch.from_clips([Clip(np.zeros(samples, np.float32))])
    return replace(batch, noisy=sounds[1], clean=sounds[0])


def chain_of_states(steps: int, stay: list[float], seed: int = 0) -> torch.Tensor:
    """Two states that follow each other, each staying with a probability of its own."""
    draw, states = np.random.default_rng(seed), [0]
    for _ in range(steps - 1):
        last = states[-1]
        states.append(last if draw.random() < stay[last] else 1 - last)
    return torch.tensor(states)


def normal(steps: int, dim: int, seed: int = 1) -> torch.Tensor:
    """z, one value for each video frame."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(-(-steps // PER_FRAME), dim, generator=draw, dtype=torch.float64).repeat_interleave(
        PER_FRAME, dim=0
    )[:steps]


def mouths(latent: torch.Tensor) -> torch.Tensor:
    """Crops that show z of each frame, shape (1, video_frames, 88, 88); see `SeeingToy`."""
    shown = ((latent[::PER_FRAME] + 4.0) * 32.0).round().clamp(0, 255).to(torch.uint8)
    crops = torch.zeros(1, len(shown), 88, 88, dtype=torch.uint8)
    crops[0, :, 0, : latent.shape[1]] = shown
    return crops

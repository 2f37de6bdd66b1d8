"""The contracts of generative systems hold a whole one: a small VAE prior, an NMF noise model, and EM between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from avse.contracts.checks import run_checks
from avse.contracts.embedding import Embedding
from avse.contracts.inference import Inference
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Gaussian, LatentPrior, ScorePrior, SwitchingPrior
from avse.contracts.types import Batch, Clip, Estimate

FLOOR = 1e-10


def failed(cls: type, kind: str) -> dict[str, str]:
    return {result.check.name: result.found for result in run_checks(cls, kind) if not result.passed}


class TinyVAE(LatentPrior):
    """One linear layer each way, the video added to the latent.

    Arguments
    ---------
    latent_dim : int
    """

    def __init__(self, latent_dim: int = 3) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder, self.decoder = nn.Linear(self.bins, 2 * latent_dim), nn.Linear(latent_dim, self.bins)
        self.eye = nn.Linear(1, latent_dim)

    def visual_features(self, batch):
        light = batch.mouth.to(self.eye.weight.dtype).mean(dim=(2, 3)) / 255
        return torch.where(batch.valid, light, torch.zeros_like(light))[..., None]

    def encode(self, power, context):
        """See `LatentPrior.encode`."""
        mean, log_variance = self.encoder((power + FLOOR).log()).chunk(2, dim=-1)
        return Gaussian(mean, log_variance.clamp(-8, 4))

    def decode(self, latent, context):
        """See `LatentPrior.decode`."""
        if context.video is not None:
            latent = torch.where(context.valid[..., None], latent + self.eye(context.video), latent)
        return self.decoder(latent).clamp(-20, 20)

    def prior(self, latent, context):
        """See `LatentPrior.prior`."""
        return Gaussian(torch.zeros_like(latent), torch.zeros_like(latent))

    def loss(self, batch):
        """See `Prior.loss`."""
        context = self.context(batch)
        power = self.analyse(batch.clean).abs().square()
        posterior = self.encode(power, context)
        latent = posterior.sample()
        log_variance = self.decode(latent, context)
        misfit = (power * (-log_variance).exp() + log_variance).mean(dim=2)
        divergence = posterior.divergence(self.prior(latent, context))
        terms = {n: t[context.inside].mean() for n, t in (("misfit", misfit), ("divergence", divergence))}
        return {"loss": terms["misfit"] + terms["divergence"], **terms}


class TinyNMF(NoiseModel):
    """Two spectra and their gains, by multiplicative rules.

    Arguments
    ---------
    rank : int
    """

    def __init__(self, rank: int = 2) -> None:
        super().__init__()
        self.rank = rank

    def initial_state(self, power, inside, scene=None):
        """See `NoiseModel.initial_state`."""
        count = inside.sum(dim=1)[:, None, None]
        mean = (power * inside[..., None]).sum(dim=1, keepdim=True) / count + FLOOR
        tilt = torch.linspace(0.5, 1.5, self.rank, dtype=power.dtype)[None, :, None]
        spectra = mean * tilt.pow(torch.linspace(-1, 1, power.shape[2], dtype=power.dtype))
        return {"spectra": spectra, "gains": torch.ones_like(power[..., : self.rank]) / self.rank}

    def variance(self, state):
        """See `NoiseModel.variance`: shape (batch, steps, bins)."""
        return (state["gains"] @ state["spectra"]).clamp(min=FLOOR)

    def update(self, state, numerator, denominator):
        """See `NoiseModel.update`."""
        spectra, gains = state["spectra"], state["gains"]
        up, down = numerator @ spectra.mT, denominator @ spectra.mT
        gains = (gains * (up / (down + FLOOR)).sqrt()).clamp(min=FLOOR)
        up, down = gains.mT @ numerator, gains.mT @ denominator
        return {"spectra": (spectra * (up / (down + FLOOR)).sqrt()).clamp(min=FLOOR), "gains": gains}


class TinyEM(Inference):
    """Variational EM with the encoder as E-step.

    Arguments
    ---------
    prior : LatentPrior
    noise_model : NoiseModel
    iterations : int
    """

    accepts = (LatentPrior,)

    def __init__(self, prior, noise_model, iterations: int = 4) -> None:
        super().__init__(prior, noise_model, iterations)

    @classmethod
    def example_arguments(cls):
        return {"prior": TinyVAE(), "noise_model": TinyNMF(), "iterations": 3}

    def iterate(self, batch, scene=None, speakers=()):
        """See `Inference.iterate`."""
        context = self.prior.context(batch)
        noisy = self.prior.analyse(batch.noisy)
        power = noisy.abs().square()
        state = self.noise_model.initial_state(power, context.inside, scene)
        speech_power, trace = power, []
        samples = batch.noisy.shape[1]
        keep = torch.arange(samples) < batch.lengths[:, None]
        for _ in range(self.iterations):
            speech = self.prior.decode(self.prior.encode(speech_power, context).mean, context).exp() + FLOOR
            noise = self.noise_model.variance(state)
            gain, rest = speech / (speech + noise), speech * noise / (speech + noise)
            speech_power = (gain * noisy).abs().square() + rest
            noise_power = ((1 - gain) * noisy).abs().square() + rest
            state = self.noise_model.update_from_power(state, noise_power, context.inside)
            total = speech + self.noise_model.variance(state)
            trace.append((power / total + total.log())[context.inside].mean().item())
            estimate = self.prior.synthesise(gain * noisy * context.inside[..., None], samples) * keep
            trusted = batch.valid.to(estimate.dtype)
            yield Estimate(estimate, batch.noisy - estimate, trusted, batch.lengths, trace=list(trace))


class Words(Embedding):
    """Counts letters."""

    modalities = ("text",)
    output_dim = 26

    def embed(self, items, modality):
        """See `Embedding.embed`: shape (batch, output_dim)."""
        counts = [[1e-3 + item.lower().count(chr(97 + letter)) for letter in range(26)] for item in items]
        return nn.functional.normalize(torch.tensor(counts), dim=1)


@pytest.mark.parametrize(
    ("cls", "kind"), [(TinyVAE, "prior"), (TinyNMF, "noise_model"), (TinyEM, "inference"), (Words, "embedding")]
)
def test_a_small_system_keeps_the_contracts(cls: type, kind: str) -> None:
    assert failed(cls, kind) == {}


class NotNormal(Words):
    __doc__ = Words.__doc__

    def embed(self, items, modality):
        return 2 * super().embed(items, modality)


class SharedFit(TinyNMF):
    __doc__ = TinyNMF.__doc__

    def variance(self, state):
        return super().variance(state).mean(dim=0, keepdim=True).expand_as(super().variance(state))


class InPlaceFit(TinyNMF):
    __doc__ = TinyNMF.__doc__

    def update(self, state, numerator, denominator):
        fresh = super().update(state, numerator, denominator)
        state["gains"].copy_(fresh["gains"])
        return fresh


class WrongWay(TinyNMF):
    __doc__ = TinyNMF.__doc__

    def update(self, state, numerator, denominator):
        return super().update(state, denominator, numerator)


class OneEstimate(TinyEM):
    __doc__ = TinyEM.__doc__

    def iterate(self, batch, scene=None, speakers=()):
        yield list(super().iterate(batch))[-1]


class NoLoss(TinyVAE):
    __doc__ = TinyVAE.__doc__

    def loss(self, batch):
        return {"misfit": super().loss(batch)["misfit"]}


class SeesUnseen(TinyVAE):
    __doc__ = TinyVAE.__doc__

    def context(self, batch):
        context = super().context(batch)
        context.inside = context.inside & bool(batch.mouth.any())
        return context


@pytest.mark.parametrize(
    ("cls", "kind", "check"),
    [
        (NotNormal, "embedding", "vectors"),
        (SharedFit, "noise_model", "batch_equals_singles"),
        (InPlaceFit, "noise_model", "keeps_state"),
        (WrongWay, "noise_model", "fits"),
        (OneEstimate, "inference", "anytime"),
        (NoLoss, "prior", "loss"),
        (SeesUnseen, "prior", "no_video_is_audio_only"),
    ],
)
def test_planted_faults_are_found(cls: type, kind: str, check: str) -> None:
    assert check in failed(cls, kind)


def test_an_inference_can_be_stopped_and_refuses_another_family_of_prior() -> None:
    batch = Batch.from_clips([Clip(np.random.default_rng(0).normal(0, 0.1, 3200))])
    stopped = TinyEM(TinyVAE(), TinyNMF(), iterations=50)(batch, seconds=0.0)
    assert len(stopped.trace) == 1

    class Score(ScorePrior):
        score = marginal = drift_and_diffusion = loss = None

    with pytest.raises(ValueError, match="TinyEM needs a LatentPrior, got Score"):
        TinyEM(Score(), TinyNMF())


def test_a_switching_prior_gives_each_component_its_own_mouth() -> None:
    class Switch(SwitchingPrior):
        def __init__(self) -> None:
            super().__init__()
            self.components = nn.ModuleList([TinyVAE(), TinyVAE()])

        def switch(self):
            return torch.zeros(2).log_softmax(0), torch.zeros(2, 2).log_softmax(1)

        def loss(self, batch):
            return {"loss": sum(one.loss(batch)["loss"] for one in self.components)}

    sound = np.random.default_rng(0).normal(0, 0.1, 1280)
    dark, light = (Batch.from_clips([Clip(sound, np.full((2, 88, 88), level, np.uint8))]) for level in (1, 200))
    one, two = Switch().contexts(dark, [light])
    assert float(one.video[one.valid].max()) < float(two.video[two.valid].min())
    shared = Switch().contexts(dark)
    assert len(shared) == 2 and torch.equal(shared[0].video, shared[1].video)
    assert shared[0].without_video().video is None

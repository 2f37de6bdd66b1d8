"""Inferences with one fault each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from avse.contracts.inference import Inference
from avse.contracts.prior import LatentPrior
from avse.contracts.types import Estimate
from avse.inference.em.vem import VEM
from avse.signal.stft import length_mask
from mutants import Mutant, any_number
from mutants.noise_model import TinyNMF
from mutants.prior import TinyVAE

FLOOR = 1e-10


class TinyEM(Inference):
    """Variational EM with the encoder as E-step.

    Arguments
    ---------
    prior : LatentPrior
    noise_model : NoiseModel
    iterations : int
    """

    accepts = (LatentPrior,)

    def __init__(self, prior, noise_model, iterations: int = 3) -> None:
        super().__init__(prior, noise_model, iterations)

    @classmethod
    def example_arguments(cls):
        return {"prior": TinyVAE(), "noise_model": TinyNMF(), "iterations": 3}

    def gain(self, batch):
        return 1.0

    def finish(self, estimate):
        return estimate

    def iterate(self, batch, scene=None, speakers=()):
        """See `Inference.iterate`."""
        context = self.prior.context(batch)
        noisy = self.prior.analyse(batch.noisy)
        power = noisy.abs().square()
        state = self.noise_model.initial_state(power, context.mask, scene)
        speech_power, trace = power, []
        samples = batch.noisy.shape[1]
        keep = length_mask(batch.lengths, samples)
        for _ in range(self.iterations):
            speech = self.prior.decode(self.prior.encode(speech_power, context).mean, context).exp() + FLOOR
            noise = self.noise_model.variance(state)
            share, rest = speech / (speech + noise), speech * noise / (speech + noise)
            speech_power = (share * noisy).abs().square() + rest
            noise_power = ((1 - share) * noisy).abs().square() + rest
            state = self.noise_model.update_from_power(state, noise_power, context.mask)
            total = speech + self.noise_model.variance(state)
            trace.append((power / total + total.log())[context.mask].mean().item())
            voice = self.prior.synthesise(share * noisy * context.mask[..., None], samples) * keep
            voice = self.gain(batch) * voice
            trusted = batch.valid.to(voice.dtype)
            yield self.finish(Estimate(voice, batch.noisy - voice, trusted, batch.lengths, trace=list(trace)))


mutants = Mutant("inference", TinyEM)


@mutants("documented")
class Undocumented(TinyEM):
    pass


@mutants("shapes")
class NoLengths(TinyEM):
    def finish(self, estimate):
        return Estimate(estimate.speech, estimate.noise, estimate.reliability, trace=estimate.trace)


@mutants("sums_to_noisy")
class LosesNoise(TinyEM):
    def finish(self, estimate):
        estimate.noise = torch.zeros_like(estimate.noise)
        return estimate


@mutants("reliability")
class TrustsTooMuch(TinyEM):
    def finish(self, estimate):
        estimate.reliability = 1.5 * estimate.reliability
        return estimate


@mutants("padding")
class CountsEmptySamples(TinyEM):
    def gain(self, batch):
        return 1 + batch.noisy.shape[1] - batch.lengths.max()


@mutants("batch_equals_singles")
class CountsClips(TinyEM):
    def gain(self, batch):
        return 1.0 / len(batch)


@mutants("no_video_is_audio_only")
class LooksAnyway(TinyEM):
    def gain(self, batch):
        return 1.0 if batch.valid.any() else 1.0 + batch.mouth.float().mean().item()


@mutants("invalid_frames_ignored")
class SeesUnseen(TinyEM):
    def gain(self, batch):
        light = batch.mouth.to(batch.noisy.dtype).mean(dim=(2, 3)) / 255
        unseen = torch.where(batch.valid, torch.zeros_like(light), light).sum(dim=1, keepdim=True)
        return 1.0 + unseen * batch.valid.any(dim=1, keepdim=True)


@mutants("gradients")
class IdleStep(TinyEM):
    def __init__(self, prior, noise_model, iterations: int = 3) -> None:
        super().__init__(prior, noise_model, iterations)
        self.step, self.unused = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    def gain(self, batch):
        return self.step


@mutants("precision")
class AlwaysSingle(TinyEM):
    def finish(self, estimate):
        estimate.speech = estimate.speech.float()
        return estimate


@mutants("weights_round_trip")
class Forgets(TinyEM):
    def __init__(self, prior, noise_model, iterations: int = 3) -> None:
        super().__init__(prior, noise_model, iterations)
        self.factor = torch.rand(()).item()

    def gain(self, batch):
        return self.factor


@mutants("repeatable")
class OwnSeed(TinyEM):
    def __init__(self, prior, noise_model, iterations: int = 3) -> None:
        super().__init__(prior, noise_model, iterations)
        self.step = nn.Parameter(torch.tensor(any_number()))

    def gain(self, batch):
        return self.step


@mutants("recipe_round_trip")
class TakesAFunction(TinyEM):
    """Variational EM with the encoder as E-step.

    Arguments
    ---------
    prior : LatentPrior
    noise_model : NoiseModel
    iterations : int
    how : callable
    """

    def __init__(self, prior, noise_model, iterations: int = 3, how=None) -> None:
        super().__init__(prior, noise_model, iterations)

    @classmethod
    def example_arguments(cls):
        return {**super().example_arguments(), "how": torch.tanh}


class Unregistered(TinyNMF):
    pass


@mutants("recipe_round_trip")
class NeedsWhatNoRecipeCanName(TinyEM):
    @classmethod
    def example_arguments(cls):
        return {**super().example_arguments(), "noise_model": Unregistered()}


@mutants("causal")
class WholeClip(TinyEM):
    causal = True


@mutants("devices")
class MakesTensorsOnTheCPU(TinyEM):
    def gain(self, batch):
        return torch.ones(batch.noisy.shape[1], dtype=batch.noisy.dtype)


@mutants("hostile_input")
class DividesBySilence(TinyEM):
    def gain(self, batch):
        return 0.1 / batch.noisy.abs().amax(dim=1, keepdim=True)


@mutants("complexity")
class ComparesAllFrames(TinyEM):
    def gain(self, batch):
        light = batch.valid.to(batch.noisy.dtype)[..., None]
        return 1.0 + 0.0 * (light @ light.mT).amax(dim=(1, 2))[:, None]


@mutants("anytime")
class OneEstimate(TinyEM):
    def iterate(self, batch, scene=None, speakers=()):
        yield list(super().iterate(batch))[-1]


@mutants("unrolled")
class BeginsAnew(VEM):
    """Variational EM whose layers take no gradient from those before.

    Arguments
    ---------
    common :
        See `LatentInference`.
    """

    def __init__(self, prior, noise_model, **common: Any) -> None:
        super().__init__(prior, noise_model, **common)

    @classmethod
    def example_arguments(cls):
        return {"prior": TinyVAE(), "noise_model": TinyNMF(), "iterations": 3}

    def encoder_step(self, state):
        found = super().encoder_step(state)
        return replace(found, noise_state={name: value.detach() for name, value in found.noise_state.items()})

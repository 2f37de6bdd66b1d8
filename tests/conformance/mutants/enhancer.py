"""Enhancers with one fault each."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.enhancer import Enhancer
from avse.contracts.types import Estimate
from avse.signal.stft import length_mask
from mutants import Mutant, any_number


class GoodEnhancer(Enhancer):
    """A learned gain for each video frame, raised by the mouth's brightness where it is seen."""

    causal = True

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.light = nn.Parameter(torch.rand(())), nn.Parameter(torch.rand(()))

    def brightness(self, batch):
        return batch.mouth.to(batch.noisy.dtype).mean(dim=(2, 3)) / 255

    def seen(self, batch):
        return batch.valid.to(batch.noisy.dtype)

    def scale(self, batch):
        return self.gain + self.light * self.seen(batch) * self.brightness(batch)

    def forward(self, batch):
        """See `Enhancer.forward`."""
        samples = batch.noisy.shape[1]
        speech = batch.noisy * self.scale(batch).repeat_interleave(640, dim=1)[:, :samples]
        speech = speech * length_mask(batch.lengths, samples)
        return Estimate(speech, batch.noisy - speech, batch.valid.to(batch.noisy.dtype), batch.lengths)


class ToldEnhancer(GoodEnhancer):
    """A gain that is scaled by what is known of the noise."""

    scene_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.told = nn.Linear(3, 1, bias=False)

    def of_scene(self, scene):
        return 1 + self.told(scene)

    def scale(self, batch):
        scale = super().scale(batch)
        return scale if batch.scene is None else scale * self.of_scene(batch.scene)


mutants = Mutant("enhancer", GoodEnhancer, ToldEnhancer)


@mutants("scene")
class HearsNothingAsSomething(ToldEnhancer):
    def of_scene(self, scene):
        return super().of_scene(scene) + 0.1


@mutants("documented")
class Undocumented(GoodEnhancer):
    pass


@mutants("shapes")
class NoLengths(GoodEnhancer):
    def forward(self, batch):
        whole = super().forward(batch)
        return Estimate(whole.speech, whole.noise, whole.reliability)


@mutants("sums_to_noisy")
class LosesNoise(GoodEnhancer):
    def forward(self, batch):
        whole = super().forward(batch)
        return Estimate(whole.speech, torch.zeros_like(whole.noise), whole.reliability, whole.lengths)


@mutants("reliability")
class TrustsTooMuch(GoodEnhancer):
    def forward(self, batch):
        whole = super().forward(batch)
        return Estimate(whole.speech, whole.noise, 1.5 * whole.reliability, whole.lengths)


@mutants("padding")
class CountsEmptySamples(GoodEnhancer):
    def scale(self, batch):
        return super().scale(batch) * (1 + batch.noisy.shape[1] - batch.lengths.max())


@mutants("batch_equals_singles")
class NormalisesTheBatch(GoodEnhancer):
    causal = False

    def scale(self, batch):
        return super().scale(batch) / (1e-3 + batch.noisy.abs().amax())


@mutants("no_video_is_audio_only")
class LooksAnyway(GoodEnhancer):
    def seen(self, batch):
        return super().seen(batch) if batch.valid.any() else torch.ones_like(super().seen(batch))


@mutants("invalid_frames_ignored")
class SeesUnseen(GoodEnhancer):
    def seen(self, batch):
        return super().seen(batch).amax(dim=1, keepdim=True)


@mutants("gradients")
class IdleLayer(GoodEnhancer):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)


@mutants("precision")
class AlwaysSingle(GoodEnhancer):
    def forward(self, batch):
        whole = super().forward(batch)
        return Estimate(whole.speech.float(), whole.noise, whole.reliability, whole.lengths)


@mutants("weights_round_trip")
class Forgets(GoodEnhancer):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.rand(()).item()

    def scale(self, batch):
        return self.factor * super().scale(batch)


@mutants("repeatable")
class OwnSeed(GoodEnhancer):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.gain, any_number())


@mutants("recipe_round_trip")
class TakesAModule(GoodEnhancer):
    """A gain through a function.

    Arguments
    ---------
    last : torch.nn.Module
    """

    def __init__(self, last) -> None:
        super().__init__()
        self.last = last

    @classmethod
    def example_arguments(cls):
        return {"last": nn.Sigmoid()}


@mutants("causal")
class WholeClip(GoodEnhancer):
    def scale(self, batch):
        return super().scale(batch) + batch.noisy.square().sum(dim=1, keepdim=True)


@mutants("devices")
class MakesTensorsOnTheCPU(GoodEnhancer):
    def scale(self, batch):
        frames = batch.valid.shape[1]
        return super().scale(batch) / torch.arange(1, frames + 1)


@mutants("hostile_input")
class DividesBySilence(GoodEnhancer):
    causal = False

    def scale(self, batch):
        return super().scale(batch) / batch.noisy.abs().amax(dim=1, keepdim=True)


@mutants("complexity")
class ComparesAllFrames(GoodEnhancer):
    def scale(self, batch):
        light = (super().seen(batch) * self.brightness(batch))[..., None]
        return super().scale(batch) + 1e-3 * (torch.tril(light @ light.mT) @ light)[..., 0]

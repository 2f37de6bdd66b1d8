"""Priors with one fault each: most are variational auto-encoders, and there is one good prior of each other family."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.prior import Gaussian, LatentPrior, ScorePrior, SwitchingPrior
from mutants import Mutant, any_number

FLOOR = 1e-10


class TinyVAE(LatentPrior):
    """One linear layer each way, the video added to the latent.

    Arguments
    ---------
    latent_dim : int
    """

    causal = True

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
        return self.decoder(self.look(latent, context)).clamp(-20, 20)

    def look(self, latent, context):
        return latent

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
        nll = (power * (-log_variance).exp() + log_variance).mean(dim=2)
        divergence = posterior.divergence(self.prior(latent, context))
        terms = {n: t[context.mask].mean() for n, t in (("nll", nll), ("divergence", divergence))}
        return {"loss": terms["nll"] + terms["divergence"], **terms}


class TinyScore(ScorePrior):
    """Speech as a Gaussian with one learned level per bin, raised where a mouth is seen."""

    causal = True

    def __init__(self) -> None:
        super().__init__()
        self.level, self.light = nn.Parameter(torch.rand(self.bins)), nn.Parameter(torch.rand(()))

    def visual_features(self, batch):
        light = batch.mouth.to(self.light.dtype).mean(dim=(2, 3)) / 255
        return torch.where(batch.valid, light, torch.zeros_like(light))[..., None]

    def marginal(self, time):
        """See `ScorePrior.marginal`: shape (batch,)."""
        return (-time).exp(), (1 - (-2 * time).exp()).clamp(min=1e-4).sqrt()

    def drift_and_diffusion(self, state, time):
        """See `ScorePrior.drift_and_diffusion`."""
        return -state, torch.full_like(time, 2.0).sqrt()

    def score(self, state, time, context):
        """See `ScorePrior.score`."""
        level = self.level.exp().expand(state.shape)
        if context.video is not None:
            level = torch.where(context.valid[..., None], level + self.light.exp() * context.video, level)
        scale, std = (one[:, None, None] for one in self.marginal(time))
        return -state / (scale.square() * level + std.square())

    def loss(self, batch):
        """See `Prior.loss`."""
        context, spectrum = self.context(batch), self.analyse(batch.clean)
        time = 0.1 + 0.8 * torch.rand(len(batch), dtype=batch.clean.dtype).to(batch.clean.device)
        scale, std = (one[:, None, None] for one in self.marginal(time))
        noise = torch.randn_like(spectrum)
        score = self.score(scale * spectrum + std * noise, time, context)
        error = (std * score + noise).abs().square().mean(dim=2)
        return {"loss": error[context.mask].mean()}


class TinySwitch(SwitchingPrior):
    """Two small auto-encoders and a learned chain between them."""

    causal = True

    def __init__(self) -> None:
        super().__init__()
        self.components = nn.ModuleList([TinyVAE(2), TinyVAE(3)])
        self.first, self.next = nn.Parameter(torch.rand(2)), nn.Parameter(torch.rand(2, 2))

    def switch(self):
        """See `SwitchingPrior.switch`: shapes (components,) and (components, components)."""
        return self.tables()

    def tables(self):
        return self.first.log_softmax(0), self.next.log_softmax(1)

    def loss(self, batch):
        """See `Prior.loss`."""
        losses = torch.stack([component.loss(batch)["loss"] for component in self.components])
        initial, transition = self.tables()
        return {"loss": (initial.exp() * losses).sum() + (transition.exp() * losses).sum(dim=1).mean()}


mutants = Mutant("prior", TinyVAE, TinyScore, TinySwitch)


@mutants("documented")
class Undocumented(TinyVAE):
    pass


@mutants("loss")
class LossByClip(TinyVAE):
    def loss(self, batch):
        return {**super().loss(batch), "length": batch.lengths.float()}


@mutants("loss")
class LossOverPadding(TinyVAE):
    def loss(self, batch):
        return super().loss(replace(batch, lengths=torch.full_like(batch.lengths, batch.clean.shape[1])))


@mutants("loss")
class ScoreLossOverPadding(TinyScore):
    def loss(self, batch):
        return super().loss(replace(batch, lengths=torch.full_like(batch.lengths, batch.clean.shape[1])))


class WithSigns(TinyVAE):
    """A variational auto-encoder whose bound has signs.

    Arguments
    ---------
    latent_dim : int
    """

    signs = 1, 1

    def loss(self, batch):
        terms = super().loss(batch)
        return {**terms, "loss": self.signs[0] * terms["nll"] + self.signs[1] * terms["divergence"]}


@mutants("evidence_bound")
class RewardsDivergence(WithSigns):
    signs = 1, -1


@mutants("evidence_bound")
class MaximisesTheNegativeLikelihood(WithSigns):
    signs = -1, 1


@mutants("domain")
class TwiceAsLoud(TinyVAE):
    def analyse(self, audio):
        return 2 * super().analyse(audio)


@mutants("shapes")
class OnePriorForAllSteps(TinyVAE):
    def prior(self, latent, context):
        return super().prior(latent[:, :1], context)


@mutants("shapes")
class DiffusionOfSteps(TinyScore):
    def drift_and_diffusion(self, state, time):
        drift, diffusion = super().drift_and_diffusion(state, time)
        return drift, diffusion[:, None]


@mutants("shapes", "unrolled")
class SwitchOfThree(TinySwitch):
    def switch(self):
        initial, transition = super().switch()
        return F.pad(initial, (0, 1), value=-torch.inf), transition


@mutants("past_only")
class KnowsItsOwnStep(TinyVAE):
    def prior(self, latent, context):
        return Gaussian(0.5 * latent, torch.zeros_like(latent))


@mutants("switch")
class NotNormalised(TinySwitch):
    def switch(self):
        return tuple(0.5 + table for table in super().switch())


@mutants("padding", "loss")
class CountsEmptySteps(TinyVAE):
    def look(self, latent, context):
        return latent + context.mask.shape[1] - context.mask.sum(dim=1).max()


@mutants("batch_equals_singles", "unrolled")
class CountsClips(TinyVAE):
    def look(self, latent, context):
        return latent + 0.1 * len(latent)


@mutants("no_video_is_audio_only")
class LooksAnyway(TinyVAE):
    light = 0.0

    def context(self, batch):
        self.light = 0.0 if batch.valid.any() else batch.mouth.float().mean().item() / 255
        return super().context(batch)

    def look(self, latent, context):
        return latent + self.light


@mutants("invalid_frames_ignored")
class RemembersTheBrightest(TinyVAE):
    def visual_features(self, batch):
        light = batch.mouth.to(self.eye.weight.dtype).mean(dim=(2, 3)) / 255
        return light.amax(dim=1, keepdim=True).expand_as(light)[..., None]


@mutants("gradients")
class IdleLayer(TinyVAE):
    def __init__(self, latent_dim: int = 3) -> None:
        super().__init__(latent_dim)
        self.unused = nn.Linear(2, 2)


@mutants("precision", "unrolled")
class AlwaysSingle(TinyVAE):
    def decode(self, latent, context):
        return super().decode(latent, context).half().float()  # so coarse that finite differences tell it


@mutants("weights_round_trip")
class Forgets(TinyVAE):
    def __init__(self, latent_dim: int = 3) -> None:
        super().__init__(latent_dim)
        self.scale = torch.rand(()).item()

    def look(self, latent, context):
        return self.scale * latent


@mutants("repeatable")
class OwnSeed(TinyVAE):
    def __init__(self, latent_dim: int = 3) -> None:
        super().__init__(latent_dim)
        nn.init.constant_(self.decoder.bias, any_number())


@mutants("recipe_round_trip")
class TakesAFunction(TinyVAE):
    """One linear layer each way, the video added to the latent.

    Arguments
    ---------
    latent_dim : int
    how : callable
    """

    def __init__(self, latent_dim: int = 3, how=None) -> None:
        super().__init__(latent_dim)

    @classmethod
    def example_arguments(cls):
        return {"how": torch.tanh}


@mutants("causal")
class LooksAhead(TinyVAE):
    def look(self, latent, context):
        return F.pad((latent * context.mask[..., None])[:, 1:], (0, 0, 0, 1))


@mutants("devices")
class MakesTensorsOnTheCPU(TinyVAE):
    def look(self, latent, context):
        return latent * torch.linspace(0.5, 1.0, self.latent_dim, dtype=latent.dtype)


@mutants("hostile_input")
class Overflows(TinyVAE):
    def encode(self, power, context):
        posterior = super().encode(power, context)
        return Gaussian(posterior.mean + 1e-12 * power.mean(dim=2, keepdim=True).pow(4), posterior.log_variance)


@mutants("complexity")
class ComparesAllSteps(TinyVAE):
    def look(self, latent, context):
        return latent + 1e-4 * torch.tril(latent @ latent.mT) @ latent


@mutants("unrolled")
class DecodesWithoutGradient(TinyVAE):
    def decode(self, latent, context):
        return super().decode(latent.detach(), context)

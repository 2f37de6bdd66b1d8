"""Visual front-ends with one fault each."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.visual_frontend import VisualFrontend
from mutants import Mutant, any_number


class GoodFrontend(VisualFrontend):
    """Mean of the upper and of the lower half, through a layer.

    Arguments
    ---------
    output_dim : int
    """

    causal = True

    def __init__(self, output_dim: int = 4) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.layer = nn.Linear(2, output_dim)

    def halves(self, mouth, valid):
        return torch.stack([mouth[:, :, :44].mean((2, 3)), mouth[:, :, 44:].mean((2, 3))], dim=2)

    def features(self, mouth, valid):
        """See `VisualFrontend.features`."""
        return self.layer(self.halves(mouth, valid))


mutants = Mutant("visual_frontend", GoodFrontend)


@mutants("documented")
class Undocumented(GoodFrontend):
    pass


@mutants("shapes")
class FixedSize(GoodFrontend):
    def __init__(self, output_dim: int = 4) -> None:
        super().__init__(4)


@mutants("padding")
class CountsEmptyFrames(GoodFrontend):
    causal = False

    def halves(self, mouth, valid):
        return super().halves(mouth, valid) + valid.shape[1] - valid.sum(dim=1).max()


@mutants("batch_equals_singles")
class NormalisesTheBatch(GoodFrontend):
    def halves(self, mouth, valid):
        halves = super().halves(mouth, valid)
        return halves - halves.mean(dim=0, keepdim=True)


@mutants("no_video_is_audio_only")
class SaysThatItSeesNothing(GoodFrontend):
    def forward(self, mouth, valid):
        features = super().forward(mouth, valid)
        return features if valid.any() else features + 1.0


@mutants("invalid_frames_ignored")
class ReadsInvalidNeighbours(GoodFrontend):
    def forward(self, mouth, valid):
        mouth = mouth.to(self.layer.weight.dtype) / 255
        mouth = mouth + F.pad(mouth[:, :-1], (0, 0, 0, 0, 1, 0))
        return torch.where(valid[..., None], self.features(mouth, valid), 0)


@mutants("sees")
class Blind(GoodFrontend):
    def halves(self, mouth, valid):
        return torch.ones_like(super().halves(mouth, valid))


@mutants("gradients")
class IdleLayer(GoodFrontend):
    def __init__(self, output_dim: int = 4) -> None:
        super().__init__(output_dim)
        self.unused = nn.Linear(2, 2)


@mutants("precision")
class AlwaysSingle(GoodFrontend):
    def features(self, mouth, valid):
        return super().features(mouth, valid).float()


@mutants("weights_round_trip")
class Forgets(GoodFrontend):
    def __init__(self, output_dim: int = 4) -> None:
        super().__init__(output_dim)
        self.scale = torch.rand(()).item()

    def halves(self, mouth, valid):
        return self.scale * super().halves(mouth, valid)


@mutants("repeatable")
class OwnSeed(GoodFrontend):
    def __init__(self, output_dim: int = 4) -> None:
        super().__init__(output_dim)
        nn.init.constant_(self.layer.weight, any_number())


@mutants("recipe_round_trip")
class TakesATensor(GoodFrontend):
    """Weighs the halves.

    Arguments
    ---------
    output_dim : int
    weights : tensor
    """

    def __init__(self, output_dim: int = 4, weights=None) -> None:
        super().__init__(output_dim)
        self.register_buffer("weights", weights)

    @classmethod
    def example_arguments(cls):
        return {"weights": torch.ones(2)}


@mutants("causal")
class LooksAhead(GoodFrontend):
    def halves(self, mouth, valid):
        return F.pad(super().halves(mouth, valid)[:, 1:], (0, 0, 0, 1))


@mutants("streams")
class ForgetsTheBlockBefore(GoodFrontend):
    streams = True

    def halves(self, mouth, valid):
        return F.pad(super().halves(mouth, valid)[:, :-1], (0, 0, 1, 0))


@mutants("devices")
class MakesTensorsOnTheCPU(GoodFrontend):
    def halves(self, mouth, valid):
        return super().halves(mouth, valid) * torch.linspace(0.5, 1.0, 2, dtype=mouth.dtype)


@mutants("hostile_input")
class DividesBySpread(GoodFrontend):
    def halves(self, mouth, valid):
        return super().halves(mouth, valid) / mouth.std(dim=(2, 3))[..., None]


@mutants("complexity")
class ComparesAllFrames(GoodFrontend):
    def halves(self, mouth, valid):
        halves = super().halves(mouth, valid)
        return halves + 1e-3 * torch.tril(halves @ halves.mT) @ halves

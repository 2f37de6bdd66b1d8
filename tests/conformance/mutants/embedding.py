"""Embeddings with one fault each."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.embedding import Embedding
from mutants import Mutant, any_number


class Words(Embedding):
    """Counts letters."""

    modalities = ("text",)
    output_dim = 26

    def embed(self, items, modality):
        """See `Embedding.embed`: shape (batch, output_dim)."""
        counts = [[1e-3 + item.lower().count(chr(97 + letter)) for letter in range(26)] for item in items]
        return F.normalize(torch.tensor(counts), dim=1)


class Sounds(Embedding):
    """How loud a sound is, and how loud its changes are, through a layer."""

    modalities = ("sound",)
    output_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def tensors(self, items):
        return [torch.as_tensor(item, dtype=self.layer.weight.dtype).to(self.layer.weight.device) for item in items]

    def level(self, sound):
        return torch.log1p(torch.stack([sound.square().mean(), sound.diff().square().mean()]))

    def describe(self, sounds):
        return torch.stack([self.level(sound) for sound in sounds])

    def embed(self, items, modality):
        """See `Embedding.embed`: shape (batch, output_dim)."""
        return self.normalised(self.layer(self.describe(self.tensors(items))))

    def normalised(self, vectors):
        return F.normalize(vectors, dim=1)


mutants = Mutant("embedding", Words, Sounds)


@mutants("documented")
class Undocumented(Sounds):
    pass


@mutants("shapes")
class OtherSize(Sounds):
    output_dim = 5


@mutants("unit_length")
class TwiceAsLong(Sounds):
    def normalised(self, vectors):
        return 2 * super().normalised(vectors)


@mutants("tells_apart")
class Deaf(Sounds):
    def level(self, sound):
        return super().level(0 * sound + 1)


@mutants("padding")
class AveragesOverPadding(Sounds):
    def tensors(self, items):
        sounds = super().tensors(items)
        longest = max(map(len, sounds))
        return [F.pad(sound, (0, longest - len(sound))) for sound in sounds]


@mutants("batch_equals_singles")
class NormalisesEqualLengths(Sounds):
    def describe(self, sounds):
        levels = super().describe(sounds)
        alike = len(sounds) > 1 and len({len(sound) for sound in sounds}) == 1
        return levels - levels.mean(dim=0) if alike else levels


@mutants("refuses_modality")
class TakesAll(Sounds):
    def forward(self, items, modality):
        return self.embed(items, modality)


@mutants("classes")
class ForgetsItsClasses(Sounds):
    classes = ("rain",)

    def __init__(self) -> None:
        super().__init__()
        self.centroids = torch.eye(1, 4)


@mutants("classes")
class LongCentroids(Sounds):
    classes = ("rain",)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centroids", torch.full((1, 4), 2.0))


@mutants("gradients")
class IdleLayer(Sounds):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)


@mutants("precision")
class AlwaysSingle(Sounds):
    def tensors(self, items):
        return [sound.float() for sound in super().tensors(items)]


@mutants("weights_round_trip")
class Forgets(Sounds):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.rand(()).item()

    def describe(self, sounds):
        return self.factor * super().describe(sounds)


@mutants("repeatable")
class OwnSeed(Sounds):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.layer.bias[:2], any_number())


@mutants("recipe_round_trip")
class TakesAFunction(Sounds):
    """How loud a sound is, and how loud its changes are, through a layer.

    Arguments
    ---------
    how : callable
    """

    def __init__(self, how) -> None:
        super().__init__()

    @classmethod
    def example_arguments(cls):
        return {"how": torch.tanh}


@mutants("devices")
class StaysOnTheCPU(Sounds):
    def tensors(self, items):
        return [torch.as_tensor(item, dtype=self.layer.weight.dtype) for item in items]


@mutants("hostile_input")
class DividesBySilence(Sounds):
    def level(self, sound):
        return super().level(sound / sound.square().mean().sqrt())


@mutants("complexity")
class ComparesAllMoments(Sounds):
    def level(self, sound):
        moments = sound[: len(sound) // 160 * 160].unflatten(0, (-1, 160)).mean(dim=1)
        return super().level(sound) + 0 * torch.outer(moments, moments).mean()

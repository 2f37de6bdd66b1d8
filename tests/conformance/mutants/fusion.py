"""Fusions with one fault each."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from mutants import Mutant, any_number


class GoodFusion(Fusion):
    """Adds a projection of the video.

    Arguments
    ---------
    audio_dim, video_dim : int
    """

    causal = True

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.layer = nn.Linear(video_dim, audio_dim)

    def delta(self, audio, video, valid):
        """See `Fusion.delta`."""
        return self.layer(self.look(video)), audio.new_ones(audio.shape[:2])

    def look(self, video):
        return video


mutants = Mutant("fusion", GoodFusion)


@mutants("documented")
class Undocumented(GoodFusion):
    pass


@mutants("shapes")
class FixedSize(GoodFusion):
    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.layer = nn.Linear(6, 8)


@mutants("reliability")
class Unbounded(GoodFusion):
    def delta(self, audio, video, valid):
        return self.layer(video), video.mean(dim=2)


@mutants("audio_reliability")
class UnboundedOfAudio(GoodFusion):
    tells_audio = True

    def audio_reliability(self, audio):
        """See `Fusion.audio_reliability`."""
        return audio.mean(dim=2)


@mutants("audio_reliability")
class OfAudioWithoutSayingSo(GoodFusion):
    def audio_reliability(self, audio):
        """See `Fusion.audio_reliability`."""
        return audio.mean(dim=2).sigmoid()


@mutants("no_video_is_audio_only")
class GatedBeforeTheBias(GoodFusion):
    def forward(self, audio, video, valid):
        fused, reliability = super().forward(audio, video, valid)
        return (fused if valid.any() else audio + self.layer.bias), reliability


@mutants("invalid_frames_ignored")
class ReadsInvalidNeighbours(GoodFusion):
    def forward(self, audio, video, valid):
        before = F.pad(video[:, :-1], (0, 0, 1, 0))
        fused = torch.where(valid[..., None], audio + self.layer(video + before), audio)
        return fused, valid.to(audio.dtype)


@mutants("padding")
class CountsEmptySteps(GoodFusion):
    causal = False

    def delta(self, audio, video, valid):
        empty = valid.shape[1] - valid.sum(dim=1).max()  # right while the longest clip fills the batch
        return self.layer(video) + empty, audio.new_ones(audio.shape[:2])


@mutants("batch_equals_singles")
class NormalisesTheBatch(GoodFusion):
    def look(self, video):
        return video - video.mean(dim=0, keepdim=True)


@mutants("gradients")
class IdleLayer(GoodFusion):
    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.unused = nn.Linear(2, 2)


@mutants("precision")
class SingleReliability(GoodFusion):
    def delta(self, audio, video, valid):
        return self.layer(video), audio.new_ones(audio.shape[:2]).float()


@mutants("weights_round_trip")
class Forgets(GoodFusion):
    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.scale = torch.rand(()).item()  # neither a parameter nor a buffer

    def look(self, video):
        return self.scale * video


@mutants("repeatable")
class OwnSeed(GoodFusion):
    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        nn.init.constant_(self.layer.weight, any_number())


@mutants("recipe_round_trip")
class TakesAFunction(GoodFusion):
    """Adds a projection of the video.

    Arguments
    ---------
    audio_dim, video_dim : int
    how : callable
    """

    def __init__(self, audio_dim: int, video_dim: int, how=torch.tanh) -> None:
        super().__init__(audio_dim, video_dim)
        self.how = how

    @classmethod
    def example_arguments(cls):
        return {**super().example_arguments(), "how": torch.relu}


@mutants("recipe_round_trip")
class TurnsAnArgumentIntoAnother(GoodFusion):
    """Adds a projection of the video.

    Arguments
    ---------
    audio_dim, video_dim : int
    sizes : tuple of int
    """

    def __init__(self, audio_dim: int, video_dim: int, sizes=(1, 2)) -> None:
        super().__init__(audio_dim, video_dim)
        self.extra = nn.ParameterList() if isinstance(sizes, tuple) else nn.Module()
        self.extra.register_buffer("size", torch.zeros(len(sizes) if isinstance(sizes, tuple) else 1))

    @classmethod
    def example_arguments(cls):
        return {**super().example_arguments(), "sizes": (3, 4)}


@mutants("causal")
class LooksAhead(GoodFusion):
    def look(self, video):
        return F.pad(video[:, 1:], (0, 0, 0, 1))


@mutants("streams")
class ForgetsTheBlockBefore(GoodFusion):
    streams = True

    def look(self, video):
        return F.pad(video[:, :-1], (0, 0, 1, 0))


@mutants("devices")
class MakesTensorsOnTheCPU(GoodFusion):
    def look(self, video):
        return video / torch.arange(1, video.shape[1] + 1, dtype=video.dtype)[:, None]


@mutants("devices")
class KeepsATensorAsAttribute(GoodFusion):
    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.weights = [torch.linspace(0.5, 1.0, video_dim)]

    def look(self, video):
        return video * self.weights[0].to(video.dtype)


@mutants("devices")
class ReadsAsNumPy(GoodFusion):
    def look(self, video):
        return video * (1.0 + float(video.detach().double().numpy().shape[1] > 0))


@mutants("hostile_input")
class Explodes(GoodFusion):
    def delta(self, audio, video, valid):
        return self.layer(video).exp(), audio.new_ones(audio.shape[:2])


@mutants("complexity")
class ComparesAllSteps(GoodFusion):
    def look(self, video):
        return video + 1e-3 * torch.tril(video @ video.mT) @ video

"""The network of all diffusion models: a noisy complex spectrum and its noise level in, speech out."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from avse.contracts.prior import Context

SIZES = {"tiny": (32, 2, 2), "small": (192, 5, 12), "medium": (448, 6, 16), "large": (960, 8, 24)}
"""Width, blocks and planes: about 0.05, 1, 5 and 28 million parameters."""
_EMBEDDING = 64
_DILATIONS = (1, 2, 4, 8)
_KERNEL = 5
_TINY = 1e-6
_Layer = TypeVar("_Layer", bound=nn.Module)
_WIDEST = 5.0  # of the logarithm of the variance, beside that of a Gaussian


class Denoised(NamedTuple):
    """What a `ScoreNetwork` says of speech.

    Attributes
    ----------
    mean : tensor, shape (batch, frames, bins), complex
        Zero beyond each clip's end.
    variance : tensor, shape (batch, frames, bins)
        Of real and imaginary part together. No gradient passes from it to the mean, nor to what both share.
    reliability : tensor, shape (batch, frames), in [0, 1]
        How far the video is trusted, on average over the places where it enters; zero where no video is valid.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    reliability: torch.Tensor


class ScoreNetwork(nn.Module):
    """E[s | y] for y = s + r z, z white and r known: time convolutions with all bins as channels, then 3 x 3 ones.

        trunk    y, log r -> linear -> blocks, each told the noise level, the video added between them -> linear
        mean     G y + r sqrt(G) (offset + refined),   G = P / (P + r^2)
        variance r^2 G exp(u)

    The trunk sees far (about 0.8 s to either side) and says how strong speech is in each bin, P, and where it is, the
    offset; the convolutions at full resolution see how phases go on from one step and bin to the next. If speech were
    Gaussian with the power P, then G y and r sqrt(G) would be mean and deviation of its posterior, so that what has to
    be learned is bounded, loud bins and silent ones alike (the preconditioning of Karras et al., 2022, is the case of P
    the same everywhere). How far speech really is from the mean, u, is read from the trunk by a layer that the rest
    does not learn from. Nearly all work is matrix products, which a CPU does fast.

    A supervised network is given the noisy sound x beside y, which is speech and noise whose power N the trunk tells as
    well. Mean and deviation are then those of speech between two noisy observations:

        mean     D (y / r^2 + x / N) + sqrt(D) (offset + refined),   1 / D = 1 / P + 1 / r^2 + 1 / N

    What it has beyond the network of a prior begins at zero, so that a prior's weights are a good beginning.

    Arguments
    ---------
    bins : int
    size : str
        `small`, `medium` or `large`: about 1, 5 and 28 million parameters; `tiny` is for tests.
    fusion : Fusion or None
        How video enters; copied for each of the `places`. Its `audio_dim` must be `width_of(size)`.
    places : int
        How many times the video enters, spread evenly over the blocks.
    given : int
        How many further spectra it is given beside the noisy one (a supervised model is given the noisy sound).
    data_std : float
        Deviation of speech: where P begins.

    Example
    -------
    >>> network = ScoreNetwork(bins=9, size="tiny")
    >>> context = Context(torch.ones(2, 6).bool(), torch.zeros(2, 6).bool())
    >>> found = network(torch.randn(2, 6, 9, dtype=torch.complex64), torch.ones(2), context)
    >>> found.mean.shape, found.variance.shape, found.reliability.shape
    (torch.Size([2, 6, 9]), torch.Size([2, 6, 9]), torch.Size([2, 6]))
    """

    def __init__(
        self,
        bins: int,
        size: str = "small",
        fusion: Fusion | None = None,
        places: int = 3,
        given: int = 0,
        data_std: float = 0.1,
    ) -> None:
        super().__init__()
        width, blocks, planes = SIZES[size]
        self.bins, self.width, self.data_std = bins, width, data_std
        self.level = nn.Sequential(
            nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU(), nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU()
        )
        self.enter = nn.Linear(3 * bins, width)
        self.blocks = nn.ModuleList(_Block(width, _DILATIONS[i % len(_DILATIONS)]) for i in range(blocks))
        count = min(places, blocks) if fusion is not None else 0
        self.places = [(i * blocks) // count for i in range(count)]
        self.fusions = nn.ModuleList(GatedFusion(deepcopy(fusion)) for _ in self.places)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 3 * bins)
        self.spread = nn.Linear(width, bins)
        self.refine = _Refinement(6, planes, 2 * given)
        self.enter_given = _zero(nn.Linear(3 * bins * given, width, bias=False)) if given else None
        self.rest = _zero(nn.Linear(width, bins * given)) if given else None

    def forward(
        self, noisy: torch.Tensor, ratio: torch.Tensor, context: Context, given: torch.Tensor | None = None
    ) -> Denoised:
        """Speech as it is to be expected, how sure that is, and how far the video was trusted.

        Arguments
        ---------
        noisy : tensor, shape (batch, frames, bins), complex
            Speech plus white noise.
        ratio : tensor, shape (batch,)
            Deviation of the noise.
        context : Context
        given : tensor, shape (batch, given, frames, bins), complex, or None

        Returns
        -------
        Denoised
        """
        hidden, embedding, parts, reliability = self._trunk(noisy, ratio, context, given)
        hidden = self.norm(hidden)
        power, real, imaginary = self.leave(hidden).unflatten(2, (3, self.bins)).unbind(dim=2)
        beside = 2 * (math.log(self.data_std) - ratio.log())[:, None, None]  # log(d^2 / r^2)
        # Speech, then each observation: the logarithms of r^2 / P, 1, r^2 / N; their softmax weighs what each knows.
        level = 2 * power.to(noisy.real.dtype) + beside
        precisions = [-level, torch.zeros_like(level)]
        observed = [noisy]
        if given is not None and self.rest is not None:
            rest = self.rest(hidden).unflatten(2, (-1, self.bins)).movedim(2, 1).to(level)
            precisions += list((-2 * rest - beside[:, None]).unbind(dim=1))
            observed += list(given.unbind(dim=1))
        _, gain, *gains = torch.stack(precisions).softmax(dim=0).unbind()  # gain: D / r^2
        known = sum((share * seen for share, seen in zip(gains, observed[1:])), gain * noisy)
        offset = torch.stack([real, imaginary], dim=1)
        own, others = parts[:, :2], parts[:, 2:]
        planes = torch.cat([own, gain.to(parts.dtype)[:, None] * own, offset], dim=1)
        offset = (offset + self.refine(planes, others, embedding, context.mask)).to(noisy.real.dtype)
        found = known + ratio[:, None, None] * gain.sqrt() * torch.complex(offset[:, 0], offset[:, 1])
        spread = self.spread(hidden.detach()).to(noisy.real.dtype).clamp(-_WIDEST, _WIDEST)
        variance = ratio.square()[:, None, None] * (gain.detach().clamp(min=_TINY) * spread.exp())
        return Denoised(torch.where(context.mask[..., None], found, found.new_zeros(())), variance, reliability)

    def features(
        self, noisy: torch.Tensor, ratio: torch.Tensor, context: Context, given: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the last block says of each step; arguments as in `forward`.

        Returns
        -------
        tensor, shape (batch, frames, width)
        """
        return self.norm(self._trunk(noisy, ratio, context, given)[0])

    def _trunk(
        self, noisy: torch.Tensor, ratio: torch.Tensor, context: Context, given: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        dtype = self.enter.weight.dtype
        scaled = noisy / (ratio.square() + self.data_std**2).sqrt()[:, None, None]
        spectra = scaled[:, None]
        if given is not None:
            spectra = torch.cat([spectra, given / self.data_std], dim=1)
        mask = context.mask[:, :, None]
        spectra = torch.where(mask[:, None], spectra, spectra.new_zeros(()))
        parts = torch.view_as_real(spectra).movedim(-1, 2).to(dtype)  # batch, spectra, 2, steps, bins
        loudness = (parts.square().sum(dim=2, keepdim=True) + 1e-3).log() / 4
        entering = torch.cat([parts, loudness], dim=2).movedim(3, 1).flatten(3)  # batch, steps, spectra, 3 bins
        embedding = self.level(_waves(ratio.log().to(dtype)))
        hidden = self.enter(entering[:, :, 0])
        if self.enter_given is not None:
            hidden = hidden + self.enter_given(entering[:, :, 1:].flatten(2))
        hidden = hidden * mask
        fusions = dict(zip(self.places, self.fusions))
        reliability = hidden.new_zeros(hidden.shape[:2])
        for number, block in enumerate(self.blocks):
            if number in fusions and context.video is not None:
                hidden, trusted = fusions[number](hidden, context.video, context.valid)
                reliability = reliability + trusted / len(fusions)
            hidden = block(hidden, embedding, mask)
        return hidden, embedding, parts.flatten(1, 2), reliability


def width_of(size: str) -> int:
    """Features per step of a network of a size.

    >>> width_of("small")
    192
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}.")
    return SIZES[size][0]


class GatedFusion(nn.Module):
    """A fusion whose contribution is normalised, then gated by its reliability, and begins at zero.

        h + r * linear(norm(delta(h, v)))

    The norm comes before the gate: a norm behind it would scale up to full strength what no evidence speaks for.

    Arguments
    ---------
    fusion : Fusion
    """

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion
        self.norm = nn.LayerNorm(fusion.audio_dim, elementwise_affine=False)
        self.out = _zero(nn.Linear(fusion.audio_dim, fusion.audio_dim, bias=False))

    def forward(
        self, hidden: torch.Tensor, video: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse.

        Arguments
        ---------
        hidden : tensor, shape (batch, frames, width)
        video : tensor, shape (batch, frames, dim)
            Zero where not valid.
        valid : tensor, shape (batch, frames), bool

        Returns
        -------
        fused : tensor, shape (batch, frames, width)
            `hidden`, bit for bit, where no video is valid.
        reliability : tensor, shape (batch, frames), in [0, 1]
        """
        delta, reliability = self.fusion.delta(hidden, video.to(hidden.dtype), valid)
        reliability = torch.where(valid, reliability, reliability.new_zeros(()))
        added = reliability[..., None] * self.out(self.norm(delta))
        return torch.where(valid[..., None], hidden + added, hidden), reliability


class _Block(nn.Module):
    """Norm, set by the noise level; depthwise convolution over time; gated linear layers; added to what came in."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(_EMBEDDING, 2 * width)
        self.depthwise = nn.Conv1d(
            width, width, _KERNEL, groups=width, dilation=dilation, padding=dilation * (_KERNEL // 2)
        )
        self.gate = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulate(embedding)[:, None].chunk(2, dim=2)
        normed = (self.norm(hidden) * (1 + scale) + shift) * mask
        local = self.depthwise(normed.transpose(1, 2)).transpose(1, 2)
        return hidden + self.out(F.glu(self.gate(local), dim=2))


class _Refinement(nn.Module):
    """Convolutions over steps and bins at full resolution, told the noise level; beginning at zero."""

    def __init__(self, entering: int, planes: int, given: int = 0) -> None:
        super().__init__()
        self.enter = nn.Conv2d(entering, planes, 3, padding=1)
        self.enter_given = _zero(nn.Conv2d(given, planes, 3, padding=1, bias=False)) if given else None
        self.modulate = nn.Linear(_EMBEDDING, 2 * planes)
        self.middle = nn.Conv2d(planes, planes, 3, padding=1)
        self.leave = _zero(nn.Conv2d(planes, 2, 3, padding=1))

    def forward(
        self, planes: torch.Tensor, given: torch.Tensor, embedding: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        mask = mask[:, None, :, None]
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        entered = self.enter(planes * mask)
        if self.enter_given is not None:
            entered = entered + self.enter_given(given * mask)
        hidden = F.silu(entered * (1 + scale) + shift)
        hidden = F.silu(self.middle(hidden * mask))
        return self.leave(hidden * mask)


def _zero(layer: _Layer) -> _Layer:
    """A layer that says nothing until it has learned."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _waves(level: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of a noise level, shape (batch,) to (batch, embedding)."""
    rates = torch.logspace(-1.0, 1.0, _EMBEDDING // 2, dtype=level.dtype, device=level.device)
    angle = level[:, None] * rates * math.pi / 2
    return torch.cat([angle.sin(), angle.cos()], dim=1)

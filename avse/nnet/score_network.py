"""The network of all diffusion models: from a complex spectrum with white noise, and its level, to speech."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.nnet.video_input import VideoInput

SIZES = {
    "tiny": (32, 2, 2),
    "compact": (128, 4, 8),
    "small": (192, 5, 12),
    "medium": (448, 6, 16),
    "large": (960, 8, 24),
}
"""Width, blocks and planes: about 0.05, 0.6, 1, 5 and 28 million parameters."""
DATA_STD = 0.1
"""Standard deviation of speech in the compressed spectrum, roughly."""
_EMBEDDING = 64
_DILATIONS = (1, 2, 4, 8)
_KERNEL = 5
_PLACES = 3  # where video enters, spread evenly over the blocks
_TINY = 1e-6
_WIDEST = 5.0  # absolute value of the logarithm of the variance, relative to that of a Gaussian
_Layer = TypeVar("_Layer", bound=nn.Module)


def width_of(size: str) -> int:
    """Features of a frame in a network of a size.

    >>> width_of("small")
    192
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}.")
    return SIZES[size][0]


def video_input_of(
    visual_frontend: VisualFrontend | VisualFrontendFactory | None,
    fusion: Fusion | FusionFactory | None,
    size: str,
    fft_size: int,
    hop: int,
) -> VideoInput:
    """The `VideoInput` of a network of a size; arguments as there."""
    return VideoInput(
        visual_frontend,
        fusion,
        width_of(size),
        fft_size,
        hop,
        places=list(_places(size).values()),
        normalised=True,
        what=f"the width of a {size} network",
    )


class Denoised(NamedTuple):
    """What a `ScoreNetwork` estimates of speech.

    Attributes
    ----------
    mean : tensor, shape (batch, frames, bins), complex
        Zero beyond each clip's end.
    variance : tensor, shape (batch, frames, bins)
        Of real and imaginary part together. No gradient passes from it to the mean, nor to what both share.
    reliability : tensor, shape (batch, frames), in [0, 1]
        Of the video, on average over the places where it enters; zero where no video is valid.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    reliability: torch.Tensor


class ScoreNetwork(nn.Module):
    """E[s | y] for y = s + r z, with z white and r known: time convolutions over all bins, then 3 x 3 convolutions.

        backbone   y, log r -> linear -> blocks, each told the noise level, the video added between them -> linear
        mean       G y + r sqrt(G) (offset + refined),   G = P / (P + r^2)
        variance   r^2 G exp(u)

    The backbone sees about 0.8 s to either side and estimates the power of speech in each bin, P, and the offset; the
    convolutions at full resolution follow phases from one frame and bin to the next. If speech were Gaussian with the
    power P, then G y and r sqrt(G) would be mean and standard deviation of its posterior, so that what has to be
    learned is bounded in loud and in silent bins (the preconditioning of Karras et al., 2022, is the case of one P for
    all bins). u, how far speech really is from the mean, is read from the backbone by a layer whose gradient stops
    there. Nearly all work is matrix products, which are fast on a CPU.

    A supervised network has the noisy spectrum x as a condition: speech and noise whose power N the backbone estimates
    as well. Mean and standard deviation are then those of speech under two noisy observations:

        mean       D (y / r^2 + x / N) + sqrt(D) (offset + refined),   1 / D = 1 / P + 1 / r^2 + 1 / N

    The layers for conditions begin at zero, so that the weights of a prior are a good start.

    Arguments
    ---------
    bins : int
    size : str
        `compact`, `small`, `medium` or `large`: about 0.6, 1, 5 and 28 million parameters; `tiny` is for tests.
    conditions : int
        How many further spectra it is given.
    scene_dim : int
        Features of an embedding of the scene, which it may be told by the layers that are told the noise level (FiLM),
        through one that begins at zero; 0: none.

    Example
    -------
    >>> network = ScoreNetwork(bins=9, size="tiny")
    >>> context = Context(torch.ones(2, 6).bool(), torch.zeros(2, 6).bool())
    >>> denoised = network(torch.randn(2, 6, 9, dtype=torch.complex64), torch.ones(2), context)
    >>> denoised.mean.shape, denoised.variance.shape, denoised.reliability.shape
    (torch.Size([2, 6, 9]), torch.Size([2, 6, 9]), torch.Size([2, 6]))
    """

    def __init__(self, bins: int, size: str = "small", conditions: int = 0, scene_dim: int = 0) -> None:
        super().__init__()
        width, blocks, planes = SIZES[size]
        self.bins, self.width, self.places = bins, width, _places(size)
        self.level = nn.Sequential(
            nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU(), nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU()
        )
        self.enter = nn.Linear(3 * bins, width)
        self.blocks = nn.ModuleList(_Block(width, _DILATIONS[i % len(_DILATIONS)]) for i in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 3 * bins)
        self.spread = nn.Linear(width, bins)
        self.refine = _Refinement(6, planes, 2 * conditions)
        self.enter_condition = _zero(nn.Linear(3 * bins * conditions, width, bias=False)) if conditions else None
        self.noise_level_head = _zero(nn.Linear(width, bins * conditions)) if conditions else None
        self.tell = _zero(nn.Linear(scene_dim, _EMBEDDING, bias=False)) if scene_dim else None

    def forward(
        self,
        noisy: torch.Tensor,
        ratio: torch.Tensor,
        context: Context,
        video_input: VideoInput | None = None,
        condition: torch.Tensor | None = None,
        scene: torch.Tensor | None = None,
    ) -> Denoised:
        """Mean and variance of speech, and the reliability of the video.

        Arguments
        ---------
        noisy : tensor, shape (batch, frames, bins), complex
            Speech plus white noise.
        ratio : tensor, shape (batch,)
            Standard deviation of the noise.
        context : Context
        video_input : VideoInput or None
            Of `video_input_of`. None: audio only.
        condition : tensor, shape (batch, conditions, frames, bins), complex, or None
        scene : tensor, shape (batch, scene_dim), or None
            Zeros say nothing.
        """
        hidden, embedding, parts, reliability = self._backbone(noisy, ratio, context, video_input, condition, scene)
        hidden = self.norm(hidden)
        power, real, imaginary = self.leave(hidden).unflatten(2, (3, self.bins)).unbind(dim=2)
        log_ratio = 2 * (math.log(DATA_STD) - ratio.log())[:, None, None]  # log(d^2 / r^2), d: `DATA_STD`
        # Speech, then each observation: the logarithms of r^2 / P, 1, r^2 / N; their softmax weighs the observations.
        level = 2 * power.to(noisy.real.dtype) + log_ratio
        precisions = [-level, torch.zeros_like(level)]
        observed = [noisy]
        if condition is not None and self.noise_level_head is not None:
            noise_level = self.noise_level_head(hidden).unflatten(2, (-1, self.bins)).movedim(2, 1).to(level)
            precisions += list((-2 * noise_level - log_ratio[:, None]).unbind(dim=1))
            observed += list(condition.unbind(dim=1))
        _, gain, *gains = torch.stack(precisions).softmax(dim=0).unbind()  # gain: D / r^2
        weighed = sum((weight * other for weight, other in zip(gains, observed[1:])), gain * noisy)
        offset = torch.stack([real, imaginary], dim=1)
        state, conditions = parts[:, :2], parts[:, 2:]
        planes = torch.cat([state, gain.to(parts.dtype)[:, None] * state, offset], dim=1)
        offset = (offset + self.refine(planes, conditions, embedding, context.mask)).to(noisy.real.dtype)
        mean = weighed + ratio[:, None, None] * gain.sqrt() * torch.complex(offset[:, 0], offset[:, 1])
        spread = self.spread(hidden.detach()).to(noisy.real.dtype).clamp(-_WIDEST, _WIDEST)
        variance = ratio.square()[:, None, None] * (gain.detach().clamp(min=_TINY) * spread.exp())
        return Denoised(torch.where(context.mask[..., None], mean, mean.new_zeros(())), variance, reliability)

    def features(
        self, noisy: torch.Tensor, ratio: torch.Tensor, context: Context, video_input: VideoInput
    ) -> torch.Tensor:
        """Output of the last block, shape (batch, frames, width); arguments as in `forward`."""
        return self.norm(self._backbone(noisy, ratio, context, video_input, None)[0])

    def _backbone(
        self,
        noisy: torch.Tensor,
        ratio: torch.Tensor,
        context: Context,
        video_input: VideoInput | None,
        condition: torch.Tensor | None,
        scene: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Output of the last block, embedding of the noise level, real and imaginary parts, and reliability."""
        dtype = self.enter.weight.dtype
        scaled = noisy / (ratio.square() + DATA_STD**2).sqrt()[:, None, None]
        spectra = scaled[:, None]
        if condition is not None:
            spectra = torch.cat([spectra, condition / DATA_STD], dim=1)
        mask = context.mask[:, :, None]
        spectra = torch.where(mask[:, None], spectra, spectra.new_zeros(()))
        parts = torch.view_as_real(spectra).movedim(-1, 2).to(dtype)  # batch, spectra, 2, frames, bins
        loudness = (parts.square().sum(dim=2, keepdim=True) + 1e-3).log() / 4
        entering = torch.cat([parts, loudness], dim=2).movedim(3, 1).flatten(3)  # batch, frames, spectra, 3 bins
        embedding = self.level(_waves(ratio.log().to(dtype)))
        if scene is not None and self.tell is not None:
            embedding = embedding + self.tell(scene)
        hidden = self.enter(entering[:, :, 0])
        if self.enter_condition is not None:
            hidden = hidden + self.enter_condition(entering[:, :, 1:].flatten(2))
        hidden = hidden * mask
        total = hidden.new_zeros(hidden.shape[:2])
        for number, block in enumerate(self.blocks):
            if video_input is not None and number in self.places:
                hidden, reliability = video_input.fuse(hidden, context, self.places[number])
                total = total + reliability / len(self.places)
            hidden = block(hidden, embedding, mask)
        return hidden, embedding, parts.flatten(1, 2), total


def _places(size: str) -> dict[int, str]:
    """Numbers of the blocks before which video enters, each with the name of the place."""
    blocks = SIZES[size][1]
    count = min(_PLACES, blocks)
    return {(place * blocks) // count: str(place) for place in range(count)}


class _Block(nn.Module):
    """Norm, set by the noise level; depthwise convolution over time; gated linear layers; residual."""

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
    """Convolutions over frames and bins at full resolution, told the noise level; zero before training."""

    def __init__(self, entering: int, planes: int, conditions: int = 0) -> None:
        super().__init__()
        self.enter = nn.Conv2d(entering, planes, 3, padding=1)
        self.enter_condition = _zero(nn.Conv2d(conditions, planes, 3, padding=1, bias=False)) if conditions else None
        self.modulate = nn.Linear(_EMBEDDING, 2 * planes)
        self.middle = nn.Conv2d(planes, planes, 3, padding=1)
        self.leave = _zero(nn.Conv2d(planes, 2, 3, padding=1))

    def forward(
        self, planes: torch.Tensor, conditions: torch.Tensor, embedding: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        mask = mask[:, None, :, None]
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        entered = self.enter(planes * mask)
        if self.enter_condition is not None:
            entered = entered + self.enter_condition(conditions * mask)
        hidden = F.silu(entered * (1 + scale) + shift)
        hidden = F.silu(self.middle(hidden * mask))
        return self.leave(hidden * mask)


def _zero(layer: _Layer) -> _Layer:
    """A layer whose output is zero until it has learned."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _waves(level: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of a noise level, shape (batch,) to (batch, embedding)."""
    rates = torch.logspace(-1.0, 1.0, _EMBEDDING // 2, dtype=level.dtype, device=level.device)
    angle = level[:, None] * rates * math.pi / 2
    return torch.cat([angle.sin(), angle.cos()], dim=1)

"""How video enters a network: from mouth crops to weighed features beside those of the audio."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import nn

from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context
from avse.contracts.types import SAMPLES_PER_FRAME, Batch
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.errors import AvseError
from avse.signal.stft import pool_to_video_frames, repeat_to_frames

_RELIABILITY_WEIGHT = 0.1  # per frame, beside a loss per bin


class VideoInput(nn.Module):
    """The visual front-end of a network, and the fusion at each place where video enters it.

        context = video_input.context(batch)        front-end, invalid frames blanked, repeated to frames of the STFT
        hidden, reliability = video_input.fuse(hidden, context)
        reliability = video_input.by_video_frame(reliability, batch)

    Without a front-end, and for a batch without a valid frame, `fuse` returns its input bit for bit.

    Arguments
    ---------
    visual_frontend : VisualFrontend, callable that builds one, or None
        None: audio only.
    fusion : Fusion, callable, or None
        A fusion of the right dimensions, or what builds one from `audio_dim` and `video_dim`.
    audio_dim : int
        Features of the audio where video enters.
    fft_size, hop : int
        The transform whose frames are meant, in samples.
    places : sequence of str
        Where video enters. Each place has a fusion of its own; all begin with the same weights.
    normalised : bool
        True: each fusion is a `NormalisedFusion`, which adds nothing until it has learned.
    what : str
        Whose features the audio's are, for messages: `"the prior's hidden_dim"`.

    Raises
    ------
    ValueError
        If there is a front-end without a fusion or a fusion without a front-end, or dimensions do not fit.

    Example
    -------
    >>> from avse.fusion.film import FiLM
    >>> from avse.visual_frontends.motion import Motion
    >>> video_input = VideoInput(Motion(grid=2), FiLM, audio_dim=8, fft_size=640, hop=320)
    >>> mouth = torch.randint(0, 256, (1, 5, 88, 88)).byte()
    >>> batch = Batch(torch.randn(1, 3200), torch.tensor([3200]), mouth, torch.ones(1, 5, dtype=torch.bool))
    >>> context = video_input.context(batch)
    >>> fused, reliability = video_input.fuse(torch.zeros(1, 11, 8), context)
    >>> context.video.shape, fused.shape, video_input.by_video_frame(reliability, batch).shape
    (torch.Size([1, 11, 18]), torch.Size([1, 11, 8]), torch.Size([1, 5]))
    """

    _like: torch.Tensor

    def __init__(
        self,
        visual_frontend: VisualFrontend | VisualFrontendFactory | None,
        fusion: Fusion | FusionFactory | None,
        audio_dim: int,
        fft_size: int,
        hop: int,
        *,
        places: Sequence[str] = ("main",),
        normalised: bool = False,
        what: str = "the audio's features",
    ) -> None:
        super().__init__()
        if SAMPLES_PER_FRAME % hop:
            raise ValueError(f"hop must divide {SAMPLES_PER_FRAME}, got {hop}.")
        _check_both(visual_frontend, fusion)
        self.fft_size, self.hop, self.ratio = fft_size, hop, SAMPLES_PER_FRAME // hop
        self.visual_frontend: VisualFrontend | None = None
        self.fusions = nn.ModuleDict()
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # has the precision of the weights
        if visual_frontend is None or fusion is None:
            return
        self.visual_frontend = visual_frontend if isinstance(visual_frontend, VisualFrontend) else visual_frontend()
        video_dim = self.visual_frontend.output_dim
        if not isinstance(fusion, Fusion):
            fusion = fusion(audio_dim=audio_dim, video_dim=video_dim)
        check_fusion(self.visual_frontend, fusion, audio_dim, what)
        for number, place in enumerate(places):
            copied = deepcopy(fusion) if number else fusion
            self.fusions[place] = NormalisedFusion(copied) if normalised else copied

    @property
    def sees(self) -> bool:
        """Whether there is a front-end."""
        return self.visual_frontend is not None

    @property
    def video_dim(self) -> int:
        """Features of the video; 0 without a front-end."""
        return self.visual_frontend.output_dim if self.visual_frontend is not None else 0

    @property
    def causal(self) -> bool:
        """Whether neither front-end nor fusion looks ahead."""
        return all(part.causal for part in self._parts())

    @property
    def streams(self) -> bool:
        """Whether front-end and fusions carry their state from block to block; see `Plugin`."""
        return all(part.streams for part in self._parts())

    @property
    def complexity(self) -> str:
        """`quadratic` if front-end or fusion is; see `Plugin`."""
        return "quadratic" if any(part.complexity == "quadratic" for part in self._parts()) else "linear"

    def features(self, batch: Batch) -> torch.Tensor | None:
        """Features of mouths, shape (batch, video_frames, video_dim), zero in invalid frames; None if audio only."""
        if self.visual_frontend is None:
            return None
        return self.visual_frontend(batch.mouth, batch.valid).to(self._like.dtype)

    def context(self, batch: Batch) -> Context:
        """What the network is told about a batch; see `Context.of`."""
        return Context.of(batch, self.fft_size, self.hop, self.features)

    def fuse(self, hidden: torch.Tensor, context: Context, place: str = "main") -> tuple[torch.Tensor, torch.Tensor]:
        """Add the video to the audio's features at a place.

        Arguments
        ---------
        hidden : tensor, shape (batch, frames, audio_dim)
        context : Context
        place : str

        Returns
        -------
        fused : tensor, shape (batch, frames, audio_dim)
        reliability : tensor, shape (batch, frames), in [0, 1]
            Zero where the video is not valid. The video was weighed by `Fusion.weight` of it.
        """
        if context.video is None or place not in self.fusions:
            return hidden, hidden.new_zeros(hidden.shape[:2])
        return self.fusions[place](hidden, context.video.to(hidden.dtype), context.valid)

    @property
    def tells_audio(self) -> bool:
        """See `Fusion.tells_audio`."""
        return any(fusion.tells_audio for fusion in self.fusions.values() if isinstance(fusion, Fusion))

    def audio_reliability(self, hidden: torch.Tensor, place: str = "main") -> torch.Tensor | None:
        """See `Fusion.audio_reliability`; None without video."""
        if place not in self.fusions:
            return None
        return cast(Fusion, self.fusions[place]).audio_reliability(hidden)

    def precision_loss(self, hidden: torch.Tensor, clean: torch.Tensor, place: str = "main") -> torch.Tensor | None:
        """See `Fusion.precision_loss`; None without video."""
        return cast(Fusion, self.fusions[place]).precision_loss(hidden, clean) if place in self.fusions else None

    def by_video_frame(self, reliability: torch.Tensor, batch: Batch) -> torch.Tensor:
        """A reliability of shape (batch, frames) as that of video frames, shape (batch, video_frames), float32."""
        return pool_to_video_frames(reliability, batch.valid.shape[1], self.ratio).float()

    def calibrate(self, scale: float, shift: float, place: str | None = None) -> None:
        """Replace the log-odds l of the reliability by `scale` l + `shift`, at one place or at all.

        Raises
        ------
        AvseError
            If there is no video, or the fusion does not estimate its reliability.
        """
        if not self.fusions:
            raise AvseError("This system is without video: it has no reliability to calibrate.")
        for name, fusion in self.fusions.items():
            if isinstance(fusion, Fusion) and place in (None, name):
                fusion.calibrate(scale, shift)

    def add_reliability_loss(
        self,
        terms: dict[str, torch.Tensor],
        reliability: torch.Tensor,
        batch: Batch,
        context: Context,
        audio_reliability: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Terms of a loss, and `reliability` where the fusion estimates it and the truth is known.

        `loss` grows by a tenth of the new term; see `frame_cross_entropy`.
        """
        if batch.video_is_clean is None or not reliability.requires_grad:  # as of a fusion that does not estimate it
            return terms
        clean = repeat_to_frames(batch.video_is_clean, reliability.shape[1], self.ratio)
        added = frame_cross_entropy(reliability, clean, context.valid, audio_reliability)
        return {**terms, "loss": terms["loss"] + _RELIABILITY_WEIGHT * added, "reliability": added.detach()}

    def _parts(self) -> list[VisualFrontend | Fusion]:
        fusions = [fusion for fusion in self.fusions.values() if isinstance(fusion, Fusion)]
        return [self.visual_frontend, *fusions] if self.visual_frontend is not None else []


def check_fusion(visual_frontend: VisualFrontend | None, fusion: Fusion | None, audio_dim: int, what: str) -> None:
    """Refuse, with a ValueError, a fusion that does not fit between audio features (`what`) and a visual front-end."""
    _check_both(visual_frontend, fusion)
    if visual_frontend is None or fusion is None:
        return
    video_dim = visual_frontend.output_dim
    if (fusion.audio_dim, fusion.video_dim) != (audio_dim, video_dim):
        raise ValueError(
            f"fusion has audio_dim {fusion.audio_dim} and video_dim {fusion.video_dim}, but {what} is {audio_dim} "
            f"and the visual front-end's output_dim {video_dim}. They must agree: set the fusion's audio_dim to "
            f"{audio_dim} and video_dim to {video_dim}, or give the fusion with !name: and without either."
        )


def _check_both(visual_frontend: object | None, fusion: object | None) -> None:
    if (visual_frontend is None) != (fusion is None):
        raise ValueError("give both visual_frontend and fusion, or neither (audio only).")


class NormalisedFusion(Fusion):
    """A fusion whose contribution is normalised before it is weighed, and zero before training.

        audio + r^e g linear(norm(delta(audio, video)))

    A normalisation after the weights r^e and g, which are those of the fusion, would bring back to full strength what
    they have reduced.

    Arguments
    ---------
    fusion : Fusion
    """

    def __init__(self, fusion: Fusion) -> None:
        super().__init__(fusion.audio_dim, fusion.video_dim)
        self.fusion, self.complexity, self.tells_audio = fusion, fusion.complexity, fusion.tells_audio
        self.causal, self.streams = fusion.causal, fusion.streams
        self.norm = nn.LayerNorm(fusion.audio_dim, elementwise_affine=False)
        self.out = nn.Linear(fusion.audio_dim, fusion.audio_dim, bias=False)
        nn.init.zeros_(self.out.weight)

    def delta(self, audio: torch.Tensor, video: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        delta, reliability = self.fusion.delta(audio, video, valid)
        return self.out(self.norm(delta)), reliability

    def feature_weight(self, audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor | None:
        return self.fusion.feature_weight(audio, video)

    def audio_reliability(self, audio: torch.Tensor) -> torch.Tensor | None:
        return self.fusion.audio_reliability(audio)

    def precision_loss(self, audio: torch.Tensor, clean: torch.Tensor) -> torch.Tensor | None:
        return self.fusion.precision_loss(audio, clean)

    def weight(self, reliability: torch.Tensor) -> torch.Tensor:
        return self.fusion.weight(reliability)

    def calibrate(self, scale: float, shift: float) -> None:
        self.fusion.calibrate(scale, shift)


def frame_cross_entropy(
    probability: torch.Tensor,
    truth: torch.Tensor,
    counts: torch.Tensor,
    audio_reliability: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of a probability with the truth, frame by frame; of a reliability: whether a frame is clean.

    Arguments
    ---------
    probability : tensor, shape (batch, frames), in [0, 1]
    truth : tensor, shape (batch, frames), bool
        For a reliability: the mouth is the speaker's, and the video is not corrupted.
    counts : tensor, shape (batch, frames), bool
        Frames that count.
    audio_reliability : tensor, shape (batch, frames), in [0, 1], or None
        Of a reliability: frames that are not clean count as much as the square of this, so that a mouth is trusted
        until reliable audio speaks against it. No gradient passes. None: they count like others.

    Returns
    -------
    scalar tensor
        In nats per frame; zero if none counts.

    Example
    -------
    >>> certain, counts = torch.tensor([[1.0, 0.5]]), torch.tensor([[True, False]])
    >>> [round(frame_cross_entropy(certain, truth, counts).item(), 3) for truth in (counts, ~counts)]
    [0.001, 6.908]
    """
    if not bool(counts.any()):
        return probability.new_zeros(())
    probability = probability.float()[counts].clamp(1e-3, 1.0 - 1e-3)
    truth = truth[counts]
    # Not by `binary_cross_entropy`, which CUDA refuses under autocast.
    entropy = -torch.where(truth, probability, 1.0 - probability).log()
    if audio_reliability is not None:
        entropy = entropy * torch.where(truth, 1.0, audio_reliability.detach().float()[counts].square())
    return entropy.mean()

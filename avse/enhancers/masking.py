"""What enhancers that mask a spectrum have in common: conformer blocks, with the video fused between them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context
from avse.contracts.streaming import FrameEstimate, running_mean
from avse.contracts.types import Batch, Estimate
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.nnet.conformer import ConformerBlock
from avse.nnet.video_input import VideoInput
from avse.signal.levels import uncorrelated_gain
from avse.signal.masks import apply_mask, compressed_features, levelled
from avse.signal.stft import istft, length_mask, stft


class SpectralMasker(Enhancer):
    """A mask on the short-time Fourier transform, by convolution and attention over time.

    The compressed spectrum goes through `fusion_block` conformer blocks, meets the video in `fusion`, goes through the
    remaining blocks and becomes a mask on the spectrum.

    Arguments
    ---------
    visual_frontend : VisualFrontend, callable that builds one, or None
        Mouth crops to features. None: audio only.
    fusion : Fusion, callable that builds one from `audio_dim` and `video_dim`, or None
        Its `audio_dim` is `channels`, its `video_dim` the front-end's `output_dim`.
    channels : int
        Features of a frame.
    blocks : int
        Conformer blocks in all.
    fusion_block : int
        Blocks before the fusion.
    heads : int
        Attention heads; `2 * heads` divides `channels`.
    kernel_size : int
        Frames of the depthwise convolution.
    context : int
        Frames on each side (past only, if causal) that attention sees.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    causal : bool
        True: no frame looks ahead; the delay is one window, `fft_size` samples.
    dropout : float
        See `ConformerBlock`.
    speaking : bool
        True: the network also tells the probability that the person seen speaks (`Estimate.speaking`).

    Raises
    ------
    ValueError
        If dimensions do not fit.
    """

    delay = 0
    complexity = "quadratic"  # each frame is compared with every other, and those beyond `context` masked

    def __init__(
        self,
        visual_frontend: VisualFrontend | VisualFrontendFactory | None = None,
        fusion: Fusion | FusionFactory | None = None,
        channels: int = 192,
        blocks: int = 6,
        fusion_block: int = 2,
        heads: int = 4,
        kernel_size: int = 9,
        context: int = 150,
        fft_size: int = 640,
        hop: int = 320,
        causal: bool = False,
        dropout: float = 0.0,
        speaking: bool = False,
    ) -> None:
        super().__init__()
        if channels % (2 * heads):
            raise ValueError(f"channels must be a multiple of 2 * heads, got {channels} and {heads} heads.")
        if not 0 <= fusion_block <= blocks:
            raise ValueError(f"fusion_block must be in 0 ... {blocks}, got {fusion_block}.")
        self.video_input = VideoInput(visual_frontend, fusion, channels, fft_size, hop, what="the enhancer's channels")
        if fft_size % (2 * hop):
            raise ValueError(f"hop must divide half of fft_size, got {hop} and {fft_size}.")
        if causal and not self.video_input.causal:
            raise ValueError("a causal enhancer needs a causal visual front-end and a causal fusion.")
        self.fft_size, self.hop, self.causal, self.fusion_block = fft_size, hop, causal, fusion_block
        self.latency = fft_size if causal else None
        self.streams = causal and self.video_input.streams
        self.bins = fft_size // 2 + 1
        self.encoder = nn.Linear(3 * self.bins, channels)
        self.blocks = nn.ModuleList(
            ConformerBlock(channels, heads, kernel_size, context, causal, dropout) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)
        self.decoder = nn.Linear(channels, 2 * self.bins)
        self.speaking = nn.Linear(channels, 1) if speaking else None

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=8, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")
        return {"visual_frontend": frontend, "fusion": fusion, "channels": 16, "blocks": 2, "fusion_block": 1}

    def encode(self, spectrum: torch.Tensor, context: Context) -> torch.Tensor:
        """Features of a spectrum of common level: complex (batch, frames, bins) to (batch, frames, channels)."""
        return self.encoder(compressed_features(spectrum, context.mask).to(self.encoder.weight.dtype))

    def exchange(self, hidden: torch.Tensor, number: int, mixture: torch.Tensor | None) -> torch.Tensor:
        """What enters block `number` after the fusion, counted from 0: `hidden`, unless a subclass adds to it."""
        return hidden

    def visual_features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor | None:
        """Features of video frames; see `StreamingSystem`."""
        return None if (frontend := self.video_input.visual_frontend) is None else frontend(mouth, valid)

    def enhance_frames(
        self, spectrum: torch.Tensor, context: Context, mixture: torch.Tensor | None = None
    ) -> FrameEstimate:
        """The speech in frames of a clip, or in the next frames of a stream; see `StreamingSystem`."""
        mask = context.mask
        mean = partial(running_mean, self, "level") if self.causal else None
        hidden = self.encode(levelled(spectrum, mask, mean), context)
        for block in self.blocks[: self.fusion_block]:
            hidden = block(hidden, mask)
        of_audio = self.video_input.audio_reliability(hidden)
        hidden, reliability = self.video_input.fuse(hidden, context)
        for number, block in enumerate(self.blocks[self.fusion_block :]):
            hidden = block(self.exchange(hidden, number, mixture), mask)
        hidden = self.norm(hidden)
        by_frame = {"reliability": reliability}
        if of_audio is not None:
            by_frame["audio_reliability"] = of_audio * mask
        if self.speaking is not None:
            by_frame["speaking"] = self.speaking(hidden)[..., 0].sigmoid()
        return FrameEstimate(apply_mask(spectrum, self.decoder(hidden)), by_frame)

    def forward(self, batch: Batch) -> Estimate:
        spectrum = stft(batch.noisy, self.fft_size, self.hop)
        context = replace(self.video_input.context(batch), scene=batch.scene)
        found = self.enhance_frames(spectrum, context, batch.mixture)
        samples = batch.noisy.shape[1]
        speech = istft(torch.where(context.mask[..., None], found.speech, 0), self.fft_size, self.hop, samples)
        speech = speech * length_mask(batch.lengths, samples)
        if not self.causal:  # a mask that lets everything through has saturated above one
            speech = speech * uncorrelated_gain(speech, batch.noisy)
        by_frame = self.video_input.by_video_frame
        told: dict[str, Any] = {name: by_frame(values, batch) for name, values in found.by_frame.items()}
        return Estimate(speech=speech, noise=batch.noisy - speech, lengths=batch.lengths, **told)

    def calibrate(self, scale: float, shift: float) -> None:
        self.video_input.calibrate(scale, shift)

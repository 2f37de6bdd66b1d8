"""`av_separator`: a mask for each talker one sees, by a network that looks at all talkers of a mixture."""

from __future__ import annotations

import torch
from torch import nn

from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion, check_fusion
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.conformer import ConformerBlock
from avse.plugins import register
from avse.signal.masks import apply_mask, compressed_features, levelled
from avse.signal.stft import istft, length_mask, repeat_to_frames, stft, stft_frames


@register("enhancer", "av_separator")
class AVSeparator(Enhancer):
    """Time-frequency masking for several talkers at once: who is who is fixed by the videos.

    It can start from the weights of a `tf_masker` of the same sizes, whose names it shares.

    The compressed spectrum goes through `fusion_block` conformer blocks. From there on each talker has a stream of
    features: it meets the talker's video in `fusion`, and before each of the remaining blocks the mean of the other
    talkers' streams. Then it becomes a mask on the spectrum. So any number of talkers can be separated, their order
    does not matter, and a talker without a video is found as what the others are not.

    Rows of a batch with one number in `Batch.mixture` are talkers of one mixture; without it each row is a talker
    alone, and the network enhances.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        Its `audio_dim` must be `channels`, its `video_dim` the front-end's `output_dim`.
    channels : int
        Features per step.
    blocks : int
        Conformer blocks in all.
    fusion_block : int
        Blocks before the fusion.
    heads : int
        Attention heads; `2 * heads` divides `channels`.
    kernel_size : int
        Steps of the depthwise convolution.
    context : int
        Steps on each side that attention sees.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    dropout : float
        In the blocks.

    Raises
    ------
    ValueError
        If dimensions do not fit.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> model = AVSeparator(channels=16, blocks=2, fusion_block=1)
    >>> model(example_batch((3200, 3200))).speech.shape
    torch.Size([2, 3200])
    """

    complexity = "quadratic"  # each step is compared with every other, and those beyond `context` masked

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        channels: int = 192,
        blocks: int = 6,
        fusion_block: int = 2,
        heads: int = 4,
        kernel_size: int = 9,
        context: int = 150,
        fft_size: int = 640,
        hop: int = 320,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if SAMPLES_PER_FRAME % hop or fft_size % (2 * hop):
            raise ValueError(f"hop must divide {SAMPLES_PER_FRAME} and half of fft_size, got {hop} and {fft_size}.")
        if channels % (2 * heads):
            raise ValueError(f"channels must be a multiple of 2 * heads, got {channels} and {heads} heads.")
        if not 0 <= fusion_block < blocks:
            raise ValueError(f"fusion_block must be in 0 ... {blocks - 1}, got {fusion_block}.")
        check_fusion(visual_frontend, fusion, channels, "the separator's channels")
        self.visual_frontend, self.fusion, self.fusion_block = visual_frontend, fusion, fusion_block
        self.fft_size, self.hop, self.ratio = fft_size, hop, SAMPLES_PER_FRAME // hop
        bins = fft_size // 2 + 1
        self.encoder = nn.Linear(3 * bins, channels)
        self.blocks = nn.ModuleList(
            ConformerBlock(channels, heads, kernel_size, context, dropout=dropout) for _ in range(blocks)
        )
        self.meetings = nn.ModuleList(_Meeting(channels) for _ in range(blocks - fusion_block))
        self.norm = nn.LayerNorm(channels)
        self.decoder = nn.Linear(channels, 2 * bins)

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=8, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=16, video_dim=8)
        return {"visual_frontend": frontend, "fusion": fusion, "channels": 16, "blocks": 2, "fusion_block": 1}

    def forward(self, batch: Batch) -> Estimate:
        """The voice of each row's talker: see `Enhancer.forward`."""
        spectrum = stft(batch.noisy, self.fft_size, self.hop)
        steps = spectrum.shape[1]
        mask = length_mask(stft_frames(batch.lengths, self.fft_size, self.hop), steps)
        features = compressed_features(levelled(spectrum, mask), mask)
        hidden = self.encoder(features.to(self.encoder.weight.dtype))
        for block in self.blocks[: self.fusion_block]:
            hidden = block(hidden, mask)
        reliability = hidden.new_zeros(batch.valid.shape)
        if self.fusion is not None and bool(batch.valid.any()):
            video = self.visual_frontend(batch.mouth, batch.valid).to(hidden.dtype)
            valid = repeat_to_frames(batch.valid, steps, self.ratio) & mask
            hidden, weights = self.fusion(hidden, repeat_to_frames(video, steps, self.ratio), valid)
            shown = weights[:, : batch.valid.shape[1] * self.ratio]
            reliability = shown.unflatten(1, (-1, self.ratio)).mean(dim=2)
        for meeting, block in zip(self.meetings, self.blocks[self.fusion_block :]):
            hidden = block(meeting(hidden, batch.mixture), mask)
        masked = apply_mask(spectrum, self.decoder(self.norm(hidden)))
        samples = batch.noisy.shape[1]
        speech = istft(torch.where(mask[..., None], masked, 0), self.fft_size, self.hop, samples)
        speech = speech * length_mask(batch.lengths, samples)
        return Estimate(speech, batch.noisy - speech, reliability.float(), batch.lengths)


class _Meeting(nn.Module):
    """What each talker learns from the mean of all others of the mixture: nothing to begin with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mixed = nn.Linear(2 * channels, channels)
        # So that a network trained to enhance is what separation starts from.
        nn.init.zeros_(self.mixed.weight)
        nn.init.zeros_(self.mixed.bias)

    def forward(self, hidden: torch.Tensor, mixture: torch.Tensor | None) -> torch.Tensor:
        own = self.norm(hidden)
        if mixture is None:
            others = torch.zeros_like(own)
        else:
            _, group, count = mixture.unique(return_inverse=True, return_counts=True)
            total = own.new_zeros(len(count), *own.shape[1:]).index_add(0, group, own)
            others = (total[group] - own) / (count[group] - 1).clamp(min=1)[:, None, None]
        return hidden + self.mixed(torch.cat([own, others], dim=2))

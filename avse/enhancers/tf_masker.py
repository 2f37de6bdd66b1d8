"""`tf_masker`: a mask on the short-time Fourier transform, by convolution and attention over time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion, check_fusion
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.conformer import ConformerBlock
from avse.plugins import register
from avse.signal.masks import apply_mask, compressed_features, levelled
from avse.signal.stft import istft, length_mask, repeat_to_frames, stft, stft_frames

_FLOOR = 1e-8
_NOISE_BANDS = 40


@register("enhancer", "tf_masker")
class TFMasker(Enhancer):
    """Time-frequency masking with conformer blocks and video fused between them.

    The compressed spectrum goes through `fusion_block` conformer blocks, meets the video in `fusion`, goes through
    the remaining blocks and becomes a mask on the spectrum.

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
        Attention heads; divides `channels`.
    kernel_size : int
        Steps of the depthwise convolution.
    context : int
        Steps on each side (past only, if causal) that attention sees.
    mask : str
        `complex` (multiplies magnitude and turns phase) or `magnitude`.
    causal : bool
        True: no step looks ahead; the delay is one window, `fft_size` samples.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    dropout : float
        In the blocks.
    noise_aware : bool
        True: the network is also told the level and the type of the noise, as quantiles over the clip (or, if causal,
        over the sound so far) of the power in each of some bands; speech pauses show the lower ones.

    Raises
    ------
    ValueError
        If dimensions do not fit.

    Example
    -------
    >>> from avse.contracts.types import Clip
    >>> import numpy as np
    >>> model = TFMasker(channels=16, blocks=2, fusion_block=1)
    >>> estimate = model(Batch.from_clips([Clip(np.zeros(3200, np.float32))]))
    >>> estimate.speech.shape, estimate.reliability.shape
    (torch.Size([1, 3200]), torch.Size([1, 5]))
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
        mask: str = "complex",
        causal: bool = False,
        fft_size: int = 640,
        hop: int = 320,
        dropout: float = 0.0,
        noise_aware: bool = False,
    ) -> None:
        super().__init__()
        if mask not in ("complex", "magnitude"):
            raise ValueError(f"mask must be 'complex' or 'magnitude', got {mask!r}.")
        if SAMPLES_PER_FRAME % hop or fft_size % (2 * hop):
            raise ValueError(f"hop must divide {SAMPLES_PER_FRAME} and half of fft_size, got {hop} and {fft_size}.")
        if channels % (2 * heads):
            raise ValueError(f"channels must be a multiple of 2 * heads, got {channels} and {heads} heads.")
        if not 0 <= fusion_block <= blocks:
            raise ValueError(f"fusion_block must be in 0 ... {blocks}, got {fusion_block}.")
        check_fusion(visual_frontend, fusion, channels, "the enhancer's channels")
        if causal and not all(getattr(part, "causal", True) for part in (visual_frontend, fusion) if part is not None):
            raise ValueError("a causal enhancer needs a causal visual front-end and a causal fusion.")
        self.visual_frontend, self.fusion = visual_frontend, fusion
        self.fft_size, self.hop, self.mask, self.causal = fft_size, hop, mask, causal
        self.ratio = SAMPLES_PER_FRAME // hop
        self.latency = fft_size if causal else None
        bins = fft_size // 2 + 1
        self.encoder = nn.Linear(3 * bins, channels)
        self.noise_encoder = None
        if noise_aware:
            self.noise_encoder = nn.Linear(2 * _NOISE_BANDS, channels, bias=False)
            nn.init.zeros_(self.noise_encoder.weight)  # weights of a network without it remain a good start
        self.blocks = nn.ModuleList(
            ConformerBlock(channels, heads, kernel_size, context, causal, dropout) for _ in range(blocks)
        )
        self.fusion_block = fusion_block
        self.norm = nn.LayerNorm(channels)
        self.decoder = nn.Linear(channels, bins * (2 if mask == "complex" else 1))

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=8, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=16, video_dim=8)
        return {"visual_frontend": frontend, "fusion": fusion, "channels": 16, "blocks": 2, "fusion_block": 1}

    def forward(self, batch: Batch) -> Estimate:
        """Enhance a batch: see `Enhancer.forward`."""
        spectrum = stft(batch.noisy, self.fft_size, self.hop)
        steps = spectrum.shape[1]
        mask = length_mask(stft_frames(batch.lengths, self.fft_size, self.hop), steps)
        scaled = levelled(spectrum, mask, self.causal)
        hidden = self.encoder(compressed_features(scaled, mask).to(self.encoder.weight.dtype))
        if self.noise_encoder is not None:
            profile = noise_profile(scaled.abs().square(), mask, self.causal)
            hidden = hidden + self.noise_encoder(profile.to(hidden.dtype))
        for block in self.blocks[: self.fusion_block]:
            hidden = block(hidden, mask)
        reliability = hidden.new_zeros(batch.valid.shape)
        if self.fusion is not None and bool(batch.valid.any()):
            hidden, weights = self._fuse(hidden, batch, mask)
            shown = weights[:, : batch.valid.shape[1] * self.ratio]
            reliability = shown.unflatten(1, (-1, self.ratio)).mean(dim=2)
        for block in self.blocks[self.fusion_block :]:
            hidden = block(hidden, mask)
        masked = apply_mask(spectrum, self.decoder(self.norm(hidden)))
        samples = batch.noisy.shape[1]
        speech = istft(torch.where(mask[..., None], masked, 0), self.fft_size, self.hop, samples)
        speech = speech * length_mask(batch.lengths, samples)
        return Estimate(speech, batch.noisy - speech, reliability.float(), batch.lengths)

    def calibrate(self, scale: float, shift: float) -> None:
        """See `Enhancer.calibrate`."""
        if self.fusion is None:
            super().calibrate(scale, shift)
        self.fusion.calibrate(scale, shift)

    def _fuse(self, hidden: torch.Tensor, batch: Batch, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        video = self.visual_frontend(batch.mouth, batch.valid)
        valid = repeat_to_frames(batch.valid, hidden.shape[1], self.ratio) & mask
        return self.fusion(hidden, repeat_to_frames(video.to(hidden.dtype), hidden.shape[1], self.ratio), valid)


def noise_profile(power: torch.Tensor, mask: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """Level and type of the noise as a sound shows them: the floor and the middle of the power in each band.

    Speech leaves gaps in every band, so that a low quantile over time is the noise's (Stahl, Fischer and Bippus,
    Quantile based noise estimation for spectral subtraction and Wiener filtering, 2000).

    Arguments
    ---------
    power : tensor, shape (batch, frames, bins)
    mask : tensor, shape (batch, frames), bool
        False beyond a clip's end.
    causal : bool
        True: of the steps so far, the floor as the minimum of a moving average and the middle as the mean.

    Returns
    -------
    tensor, shape (batch, 1, 2 * bands), or (batch, frames, 2 * bands) if causal
        Natural logarithms, a quarter of them.

    Example
    -------
    >>> steady = torch.ones(1, 10, 321)
    >>> noise_profile(steady, torch.ones(1, 10, dtype=torch.bool)).abs().max().item() < 1e-6
    True
    """
    bands = F.adaptive_avg_pool1d(power, _NOISE_BANDS)
    if causal:
        smooth = F.avg_pool1d(F.pad(bands.transpose(1, 2), (4, 0), mode="replicate"), 5, stride=1).transpose(1, 2)
        count = torch.arange(1, bands.shape[1] + 1, device=bands.device)[:, None]
        found = [smooth.cummin(dim=1).values, bands.cumsum(dim=1) / count]
    else:
        ordered = torch.where(mask[..., None], bands, torch.inf).sort(dim=1).values
        last = mask.sum(dim=1).clamp(min=1) - 1
        places = [(share * last).long()[:, None, None].expand(-1, -1, _NOISE_BANDS) for share in (0.1, 0.5)]
        found = [ordered.gather(1, place) for place in places]
    return 0.25 * (torch.cat(found, dim=2) + _FLOOR).log()

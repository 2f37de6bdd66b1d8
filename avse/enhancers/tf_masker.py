"""`tf_masker`: a mask on the short-time Fourier transform, by convolution and attention over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.prior import Context
from avse.contracts.streaming import running_mean, running_minimum, with_past
from avse.enhancers.masking import SpectralMasker
from avse.plugins import register

_FLOOR = 1e-8
_NOISE_BANDS = 40
_SCENE_FEATURES = 64


@register("enhancer", "tf_masker")
class TFMasker(SpectralMasker):
    """Time-frequency masking with conformer blocks and video fused between them.

    Arguments
    ---------
    mask : str
        `complex` (multiplies the magnitude and turns the phase; Williamson, Wang and Wang, 2016) or `magnitude`.
    noise_aware : bool
        True: the network is also told the level and the type of the noise, as quantiles over the clip (or, if causal,
        over the audio so far) of the power in each of some bands; speech pauses show the lower ones.
    scene_dim : int
        Features of an embedding of the noise (`Batch.scene`) that the network is told, by scales and shifts of the
        encoder's features (FiLM; Perez et al., 2018). 0: it takes none. Without a scene, and before training, the
        result is bit for bit that of the network that takes none.
    common :
        Further arguments: see `SpectralMasker`.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> estimate = TFMasker(channels=16, blocks=2, fusion_block=1)(example_batch((3200,)))
    >>> estimate.speech.shape, estimate.reliability.shape
    (torch.Size([1, 3200]), torch.Size([1, 5]))
    """

    paper = "Gulati et al., Conformer: convolution-augmented transformer for speech recognition, 2020 (the blocks)"

    def __init__(
        self, *args: Any, mask: str = "complex", noise_aware: bool = False, scene_dim: int = 0, **common: Any
    ) -> None:
        super().__init__(*args, **common)
        if mask not in ("complex", "magnitude"):
            raise ValueError(f"mask must be 'complex' or 'magnitude', got {mask!r}.")
        self.mask = mask
        channels = self.encoder.out_features
        if mask == "magnitude":
            self.decoder = nn.Linear(channels, self.bins)
        self.noise_encoder: nn.Linear | None = None
        if noise_aware:
            self.noise_encoder = nn.Linear(2 * _NOISE_BANDS, channels, bias=False)
            nn.init.zeros_(self.noise_encoder.weight)  # weights of a network without it remain a good start
        self.scene_dim = scene_dim
        self.scene_encoder: nn.Sequential | None = None
        if scene_dim:
            # Without biases, so that a scene of zeros changes nothing.
            last = nn.Linear(_SCENE_FEATURES, 2 * channels, bias=False)
            nn.init.zeros_(last.weight)
            self.scene_encoder = nn.Sequential(nn.Linear(scene_dim, _SCENE_FEATURES, bias=False), nn.Tanh(), last)

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**super().example_arguments(), "scene_dim": 6}

    def encode(self, spectrum: torch.Tensor, context: Context) -> torch.Tensor:
        hidden = super().encode(spectrum, context)
        if self.noise_encoder is not None:
            power = spectrum.abs().square()
            profile = self._profile_so_far(power) if self.causal else noise_profile(power, context.mask)
            hidden = hidden + self.noise_encoder(profile.to(hidden.dtype))
        if self.scene_encoder is not None and context.scene is not None:
            scale, shift = self.scene_encoder(context.scene.to(hidden.dtype))[:, None].chunk(2, dim=-1)
            hidden = hidden * (1 + scale) + shift
        return hidden

    def _profile_so_far(self, power: torch.Tensor) -> torch.Tensor:
        """As `noise_profile`, of the frames up to each: the minimum of a moving average over 5, and the mean."""
        bands = F.adaptive_avg_pool1d(power, _NOISE_BANDS)
        known = with_past(self, "known", torch.ones_like(bands[..., :1], dtype=torch.bool), 4)
        joined = with_past(self, "bands", bands, 4)
        first = joined.take_along_dim(known.int().argmax(dim=1, keepdim=True), dim=1)  # stands in for those before it
        smooth = F.avg_pool1d(torch.where(known, joined, first).transpose(1, 2), 5, stride=1)
        lowest = running_minimum(self, "lowest", smooth.transpose(1, 2))
        return _profile([lowest, running_mean(self, "bands mean", bands)])


def noise_profile(power: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Level and type of the noise: a low quantile and the median over time of the power in each band.

    Speech leaves gaps in every band, so that a low quantile over time is that of the noise (Stahl, Fischer and Bippus,
    Quantile based noise estimation for spectral subtraction and Wiener filtering, 2000).

    Arguments
    ---------
    power : tensor, shape (batch, frames, bins)
    mask : tensor, shape (batch, frames), bool
        False beyond a clip's end.

    Returns
    -------
    tensor, shape (batch, 1, 2 * bands)
        Natural logarithms, a quarter of them.

    Example
    -------
    >>> steady = torch.ones(1, 10, 321)
    >>> noise_profile(steady, torch.ones(1, 10, dtype=torch.bool)).abs().max().item() < 1e-6
    True
    """
    bands = F.adaptive_avg_pool1d(power, _NOISE_BANDS)
    ordered = torch.where(mask[..., None], bands, torch.inf).sort(dim=1).values
    last = mask.sum(dim=1).clamp(min=1) - 1
    places = [(share * last).long()[:, None, None].expand(-1, -1, _NOISE_BANDS) for share in (0.1, 0.5)]
    return _profile([ordered.gather(1, place) for place in places])


def _profile(quantiles: list[torch.Tensor]) -> torch.Tensor:
    return 0.25 * (torch.cat(quantiles, dim=2) + _FLOOR).log()

"""Noise model `conditioned_nmf`: `prior_nmf` that may be told what the noise is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from avse.contracts.noise_model import State
from avse.noise_models.described import DescribedNoise
from avse.plugins import register
from avse.signal.bands import frequency_bands
from avse.signal.nmf import update_ratio
from avse.signal.scenes import BANDS, SOUND, SPECTRA

_RECORDINGS = Path(__file__).with_name("noise_recordings.safetensors")
_SPECTRA_OF_A_RECORDING = 4
_TOLD_SHARE = 0.95  # of the level at which the fit begins
_FLOOR, _LEAST = 1e-10, 1e-7


@register("noise_model", "conditioned_nmf")
class ConditionedNMF(DescribedNoise):
    """`prior_nmf` that may be told what the noise is, by spectra that stand beside those that the clip fits.

        V = gains x spectra + told gains x told spectra

    The told spectra are those of the recordings of noise that are nearest to the scene, of the 796 that the networks
    were trained on, and, where the scene has a sound, its own. They are held, and their gains are fitted to the clip
    with the rest: spectra that do not fit get no weight. So that speech is not taken for noise by many spectra, the
    exponent of the share of noise (`ExpectedNoise`) is twice as large for a clip that is told anything. Without a
    scene, or where it is zeros, this is `prior_nmf` bit for bit.

    Arguments
    ---------
    nearest : int
        Recordings whose spectra are told.
    common :
        Further arguments: see `DescribedNoise`.

    State: that of `DescribedNoise`; with a scene also `told_gains` (batch, frames, told) and `told_spectra` (batch, 1,
    told, bins).

    Example
    -------
    >>> import torch
    >>> model = ConditionedNMF(rank=2)
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> sorted(model.initial_state(power, mask, torch.eye(128)[:1]))
    ['gains', 'spectra', 'told_gains', 'told_spectra', 'trust']
    """

    paper = "Smaragdis, Raj and Shashanka, Supervised and semi-supervised separation of sounds, 2007"
    scene_sound = SOUND
    fitted = ("gains", "spectra", "told_gains")
    embeddings: torch.Tensor
    levels: torch.Tensor

    def __init__(self, rank: int = 2, *, nearest: int = 16, pretrained: bool = True, **common: Any) -> None:
        super().__init__(rank, pretrained=pretrained, **common)
        if nearest < 0:
            raise ValueError(f"nearest must not be negative, got {nearest}.")
        self.nearest = nearest
        recordings = {
            "embeddings": torch.zeros(0, self.scene_dim),
            "levels": torch.zeros(0, _SPECTRA_OF_A_RECORDING, BANDS),
        }
        if pretrained:
            recordings = safetensors.torch.load_file(_RECORDINGS)
        for name, value in recordings.items():
            self.register_buffer(name, value.float(), persistent=False)

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """A factorisation of what the networks expect, in which told spectra have their part.

        See `NoiseModel.initial_state`; `scene` (batch, scene_dim), or (batch, scene_dim + scene_sound).
        """
        if scene is None:
            return super().initial_state(power, mask)
        expected, trust = self.expected(power, mask, scene[:, : self.scene_dim])
        free, inside = self.begin(expected, mask), mask[..., None]
        spectra, says = self.told_spectra(scene.to(power), power), scene.any(dim=1)[:, None, None]
        expected = expected * inside
        level = expected.sum(dim=2, keepdim=True) / spectra.shape[1] + _LEAST
        gains = torch.cat(
            [(1 - _TOLD_SHARE) * free["gains"], (_TOLD_SHARE * level).expand(-1, -1, spectra.shape[1])], 2
        )
        together = torch.cat([free["spectra"], spectra], dim=1)
        for _ in range(self.begin_iterations):
            weight = inside / (gains @ together).clamp(min=_FLOOR)
            ratio = update_ratio((expected * weight.square()) @ together.mT, weight @ together.mT)
            gains = (gains * ratio).clamp(min=_FLOOR)
        held = {"told_gains": gains[..., self.rank :], "told_spectra": spectra[:, None]}  # four axes: none is of frames
        return free | trust | held | {"gains": torch.where(says, gains[..., : self.rank], free["gains"])}

    def told_spectra(self, scene: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Spectra that a scene tells, (batch, told, bins): each sums to one, or is zeros where nothing is told.

        Arguments
        ---------
        scene : tensor, shape (batch, dim)
            As of `initial_state`.
        like : tensor, shape (..., bins)
        """
        embedding, sound = scene[:, : self.scene_dim], scene[:, self.scene_dim :]
        if not sound.shape[1]:
            sound = scene.new_zeros(len(scene), SOUND)
        found = (embedding @ self.embeddings.to(scene).T).topk(min(self.nearest, len(self.levels)), dim=1).indices
        levels = torch.cat([self.levels.to(scene)[found].flatten(1, 2), sound.unflatten(1, (SPECTRA, BANDS))], dim=1)
        says = torch.stack([embedding.any(dim=1), sound.any(dim=1)], dim=1)
        counts = torch.tensor([levels.shape[1] - SPECTRA, SPECTRA], device=scene.device)
        return (levels @ frequency_bands(BANDS, like)[0]).softmax(dim=2) * says.repeat_interleave(counts, 1)[..., None]

    def variance(self, state: State) -> torch.Tensor:
        free = state["gains"] @ state["spectra"]
        if "told_gains" in state:
            free = free + state["told_gains"] @ state["told_spectra"][:, 0]
        return free.clamp(min=_FLOOR)

    def share(self, state: State, denominator: torch.Tensor) -> torch.Tensor:
        """See `ExpectedNoise.share`."""
        share = super().share(state, denominator)
        if "told_spectra" not in state:
            return share
        return torch.where(state["told_spectra"].flatten(1).any(dim=1)[:, None, None], share.square(), share)

    def factors(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        """The M-step of weighted bins, of told gains too."""
        moved = super().factors(state, numerator, denominator)
        if "told_gains" not in state:
            return moved
        spectra = state["told_spectra"][:, 0].mT
        ratio = update_ratio(numerator @ spectra, denominator @ spectra, self.exponent)
        return {**moved, "told_gains": (state["told_gains"] * ratio).clamp(min=_FLOOR)}

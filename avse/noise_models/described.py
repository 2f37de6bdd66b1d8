"""What noise models share that may be told what the noise is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch.nn import functional as F

from avse.contracts.noise_model import State
from avse.nnet.noise_estimator import SceneNoiseEstimator
from avse.noise_models.expected import ExpectedNoise

_WEIGHTS = Path(__file__).with_name("conditioned_nmf.safetensors")


class DescribedNoise(ExpectedNoise):
    """Non-negative matrix factorisation, V = gains x spectra, that may be told what the noise is.

    With a scene, an embedding of the noise, the fit begins at a factorisation of the variance that a second network
    expects from the noisy audio and the scene (`SceneNoiseEstimator`), which also says how far it trusts the scene:
    the spectra that the scene stands for are candidates beside those that are free. Without a scene, or where it is
    zeros, this is `prior_nmf` bit for bit.

    The weights of both networks are a part of the package and stay fixed. `avse.training.noise_estimator` made them,
    from speech and recordings of noise, some of which are for non-commercial use only; so are the weights.

    Arguments
    ---------
    scene_dim : int
        Features of the embedding.
    common :
        Further arguments: see `ExpectedNoise`.

    State: `gains` (batch, frames, rank), `spectra` (batch, rank, bins) that sum to one over bins; with a scene also
    `trust` (batch,).
    """

    def __init__(self, rank: int = 2, *, scene_dim: int = 128, pretrained: bool = True, **common: Any) -> None:
        super().__init__(rank, pretrained=pretrained, **common)
        self.scene_dim = scene_dim
        self.scene_estimator = SceneNoiseEstimator(scene_dim)
        if pretrained:
            weights = safetensors.torch.load_file(_WEIGHTS)
            self.scene_estimator.load_state_dict({name: value.float() for name, value in weights.items()})
            self.requires_grad_(False)

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """A factorisation of what the networks expect; see `NoiseModel.initial_state`."""
        expected, trust = self.expected(power, mask, scene)
        return self.begin(expected, mask) | trust

    def expected(
        self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None
    ) -> tuple[torch.Tensor, State]:
        """The variance that the networks expect, (batch, frames, bins), and with a scene the `trust` of the state.

        Arguments as of `NoiseModel.initial_state`.
        """
        expected = self.estimator(power, mask)
        if scene is None:
            return expected, {}
        told, trust = self.told(power, mask, scene)
        return torch.where(scene.any(dim=1)[:, None, None], told, expected), {"trust": trust}

    def told(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The variance that is expected with a scene, (batch, frames, bins), and the trust in the scene, (batch,).

        Arguments as of `NoiseModel.initial_state`. The trust is zero where the scene is.
        """
        expected, evidence = self.scene_estimator.told(power, mask, scene.to(power))
        return expected, evidence.sigmoid() * scene.any(dim=1)

    def code(self, scene: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
        """What further networks are told, (batch, scene_dim): the scene as this model reads it, times the trust."""
        return F.normalize(self.scene_estimator.enter(scene.to(trust)), dim=-1) * trust[:, None]

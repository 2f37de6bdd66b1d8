"""Noise model `stationary`: one spectrum for the whole clip."""

from __future__ import annotations

import torch

from avse.contracts.noise_model import NoiseModel, State
from avse.plugins import register
from avse.signal.levels import floor_over_frames
from avse.signal.nmf import update_ratio

_FLOOR = 1e-10


@register("noise_model", "stationary")
class Stationary(NoiseModel):
    """Noise whose spectrum does not change: V is the same at every frame of a clip.

    The fit begins with a low quantile of the clip's power over time, which speech with its pauses hardly changes. A
    factor brings the quantile of exponentially distributed power (that of Gaussian noise) to its mean.

    Arguments
    ---------
    quantile : float
        In (0, 1).

    State: `spectrum` (batch, 1, bins) and `like` (batch, frames, 1), ones that give the number of frames.

    Example
    -------
    >>> model = Stationary()
    >>> power, mask = torch.rand(1, 30, 9), torch.ones(1, 30, dtype=torch.bool)
    >>> variance = model.variance(model.initial_state(power, mask))
    >>> variance.shape, bool((variance == variance[:, :1]).all())
    (torch.Size([1, 30, 9]), True)
    """

    fitted = ("spectrum",)
    paper = "Stahl, Fischer and Bippus, Quantile based noise estimation for spectral subtraction, 2000"

    def __init__(self, quantile: float = 0.3) -> None:
        super().__init__()
        if not 0.0 < quantile < 1.0:
            raise ValueError(f"quantile must be between 0 and 1, got {quantile}.")
        self.quantile = quantile

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """See `NoiseModel.initial_state`."""
        to_mean = -1.0 / torch.log1p(torch.tensor(-self.quantile)).item()
        spectrum = floor_over_frames(power, mask, self.quantile) * to_mean
        return {"spectrum": spectrum.clamp(min=_FLOOR), "like": torch.ones_like(power[..., :1])}

    def variance(self, state: State) -> torch.Tensor:
        return state["spectrum"] * state["like"]

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        ratio = update_ratio(numerator.sum(dim=1, keepdim=True), denominator.sum(dim=1, keepdim=True))
        return {"spectrum": (state["spectrum"] * ratio).clamp(min=_FLOOR), "like": state["like"]}

    def update_from_power(self, state: State, power: torch.Tensor, mask: torch.Tensor) -> State:
        """The mean over frames, which is the exact M-step; shapes as in `NoiseModel.update_from_power`."""
        counted = torch.where(mask[..., None], power, power.new_zeros(()))
        mean = counted.sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None]
        return {"spectrum": mean.clamp(min=_FLOOR), "like": state["like"]}

"""Noise model `my_plugin`: one spectrum, and a gain for each frame.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.noise_model import NoiseModel, State
from avse.plugins import register

# KEEP the variance above this, so that silence divides by no zero.
FLOOR = 1e-10


@register("noise_model", "my_plugin")
class MyPlugin(NoiseModel):
    """One spectrum for the whole clip times one gain for each frame.

    The variance is `gain[frame] * spectrum[bin]`, fitted by multiplicative updates.

    Arguments
    ---------
    smoothing : float
        Weight of the mean of its two neighbours in each gain, in [0, 1].

    States hold `gain`, shape (batch, frames, 1), and `spectrum`, shape
    (batch, 1, bins).

    Example
    -------
    >>> power = torch.rand(1, 20, 321)
    >>> mask = torch.ones(1, 20, dtype=torch.bool)
    >>> model = MyPlugin()
    >>> state = model.initial_state(power, mask)
    >>> state = model.update_from_power(state, power, mask)
    >>> model.variance(state).shape
    torch.Size([1, 20, 321])
    """

    # CHANGE: where the method comes from, such as "Doe et al., A noise, 2026".
    paper = ""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= smoothing <= 1.0:
            raise ValueError(f"smoothing must be in [0, 1], got {smoothing}.")
        self.smoothing = smoothing

    def initial_state(
        self,
        power: torch.Tensor,
        mask: torch.Tensor,
        scene: torch.Tensor | None = None,
    ) -> State:
        """See `NoiseModel.initial_state`: tensors with the batch first."""
        # CHANGE: what is fitted, and where the fit begins. `scene` describes the noise
        # (text, image, audio) where the user gave a description.
        # KEEP: frames where `mask` is false do not count, and clips do not mix.
        count = mask.sum(dim=1)[:, None, None]
        total = (power * mask[..., None]).sum(dim=1, keepdim=True)
        spectrum = (total / count).clamp(min=FLOOR)
        return {"gain": torch.ones_like(power[..., :1]), "spectrum": spectrum}

    def variance(self, state: State) -> torch.Tensor:
        """See `NoiseModel.variance`: shape (batch, frames, bins)."""
        # CHANGE: the variance that a state stands for.
        return (state["gain"] * state["spectrum"]).clamp(min=FLOOR)

    def update(
        self,
        state: State,
        numerator: torch.Tensor,
        denominator: torch.Tensor,
    ) -> State:
        """See `NoiseModel.update`: both (batch, frames, bins)."""
        # CHANGE: one step that lowers the objective, whose gradient with respect to
        # the variance is `denominator - numerator`. A factor of a product moves by
        # sqrt(sum(numerator * others) / sum(denominator * others)).
        gain, spectrum = state["gain"], state["spectrum"]
        up = (numerator * spectrum).sum(dim=2, keepdim=True)
        down = (denominator * spectrum).sum(dim=2, keepdim=True)
        gain = (gain * ((up + FLOOR) / (down + FLOOR)).sqrt()).clamp(min=FLOOR)
        if self.smoothing:
            gain = gain.lerp(_mean_of_neighbours(gain), self.smoothing)
        up = (numerator * gain).sum(dim=1, keepdim=True)
        down = (denominator * gain).sum(dim=1, keepdim=True)
        spectrum = (spectrum * ((up + FLOOR) / (down + FLOOR)).sqrt()).clamp(min=FLOOR)
        # KEEP: a new state. The old one must not change (no in-place operation).
        return {"gain": gain, "spectrum": spectrum}


def _mean_of_neighbours(gain: torch.Tensor) -> torch.Tensor:
    before = torch.cat([gain[:, :1], gain[:, :-1]], dim=1)
    after = torch.cat([gain[:, 1:], gain[:, -1:]], dim=1)
    return (before + after) / 2

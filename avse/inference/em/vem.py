"""Inference `vem`: variational EM in which the encoder is the E-step."""

from __future__ import annotations

from typing import Any

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.plugins import register


@register("inference", "vem")
class VEM(LatentInference):
    """Variational EM: q(z) is an encoder's, and q(s) is closed form.

    With `encoder` `published` this is the paper's: the encoder of clean speech is asked at every iteration, given the
    expected power of speech, E |s|^2. The default, `amortised`, is not: at every iteration it asks the prior's
    noisy-speech encoder, q(z | x, V, v), which learned from speech in simulated noise; see `LatentInference`.

    One pass of encoder and decoder an iteration, no gradient and no random draw: the fastest of all. As neither encoder
    was trained for this bound, the objective need not fall at every iteration.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> VEM.example()(example_batch((3200, 1600))).speech.shape
    torch.Size([2, 3200])
    """

    paper = "Pariente, Deleforge and Vincent, A statistically principled and computationally efficient approach, 2019"

    def __init__(
        self, prior: LatentPrior | SwitchingPrior, noise_model: NoiseModel, *, warm_start: int = 0, **common: Any
    ) -> None:
        super().__init__(prior, noise_model, warm_start=warm_start, **common)

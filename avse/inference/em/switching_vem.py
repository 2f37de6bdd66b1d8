"""Inference `switching_vem`: variational EM for speech that follows one of several models, frame by frame."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.noise_model import NoiseModel
from avse.inference.em.driver import LatentInference
from avse.inference.em.speakers import AnyPrior
from avse.inference.em.state import EmState
from avse.inference.em.steps import speech_power
from avse.plugins import register

# What models have to explain, and the names of the last release.
EVIDENCE = ("noisy", "speech")
_RENAMED = {"sound": "noisy", "voice": "speech"}


@register("inference", "switching_vem")
class SwitchingVEM(LatentInference):
    """Variational EM with q(s) q(z | a) q(a): a hidden state a_n tells which model of speech holds at each frame.

        log B_n(k) = log p(x_n | z_n, k) - KL( q(z_n | k) || p(z_n | k) ),   q(z | k) the encoder's
        q(a)       : forward-backward on B^(1 / temperature), the chain learned on the clip
        q(s)       : closed form, with the precision 1 / gamma = sum_k q(a_n = k) / sigma_k

    The models are the components of a switching prior. With any other prior that takes video they are the prior
    without video and with it, which so share their weights. The posterior of the models with video is the
    reliability returned; where no mouth is seen, all is as `vem` has it with the audio model, bit for bit.

    Arguments
    ---------
    evidence : str
        What the models have to explain: the `noisy` audio, as above; or the `speech` as it is estimated, with
        E log p(s_n | z_n, k) in place of log p(x_n | z_n, k), as published. Where noise covers speech, its estimate is
        what the model says that was chosen last, and so keeps it chosen; with the noisy audio that does not happen.
        The paper's method has `speech` and the `encoder` `published`.
    common :
        Further arguments: see `LatentInference`. With all bins counted (`temperature` 1 / bins), the choice is made
        after one iteration and for good.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> SwitchingVEM.example()(example_batch((3200, 1600))).reliability.shape
    torch.Size([2, 5])
    """

    paper = "Sadeghi and Alameda-Pineda, Switching variational auto-encoders for audio-visual speech enhancement, 2021"

    def __init__(
        self,
        prior: AnyPrior,
        noise_model: NoiseModel,
        *,
        evidence: str = "noisy",
        warm_start: int = 0,
        gate: str = "frame",
        **common: Any,
    ) -> None:
        super().__init__(prior, noise_model, warm_start=warm_start, gate=gate, **common)
        evidence = _RENAMED.get(evidence, evidence)
        if evidence not in EVIDENCE:
            raise ValueError(f"evidence must be one of {', '.join(EVIDENCE)}, got {evidence!r}.")
        self.of_speech = evidence == "speech"

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        return {**super().example_arguments(), "prior": plugins.get("prior", "switching_vae").example()}

    def evidence(self, state: EmState, model: EmState) -> torch.Tensor:
        """log B, shape (batch, frames); see the class and `LatentInference.evidence`."""
        if not self.of_speech:
            return super().evidence(state, model)
        variance, cost = model.speech_variance, model.prior_cost
        assert variance is not None and cost is not None, "there was no E-step"
        return -(speech_power(state) / variance + variance.log()).sum(dim=-1)[:, 0] - cost[:, 0, :, 0]

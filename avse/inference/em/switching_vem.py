"""Inference `switching_vem`: variational EM for a voice that follows one of several models, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.inference.em.state import Fit
from avse.plugins import register

EVIDENCE = ("sound", "voice")


@register("inference", "switching_vem")
class SwitchingVEM(LatentInference):
    """Variational EM with q(s) q(z | a) q(a): a hidden state a_n tells which model of the voice holds at each step.

        log B_n(k) = log p(x_n | z_n, k) - KL( q(z_n | k) || p(z_n | k) ),   q(z | k) the encoder's
        q(a)       : forward-backward on B^(1 / temperature), the chain learned on the clip
        q(s)       : closed form, with the precision 1 / gamma = sum_k q(a_n = k) / sigma_k

    The models are the components of a switching prior. With any other prior that looks at video they are the prior
    without video and with it, which so share their weights. The posterior of the models that look at video is the
    reliability returned; where no mouth is seen, all is as `vem` has it with the audio model, bit for bit.

    Arguments
    ---------
    prior : SwitchingPrior or LatentPrior
    noise_model : NoiseModel
    iterations : int
        At most so many.
    temperature : float
        log B is divided by this times the number of bins. Bins are far from independent: with all of them counted, the
        choice is made after one iteration and for good.
    transition_weight : float or None
        How states follow each other is learned on each clip; the prior's transition counts like so many steps. None: it
        is not learned.
    evidence : str
        What the models have to explain: the noisy `sound`, as above; or the `voice` as it is estimated, with
        E log p(s_n | z_n, k) in place of log p(x_n | z_n, k), as published. Where noise covers the voice, its estimate
        is what the model says that was chosen last, and so keeps it chosen; with the sound that does not happen.
    m_steps : int
        Updates of noise and gains in each iteration.
    gain_prior : (float, float) or None
        Shape and rate of a Gamma prior of the gain of each step: (1, 1) is published, (1, 0) is flat, and larger ones
        with shape = rate + 1 hold the gain near one. None: the gain is one, and z alone tells the level.
    tolerance : float
        A clip stops when its objective changes by less, in nats per bin, in several iterations in a row; 0: never.
    chunk_seconds : float
        Longer clips are processed in pieces of this length that share the noise model and the hidden chain.
    seed : int

    Example
    -------
    >>> inference = SwitchingVEM(**SwitchingVEM.example_arguments())
    >>> from avse.conformance import example_batch
    >>> batch = example_batch((3200, 1600))
    >>> inference(batch).reliability.shape
    torch.Size([2, 5])
    """

    paper = "Sadeghi and Alameda-Pineda, Switching variational auto-encoders for audio-visual speech enhancement, 2021"

    def __init__(
        self,
        prior: SwitchingPrior | LatentPrior,
        noise_model: NoiseModel,
        iterations: int = 100,
        temperature: float = 1.0,
        transition_weight: float | None = 20.0,
        evidence: str = "sound",
        m_steps: int = 4,
        gain_prior: Sequence[float] | None = None,
        tolerance: float = 1e-5,
        chunk_seconds: float = 30.0,
        seed: int = 0,
    ) -> None:
        common = (iterations, m_steps, 0, gain_prior, tolerance, chunk_seconds, seed)
        super().__init__(prior, noise_model, *common, "frame", temperature, transition_weight)
        if evidence not in EVIDENCE:
            raise ValueError(f"evidence must be one of {', '.join(EVIDENCE)}, got {evidence!r}.")
        self.of_voice = evidence == "voice"

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        prior = plugins.get("prior", "switching_vae")
        noise_model = plugins.get("noise_model", "nmf")(rank=2)
        return {"prior": prior.example(), "noise_model": noise_model, "iterations": 3}

    def evidence(self, fit: Fit, state: Fit) -> torch.Tensor:
        """log B, shape (batch, frames); see the class and `LatentInference.evidence`."""
        if not self.of_voice:
            return super().evidence(fit, state)
        begun = "speech" in fit.latent
        power = fit.voice_power() if begun else fit.latent.get("voice", fit.power[:, None])
        speech = state.latent["speech"]
        return -(power / speech + speech.log()).sum(dim=-1)[:, 0] - state.latent["cost"][:, 0, :, 0]

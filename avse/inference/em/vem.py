"""Inference `vem`: variational EM in which the encoder is the E-step."""

from __future__ import annotations

from collections.abc import Sequence

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior, SwitchingPrior
from avse.inference.em.driver import LatentInference
from avse.plugins import register


@register("inference", "vem")
class VEM(LatentInference):
    """Variational EM: q(z) is the encoder's, given the expected power of the voice, and q(s) is closed form.

    One pass of encoder and decoder an iteration, no gradient and no chance: the fastest of all. As the encoder was
    trained for clean speech, not for this bound, the objective need not fall at every iteration.

    Arguments
    ---------
    prior : LatentPrior or SwitchingPrior
    noise_model : NoiseModel
    iterations : int
        At most so many.
    m_steps : int
        Updates of noise and gains in each iteration.
    gain_prior : (float, float) or None
        Shape and rate of a Gamma prior of the gain of each step: (1, 1) is published, (1, 0) is flat, and larger ones
        with shape = rate + 1 hold the gain near one. None: the gain is one, and z alone tells the level.
    tolerance : float
        A clip stops when its objective changes by less, in nats per bin, in several iterations in a row; 0: never.
    chunk_seconds : float
        Longer clips are processed in pieces of this length that share the noise model.
    seed : int
    gate : str
        Whether a prior that looks at video competes with itself without video, as the evidence of the noisy sound says:
        `none`, by `frame`, or once a `clip`. The outcome is the reliability returned.
    temperature : float
        By how much the evidence is flattened: 1 counts all bins of a step as one observation.

    Example
    -------
    >>> inference = VEM(**VEM.example_arguments())
    >>> from avse.conformance import example_batch
    >>> batch = example_batch((3200, 1600))
    >>> inference(batch).speech.shape
    torch.Size([2, 3200])
    """

    paper = "Pariente, Deleforge and Vincent, A statistically principled and computationally efficient approach, 2019"

    def __init__(
        self,
        prior: LatentPrior | SwitchingPrior,
        noise_model: NoiseModel,
        iterations: int = 100,
        m_steps: int = 4,
        gain_prior: Sequence[float] | None = None,
        tolerance: float = 1e-5,
        chunk_seconds: float = 30.0,
        seed: int = 0,
        gate: str = "none",
        temperature: float = 1.0,
    ) -> None:
        common = (iterations, m_steps, 0, gain_prior, tolerance, chunk_seconds, seed, gate, temperature)
        super().__init__(prior, noise_model, *common)

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        prior = plugins.get("prior", "vae")
        noise_model = plugins.get("noise_model", "nmf")(rank=2)
        return {"prior": prior.example(), "noise_model": noise_model, "iterations": 3}
